/** Runs in a process of its own with one library, and measures a round when the parent asks for it. */
import { setTimeout as pause } from 'node:timers/promises'
import type { Cache, Create, Subject, TaggedCache, Value } from './subject.js'

/** The parent asks for one round of a measure. */
export interface Request {
  readonly measure: string
  readonly round: number
  readonly port: number
}

/** No figure: the library cannot do it. */
export interface Reply {
  /** ns of processor time for each operation, or bytes for `heap`. */
  readonly figure?: number
  /** How many operations the round did. */
  readonly operations?: number
  /** How many creators ran in a stampede. */
  readonly runs?: number
  readonly error?: string
}

/** How often a round does its operation. */
const TIMES = { hit: 10_000, miss: 2_000, set: 2_000, heap: 100_000, 'redis hit': 400, 'redis miss': 200 }
const STAMPEDE = { callers: 1_000, milliseconds: 10 }
const CONCURRENT = { width: 100, batches: 20 }
const TAGGED = 1_000
/** One invalidation is too short for the resolution of processor time. */
const REPEATS = 5
/** No cache evicts anything in a run. */
const ROOM = 200_000

const value: Value = { id: 17, name: 'Some Person', roles: ['admin', 'editor'] }
const create: Create = async () => value

const keys = (text: string, count: number) => Array.from({ length: count }, (_, i) => `${text}:${i}`)

/** ns of processor time of this process: other programs disturb the clock. */
async function costOf(work: () => unknown): Promise<number> {
  const start = process.cpuUsage()
  await work()
  const { user, system } = process.cpuUsage(start)
  return (user + system) * 1e3
}

async function readEach(cache: Cache, some: readonly string[]): Promise<void> {
  for (const key of some) await cache.read(key)
}

async function fill(cache: Cache, some: readonly string[]): Promise<void> {
  for (let i = 0; i < some.length; i += 100) await Promise.all(some.slice(i, i + 100).map(cache.read))
}

type Measure = (request: Request) => Promise<Reply>

/** The measures of a subject. Each keeps its cache from round to round. */
function measuresOf(subject: Subject): Readonly<Record<string, Measure>> {
  let inMemory: Promise<Cache> | undefined
  let onRedis: Promise<Cache> | undefined
  const hot = keys('hot', 1_000)
  const hotOnRedis = keys('hot', TIMES['redis hit'])
  const memory = () => (inMemory ??= filled(subject.memory(create, ROOM), hot))
  const redis = (open: NonNullable<Subject['redis']>, port: number) =>
    (onRedis ??= filled(open(create, port), hotOnRedis))
  return {
    hit: async () => {
      const cache = await memory()
      const cost = await costOf(async () => {
        for (let i = 0; i < TIMES.hit; i++) await cache.read(hot[i % hot.length] as string)
      })
      return each(cost, TIMES.hit)
    },
    miss: async ({ round }) => {
      const cache = await memory()
      const some = keys(`miss ${round}`, TIMES.miss)
      return each(await costOf(() => readEach(cache, some)), TIMES.miss)
    },
    set: async ({ round }) => {
      const { set } = await memory()
      return set === undefined ? {} : { figure: await timeOfSets(set, keys(`set ${round}`, TIMES.set)) }
    },
    heap: async ({ round }) => ({ figure: await heapOf(subject, round) }),
    stampede: async ({ round }) => stampede(subject, `cold ${round}`),
    'redis hit': async ({ port }) => {
      if (subject.redis === undefined) return {}
      const cache = await redis(subject.redis, port)
      return each(await costOf(() => readEach(cache, hotOnRedis)), hotOnRedis.length)
    },
    'redis miss': async ({ port, round }) => {
      if (subject.redis === undefined) return {}
      const cache = await redis(subject.redis, port)
      const some = keys(`miss ${round}`, TIMES['redis miss'])
      return each(await costOf(() => readEach(cache, some)), some.length)
    },
    'redis concurrent': async ({ port }) => {
      if (subject.redis === undefined) return {}
      const cache = await redis(subject.redis, port)
      const some = hotOnRedis.slice(0, CONCURRENT.width)
      const cost = await costOf(async () => {
        for (let i = 0; i < CONCURRENT.batches; i++) await Promise.all(some.map(cache.read))
      })
      return each(cost, CONCURRENT.width * CONCURRENT.batches)
    },
    tag: invalidations(() => subject.taggedMemory?.(create, ROOM)),
    'redis tag': invalidations((port) => subject.taggedRedis?.(create, port)),
  }
}

const each = (cost: number, operations: number): Reply => ({ figure: cost / operations, operations })

async function filled(cache: Cache, some: readonly string[]): Promise<Cache> {
  await fill(cache, some)
  return cache
}

async function timeOfSets(set: NonNullable<Cache['set']>, some: readonly string[]): Promise<number> {
  const cost = await costOf(async () => {
    for (const key of some) {
      const pending = set(key, value)
      if (pending instanceof Promise) await pending
    }
  })
  return cost / some.length
}

/** The keys exist before, and all entries have the same value: their copies count, the originals do not. */
async function heapOf(subject: Subject, round: number): Promise<number> {
  const some = keys(`heap ${round}`, TIMES.heap)
  // A key that is hashed has its final form.
  const hashed = new Set(some)
  const before = await heapUsed()
  const cache = subject.memory(create, TIMES.heap)
  await readEach(cache, some)
  const after = await heapUsed()
  await cache.close?.()
  return (after - before) / hashed.size
}

async function heapUsed(): Promise<number> {
  for (let i = 0; i < 3; i++) {
    await pause(20)
    globalThis.gc?.()
  }
  const { heapUsed: used, arrayBuffers } = process.memoryUsage()
  return used + arrayBuffers
}

let slow: Cache | undefined
let runs = 0

async function stampede(subject: Subject, key: string): Promise<Reply> {
  slow ??= subject.memory(async () => {
    runs++
    await pause(STAMPEDE.milliseconds)
    return value
  }, ROOM)
  runs = 0
  const { read } = slow
  const cost = await costOf(() => Promise.all(Array.from({ length: STAMPEDE.callers }, () => read(key))))
  return { figure: cost, runs }
}

/** Invalidates the tag of 1,000 entries and reads one of them. The tagged entries are created before, unmeasured. */
function invalidations(open: (port: number) => TaggedCache | undefined): Measure {
  let cache: TaggedCache | undefined
  const some = keys('tagged', TAGGED)
  return async ({ port }) => {
    const tagged = (cache ??= open(port))
    if (tagged === undefined) return {}
    let cost = 0
    for (let i = 0; i < REPEATS; i++) {
      await fill(tagged, some)
      cost += await costOf(async () => {
        await tagged.invalidateTag()
        await tagged.read(some[0] as string)
      })
    }
    return { figure: cost / REPEATS }
  }
}

export function serve(subject: Subject): void {
  const measures = measuresOf(subject)
  process.once('disconnect', () => process.exit())
  process.on('message', (request: Request) => {
    const measured =
      measures[request.measure]?.(request) ?? Promise.reject(new Error('Expected a known measure'))
    void measured
      .catch((error: Error): Reply => ({ error: error.stack ?? error.message }))
      .then((reply) => process.send?.(reply))
  })
}

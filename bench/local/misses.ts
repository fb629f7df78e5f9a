/** A miss over memory: created, stored and returned. And a thousand callers of one cold key, warm and in a fresh process. */
import { spawnSync } from 'node:child_process'
import { setTimeout as pause } from 'node:timers/promises'
import { LRUCache } from 'lru-cache'
import { memory } from '../../backends/memory/index.js'
import { prefix } from '../../proxies/prefix.js'
import { makeRegion, wrap } from '../../src/index.js'
import { budget, fastest, machine, ratio, rounds, saveJson, shown, spread, table } from '../support.js'

const ENTRIES = 5_000
const PER_ROUND = 500
const ROUNDS = 60
const CALLERS = 1_000
const CREATOR = 10
const STAMPEDES = 21
/** Fresh processes: on a busy machine each takes seconds. */
const PROCESSES = 9

const load = async (key: string): Promise<object> => ({ key })
const loadId = async (id: number): Promise<object> => ({ id })
const options = { maxEntries: ENTRIES }

/** Works whose every call has another key. */
function fresh(call: (key: string) => unknown) {
  let next = 0
  return async (times: number) => {
    for (let i = 0; i < times; i++) await call(`key:${next++}`)
  }
}

function subjects() {
  const lru = new LRUCache<string, object>({ max: ENTRIES, fetchMethod: load })
  const again = new LRUCache<string, object>({ max: ENTRIES, fetchMethod: load })
  const stored = new LRUCache<string, object>({ max: ENTRIES })
  const bare = makeRegion<object>({ name: 'misses', backend: memory(options) })
  const layers = [prefix('a:'), prefix('b:'), prefix('c:')] as const
  const prefixed = makeRegion<object>({ name: 'misses', backend: wrap(memory(options), ...layers) })
  const functions = makeRegion<object>({ name: 'misses', backend: memory(options) })
  const cached = functions.cacheOnArguments(loadId, { namespace: 'load' })
  const written = makeRegion<object>({ name: 'misses', backend: memory(options) })
  let id = 0
  return {
    fetch: fresh((key) => lru.fetch(key)),
    again: fresh((key) => again.fetch(key)),
    miss: fresh((key) => bare.getOrCreate(key, () => load(key))),
    prefixes: fresh((key) => prefixed.getOrCreate(key, () => load(key))),
    function: async (times: number) => {
      for (let i = 0; i < times; i++) await cached(id++)
    },
    lruSet: fresh((key) => stored.set(key, { key })),
    set: fresh((key) => written.set(key, { key })),
  }
}

type Get = (key: string, create: () => Promise<number>) => Promise<number>

const STAMPEDED: Readonly<Record<string, () => Get>> = {
  corral() {
    const region = makeRegion<number>({ name: 'stampede', backend: memory() })
    return (key, create) => region.getOrCreate(key, create)
  },
  'lru-cache'() {
    const cache = new LRUCache<string, number, () => Promise<number>>({
      max: ENTRIES,
      fetchMethod: (_key, _stale, { context }) => context(),
    })
    return (key, create) => cache.fetch(key, { context: create }) as Promise<number>
  },
}

/** ms that a thousand callers of one key wait beyond their creator. */
async function stampede(get: Get, key: string): Promise<number> {
  let began = 0
  let ended = 0
  const create = async () => {
    began = performance.now()
    await pause(CREATOR)
    ended = performance.now()
    return 1
  }
  const start = performance.now()
  await Promise.all(Array.from({ length: CALLERS }, () => get(key, create)))
  return performance.now() - start - (ended - began)
}

async function warm() {
  const gets = Object.entries(STAMPEDED).map(([name, make]) => ({ name, get: make(), over: [] as number[] }))
  for (let round = -5; round < STAMPEDES; round++) {
    for (const { get, over } of gets) {
      const ms = await stampede(get, `key:${round}`)
      if (round >= 0) over.push(ms)
    }
  }
  return Object.fromEntries(gets.map(({ name, over }) => [name, over]))
}

/** The first stampede of a process, in one process for each sample. */
function first(script: string) {
  const over = Object.fromEntries(Object.keys(STAMPEDED).map((name) => [name, [] as number[]]))
  for (let round = 0; round < PROCESSES; round++) {
    for (const [name, samples] of Object.entries(over)) {
      const { stdout } = spawnSync(process.execPath, [script, '--first', name], { encoding: 'utf8' })
      samples.push(Number(stdout))
    }
  }
  return over
}

async function main(script: string): Promise<void> {
  console.log(
    `${machine()}\n${ROUNDS} interleaved rounds of ${PER_ROUND} keys that are missing; stores of ${ENTRIES} entries; processor time, medians and quartiles\n`,
  )
  const samples = await rounds(subjects(), {
    rounds: ROUNDS,
    warmUp: 10,
    perRound: PER_ROUND,
    processor: true,
  })
  const { fetch, again, lruSet } = samples
  const rows = (['again', 'miss', 'prefixes', 'function', 'set'] as const).map((name) => ({
    subject: NAMES[name],
    µs: (spread(samples[name]).median / 1_000).toFixed(2),
    '÷ lru-cache': shown(ratio(samples[name], name === 'set' ? lruSet : fetch)),
    fastest: fastest(samples[name], name === 'set' ? lruSet : fetch).toFixed(2),
  }))
  console.log(table(rows))
  console.log(`\nThe base line is lru-cache: \`fetch\`, and \`set\` for \`set\`. ${again.length} rounds.\n`)
  const callers = { warm: await warm(), 'first of a process': first(script) }
  console.log(`${CALLERS} callers of one cold key, ms beyond a creator of ${CREATOR} ms\n`)
  const times = Object.entries(callers).map(([when, over]) => ({
    callers: when,
    ...Object.fromEntries(
      Object.entries(over).flatMap(([name, ms]) => [
        [`${name} ms`, shown(spread(ms))],
        [`${name} fastest`, Math.min(...ms).toFixed(2)],
      ]),
    ),
  }))
  console.log(`${table(times)}\n`)
  for (const [name, limit, goal] of BUDGETS) {
    const figure = fastest(samples[name], name === 'set' ? lruSet : fetch)
    console.log(
      budget(NAMES[name], `${figure.toFixed(2)}×`, `${limit}× (moonshot ${goal}×)`, figure <= limit),
    )
  }
  for (const [when, limit, goal] of [
    ['warm', 1, 0.4],
    ['first of a process', 4, 2],
  ] as const) {
    const ms = Math.min(...(callers[when].corral ?? []))
    console.log(
      budget(
        `${CALLERS} callers, ${when}`,
        `${ms.toFixed(2)} ms`,
        `${limit} ms (moonshot ${goal} ms)`,
        ms <= limit,
      ),
    )
  }
  saveJson({ samples, callers })
}

const NAMES = {
  again: 'lru-cache, again',
  miss: 'miss',
  prefixes: 'miss, three prefixes',
  function: 'miss of a cached function',
  set: 'set',
} as const

const BUDGETS = [
  ['miss', 1.5, 1],
  ['prefixes', 1.8, 1.2],
  ['set', 4, 2],
] as const

const [, script, option, which] = process.argv
if (option === '--first') {
  const make = STAMPEDED[which as string] as () => Get
  console.log(await stampede(make(), 'cold'))
} else await main(script as string)

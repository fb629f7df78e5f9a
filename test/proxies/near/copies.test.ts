/** When a copy serves a read, and what its reader may do with it. */
import { subscribe, unsubscribe } from 'node:diagnostics_channel'
import { expect, it, vi } from 'vitest'
import { memory } from '../../../backends/memory/index.js'
import { dependencies } from '../../../proxies/dependencies.js'
import { msgpack } from '../../../proxies/msgpack.js'
import { near } from '../../../proxies/near.js'
import {
  type Backend,
  type CachedValue,
  defineBackend,
  delegate,
  dep,
  dependsOn,
  intercept,
  type Messages,
  makeRegion,
  NO_VALUE,
  type NoValue,
  type Region,
  type RegionOptions,
  wrap,
} from '../../../src/index.js'
import { type JournalReply, Mirror, mirrorTail } from '../../../src/ledger/mirror.js'
import type { LedgerTail } from '../../../src/ledger/tail.js'
import { type Deferred, deferred, gate, idle, sleep, turn } from '../../support/waiting.js'

const entry = (payload: unknown): CachedValue => ({
  payload,
  metadata: { startedAt: 1, createdAt: 1, snapshot: { epoch: 'e', groups: [] } },
})

/** A near cache over a store whose reads, leases and questions are answered by hand. */
function byHand(
  maxStaleness: number | '1s' = '1s',
  change: (tail: LedgerTail) => LedgerTail = (tail) => tail,
) {
  const reads: Deferred<CachedValue | undefined>[] = []
  const acquired = deferred<CachedValue | undefined>()
  const questions: Deferred<JournalReply>[] = []
  const mirror = new Mirror({
    pull() {
      const question = deferred<JournalReply>()
      questions.push(question)
      return question.promise
    },
  })
  const store = defineBackend<CachedValue>({
    name: 'by hand',
    stores: 'values',
    timeout: Number.POSITIVE_INFINITY,
    get() {
      const read = deferred<CachedValue | undefined>()
      reads.push(read)
      return read.promise
    },
    set: () => 'stored',
    delete: () => {},
    acquire: () => ({ remaining: 1_000, settled: acquired.promise }),
    renew: () => true,
    release: () => true,
    held: () => true,
    ledger: {
      shared: false,
      open: (clock) => ({
        storeClock: clock,
        read: async () => ({ now: { epoch: 'e', at: 1 }, stamps: [] }),
        now: async () => ({ epoch: 'e', at: 1 }),
        invalidate: async () => {},
        tail: () => change(mirrorTail(mirror, { keys: 'keys', names: 'names' })),
      }),
    },
  })
  /** Replies to the latest question. */
  const reply = (at: number, ...changed: readonly string[]) =>
    questions.at(-1)?.resolve({
      server: 's',
      journals: ['keys', 'names'].map((journal) => ({
        now: { epoch: 'e', at },
        floor: 1,
        changed: journal === 'keys' ? changed.map((name) => ({ name, at })) : [],
      })),
    })
  return { reads, acquired, questions, mirror, reply, layer: wrap(store, near(memory(), { maxStaleness })) }
}

type ByHand = ReturnType<typeof byHand>

/** Makes a copy of a value that a read brings. */
async function copied({ mirror, reads, reply, layer }: ByHand, key: string, value = 'old') {
  const known = mirror.prove()
  await turn()
  reply(1)
  await known
  const read = layer.near?.beyond(() => layer.get(key))
  const found = entry(value)
  reads.at(-1)?.resolve(found)
  await read
  layer.near?.keep(found)
  const before = reads.length
  expect(await layer.get(key)).toMatchObject({ payload: value })
  expect(reads).toHaveLength(before)
}

it('opens nothing before the first read, and nothing after it is closed', async () => {
  let joined = 0
  const joining = (tail: LedgerTail): LedgerTail => ({
    ...tail,
    join: () => {
      joined++
      return () => void joined--
    },
  })
  const read = byHand('1s', joining)
  await idle()
  expect(joined).toBe(0)
  void read.layer.get('key')
  void read.layer.get('other')
  expect(joined).toBe(1)
  await read.layer.close()
  expect(joined).toBe(0)
  void read.layer.get('key')
  expect(joined).toBe(0)
})

it.each<['brings a value' | 'waits for a value', Backend<CachedValue>['acquire'] | undefined]>([
  ['brings a value', async () => ({ token: 't', found: entry('new') })],
  ['waits for a value', undefined],
])('serves no copy after a lease that %s: it is newer, and reads never go back', async (_, acquire) => {
  const hand = byHand()
  const layer =
    acquire === undefined
      ? hand.layer
      : wrap(delegate(hand.layer, { near: undefined, acquire }, true), near(memory(), { maxStaleness: '1s' }))
  const of: ByHand = Object.assign(hand, { layer })
  await copied(of, 'key')
  const lease = await layer.acquire('key', 1_000)
  if (lease.token === undefined) {
    // While the caller waits, another reader takes a copy of the older value.
    await copied(of, 'key')
    hand.acquired.resolve(entry('new'))
    expect(await lease.settled).toMatchObject({ payload: 'new' })
  } else expect(lease.found).toMatchObject({ payload: 'new' })
  const before = hand.reads.length
  void layer.get('key')
  expect(hand.reads).toHaveLength(before + 1)
})

it('proves a read of many keys again if a layer lets one of them wait', async () => {
  const hand = byHand()
  const waits = gate()
  const { get } = hand.layer
  const layer = delegate(hand.layer, {
    get: (key) => (key === 'late' ? waits.opened.then(() => get(key)) : get(key)),
  })
  const known = hand.mirror.prove()
  await turn()
  hand.reply(1)
  await known
  const earlier = hand.layer.get('late')
  // Another process changes `late` and has its acknowledgement. No message tells of it.
  const strong = layer.near?.proved(['early', 'late'], () => layer.getMulti(['early', 'late']), 0)
  const old = entry('old')
  hand.reads[0]?.resolve(old)
  await earlier
  hand.layer.near?.keep(old)
  waits.open()
  await turn()
  expect(hand.questions).toHaveLength(2)
  hand.reply(2, 'late')
  await idle()
  for (const read of hand.reads) read.resolve(entry('new'))
  await idle()
  for (const read of hand.reads) read.resolve(entry('new'))
  expect(await strong).toMatchObject([{ payload: 'new' }, { payload: 'new' }])
})

it('asks once for each tick of strong reads, and not in between', async () => {
  const pull = vi.fn(async () => ({
    server: 's',
    journals: [{ now: { epoch: 'e', at: 1 }, floor: 1, changed: [] }],
  }))
  const mirror = new Mirror({ pull })
  mirror.follow('keys')
  const leave = mirror.join(0)
  await turn()
  expect(pull).toHaveBeenCalledTimes(1)
  for (let i = 0; i < 5; i++) {
    for (let hit = 0; hit < 100; hit++) if (!mirror.isProven(0)) void mirror.prove()
    await sleep(30)
  }
  expect(pull).toHaveBeenCalledTimes(6)
  leave()
})

it('is left by all near caches when its store closes', async () => {
  const pull = vi.fn(() => new Promise<JournalReply>(() => {}))
  const listened: boolean[] = []
  const mirror = new Mirror({ pull, listen: (on) => void listened.push(on) })
  mirror.follow('keys')
  const leave = [mirror.join(1_000), mirror.join(1_000)]
  await turn()
  mirror.close()
  expect(listened).toEqual([true, false])
  const asked = pull.mock.calls.length
  mirror.catchUp()
  mirror.join(1_000)
  await turn()
  expect(pull).toHaveBeenCalledTimes(asked)
  for (const one of leave) one()
})

const chain = (options: Partial<RegionOptions> = {}, far = memory()) =>
  makeRegion<string>({
    name: 'users',
    expirationTime: '1h',
    backend: wrap(far, near(memory(), { maxStaleness: '1s' }), dependencies()),
    ...options,
  })

it('serves a copy of a value that another machine created, whose clock is ahead', async () => {
  const far = memory()
  const ahead = { now: () => Date.now() + 500 }
  await makeRegion<string>({ name: 'users', clock: ahead, backend: wrap(far, dependencies()) }).set(
    'key',
    'value',
  )
  const region = chain({}, far)
  const seen: Messages['read'][] = []
  const listen = (message: unknown) => void seen.push(message as Messages['read'])
  subscribe('corral:read', listen)
  try {
    for (let i = 0; i < 2; i++) expect(await region.get('key')).toBe('value')
    for (let i = 0; i < 2; i++) expect(await region.getMulti(['key'])).toEqual(['value'])
  } finally {
    unsubscribe('corral:read', listen)
  }
  expect(seen.map(({ tier }) => tier)).toEqual(['far', 'near', 'near', 'near'])
})

it('serves copies to a region with a strategy of its own for its invalidation', async () => {
  let at = 0
  const region = chain({
    regionInvalidator: {
      invalidate: () => void (at = Date.now() + 1),
      judge: (started: number) => (started < at ? 'invalid' : 'fresh'),
    },
  })
  await region.set('key', 'value')
  await region.get('key')
  expect((await region.explain('key')).tier).toBe('near')
  expect(region.peek('key')).toBe('value')
  await region.invalidate()
  expect(await region.get('key')).toBe(NO_VALUE)
})

it('goes past a copy that stands no more, though a layer above it waits', async () => {
  const far = memory()
  let time = 1_000
  const clock = { now: () => time }
  const waiting = intercept(async (_, proceed) => {
    await turn()
    return proceed()
  })
  const region = makeRegion<string>({
    name: 'users',
    clock,
    expirationTime: '1h',
    backend: wrap(far, near(memory(), { maxStaleness: '1s' }), waiting, dependencies()),
  })
  const direct = makeRegion<string>({ name: 'users', clock, backend: wrap(far, dependencies()) })
  const create = () => {
    dependsOn(dep.id('user', 1))
    return 'old'
  }
  await region.getOrCreate('key', create)
  expect(await region.get('key')).toBe('old')
  await direct.invalidateDependencies(dep.id('user', 1))
  expect(await region.get('key')).toBe(NO_VALUE)
  // One that is too old for its reader: the store may have a newer one.
  await region.getOrCreate('key', create)
  await region.get('key')
  await turn()
  time += 1_000
  await direct.set('key', 'new')
  expect(await region.get('key', { expirationTime: 500 })).toBe('new')
})

interface File {
  readonly name: string
  readonly body: Uint8Array
}

it.each<[string, () => Backend<CachedValue>]>([
  ['memory()', () => memory()],
  ["memory({ copy: 'freeze' })", () => memory({ copy: 'freeze' })],
  ["memory({ copy: 'clone' })", () => memory({ copy: 'clone' })],
])('gives each reader bytes of its own, from %s', async (_, store) => {
  const region: Region<File> = makeRegion<File>({
    name: 'files',
    backend: wrap(
      memory({ stores: 'bytes' }),
      msgpack(),
      near(store(), { maxStaleness: '1s' }),
      dependencies(),
    ),
  })
  await region.set('key', { name: 'a', body: Uint8Array.of(1, 2, 3) })
  const read = async (): Promise<File> => {
    const [found] = (await region.getMulti(['key'])) as [File | NoValue]
    if (found === NO_VALUE) throw new Error('Expected a value')
    return found
  }
  for (const next of [
    read,
    async () => region.peek('key') as File,
    async () => (await region.get('key')) as File,
    read,
  ]) {
    const file = await next()
    expect([...file.body]).toEqual([1, 2, 3])
    file.body[0] = 9
  }
  expect((await region.explain('key')).tier).toBe('near')
})

it('says that its near store loses the marks of copies, and reads from the far store', async () => {
  const stored = new Map<string, string>()
  const texts = defineBackend<CachedValue>({
    name: 'texts',
    get: (key) => JSON.parse(stored.get(key) ?? 'null') ?? undefined,
    set: (key, value) => void stored.set(key, JSON.stringify(value)),
    delete: (key) => void stored.delete(key),
  })
  const failures: Messages['failure'][] = []
  const listen = (message: unknown) => void failures.push(message as Messages['failure'])
  subscribe('corral:failure', listen)
  try {
    const region = makeRegion<string>({ backend: wrap(memory(), near(texts, { maxStaleness: '1s' })) })
    await region.set('key', 'value')
    for (let i = 0; i < 3; i++) expect(await region.get('key')).toBe('value')
  } finally {
    unsubscribe('corral:failure', listen)
  }
  expect(failures[0]?.error).toMatchObject({ code: 'ERR_CHAIN', message: expect.stringContaining("'texts'") })
})

import { join } from 'node:path'
import { open } from 'lmdb'
import { afterAll, describe, expect, it } from 'vitest'
import { backendOver } from '../../backends/lmdb/backend.js'
import { openDatabase } from '../../backends/lmdb/client/open-file.js'
import { openStore } from '../../backends/lmdb/client/store.js'
import { lmdb } from '../../backends/lmdb/index.js'
import type { Backend, Bytes, InvalidationMode, Ledger } from '../../src/index.js'
import { temporaryFolder } from '../backends/lmdb/support.js'
import { judge } from '../support/ledgers.js'
import { LONG } from '../support/long.js'
import { sleep } from '../support/waiting.js'
import { exploreStore, type Step } from './real-store.js'
import { searchRegions } from './regions-over-store.js'

/** Longer than any run: expiry is another test's business. */
const LEASE = 60_000
const SAMPLES = LONG ? 1_500 : 40
const BUDGET = LONG ? { runs: 20_000, samples: 5_000 } : { runs: 700, samples: 150 }

// The order of steps is tested here and no power failure, so no commit needs to wait for the disk.
const file = join(temporaryFolder(), 'cache.mdb')
const root = open(file, { noSync: true })
afterAll(() => root.close())

describe('regions over one file, an operation a step', () => {
  const backend = lmdb(root)
  // The same file as other processes have it: they are woken by the file alone.
  const others = [backend, lmdb(file), lmdb(file)]
  afterAll(async () => {
    for (const other of others) await other.close()
  })
  searchRegions('lmdb', () => others, SAMPLES)
})

describe('every order of the transactions that a file is sent', () => {
  /** A process over the file; with `step` each of its transactions waits to be picked. */
  const processOver = (who: number, step?: Step, timeout = 60_000): Backend<Bytes> => {
    const { entries, bookkeeping, dataFile, close } = openDatabase(root)
    const store = openStore(entries, bookkeeping, timeout)
    const { commit } = store
    if (step !== undefined)
      store.commit = (...transaction) => step(`${who} commit file`, () => commit(...transaction))
    return backendOver(store, {
      dataFile,
      maxBytes: 2 ** 30,
      sweepEvery: 2 ** 30,
      timeout,
      pendingFor: 0,
      release: close,
    })
  }
  const bare = processOver(-1)
  const ledger = bare.ledger as Ledger
  const bytes = (text: string) => Buffer.from(text)
  const left = async (key: string) => {
    const found = await bare.get(key)
    return found && Buffer.from(found).toString()
  }
  afterAll(() => bare.close())

  /** The truth, its acknowledged part, and three processes that know of it. */
  const stage = (step: Step) => {
    const processes = [0, 1, 2].map((who) => processOver(who, step)) as [
      Backend<Bytes>,
      Backend<Bytes>,
      Backend<Bytes>,
    ]
    const world = { truth: 0, acknowledged: 0 }
    return {
      world,
      processes,
      /** The first read of a process happens when this is picked. */
      begin: (who: number) => step(`${who} get file`, () => undefined),
      seen: (who: number) => step(`${who} get truth`, () => world.truth),
      change: async (invalidate: (truth: number) => unknown) => {
        const truth = await step('2 change truth', () => ++world.truth)
        await step('2 get file', () => undefined)
        await invalidate(truth)
        world.acknowledged = Math.max(world.acknowledged, truth)
      },
      end: () => Promise.all(processes.map((backend) => backend.close())),
    }
  }

  it.each<
    [
      string,
      {
        readonly old?: boolean
        readonly steal?: boolean
        readonly set?: boolean
        readonly fails?: boolean
      },
    ]
  >([
    ['two creators and a deletion', {}],
    ['two creators that renew an old value, and a deletion', { old: true }],
    ['a creator, a thief and a deletion', { steal: true }],
    ['a creator, a thief and an explicit value, over an old value', { old: true, steal: true, set: true }],
    [
      'two creators that fail over an old value, and an explicit value',
      { old: true, fails: true, set: true },
    ],
    ['two creators and an explicit value', { set: true }],
  ])('leaves no older value: %s', { timeout: 1_800_000 }, async (name, { old, steal, set, fails }) => {
    const { runs, exhausted } = await exploreStore(async (step, run) => {
      const { world, processes, begin, seen, change, end } = stage(step)
      const key = `${name} ${run}`
      if (old) await bare.set(key, bytes('0'), {})
      const create = async (who: 0 | 1) => {
        await begin(who)
        const backend = processes[who]
        const { token } = await backend.acquire(key, LEASE, { steal: steal === true && who === 1 })
        if (token === undefined) return
        if (fails) return void (await backend.release(key, token))
        await backend.set(key, bytes(String(await seen(who))), { token })
      }
      const third = processes[2]
      await Promise.all([
        create(0),
        create(1),
        change((truth) => (set ? third.set(key, bytes(String(truth)), {}) : third.delete(key))),
      ])
      const value = await left(key)
      if (value !== undefined) expect(Number(value)).toBeGreaterThanOrEqual(world.acknowledged)
      await end()
    }, BUDGET)
    console.log(`[interleavings] lmdb, ${name}: ${runs} schedules${exhausted ? ', all there are' : ''}`)
  })

  it.each<
    [
      string,
      {
        readonly creators: number
        readonly mode?: InvalidationMode
        readonly warm?: boolean
        readonly late?: boolean
      },
    ]
  >([
    ['a creator and an invalidation, cold', { creators: 1 }],
    ['a creator and a soft invalidation, warm', { creators: 1, warm: true, mode: 'soft' }],
    ['a creator that learns the name late, and an invalidation', { creators: 1, late: true }],
    ['two creators and an invalidation', { creators: 2, warm: true }],
    ['two creators and a soft invalidation', { creators: 2, mode: 'soft' }],
  ])(
    'takes nothing older for fresh: %s',
    { timeout: 1_800_000 },
    async (name, { creators, mode = 'hard', warm, late }) => {
      const { runs, exhausted } = await exploreStore(async (step, run) => {
        const { world, processes, begin, seen, change, end } = stage(step)
        const [clock, tag] = [`clock ${name} ${run}`, `tag ${run}`]
        if (warm) await ledger.open(clock).now([])
        const key = (who: number) => `${name} ${run} ${who}`
        const create = async (who: 0 | 1) => {
          await begin(who)
          const backend = processes[who]
          const { epoch, at } = await (backend.ledger as Ledger).open(clock).now(late ? [] : [tag])
          const snapshot = { epoch, groups: [{ asOf: at, names: [tag] }] }
          const value = bytes(`${await seen(who)} ${JSON.stringify(snapshot)}`)
          const outcome = await backend.set(key(who), value, { ifCurrent: { clock, snapshot } })
          // Nothing else was picked in between: comparing and storing were one step, or this shows it.
          if (outcome === 'stored') expect(await judge(ledger, clock, snapshot)).toBe('fresh')
        }
        const third = processes[2].ledger as Ledger
        await Promise.all([
          ...([0, 1] as const).slice(0, creators).map(create),
          change(() => third.open(clock).invalidate([tag], mode)),
        ])
        for (let who = 0; who < creators; who++) {
          const value = await left(key(who))
          if (value === undefined) continue
          const [version, ...snapshot] = value.split(' ')
          if ((await judge(ledger, clock, JSON.parse(snapshot.join(' ')))) === 'fresh')
            expect(Number(version)).toBeGreaterThanOrEqual(world.acknowledged)
        }
        await end()
      }, BUDGET)
      console.log(`[interleavings] lmdb, ${name}: ${runs} schedules${exhausted ? ', all there are' : ''}`)
    },
  )

  const gone = async (key: string) => {
    const { entries } = openDatabase(root)
    while (entries.getBinary(key) !== undefined) await sleep(5)
  }
  it.each<[string, (key: string) => unknown]>([
    ['deleted', (key) => bare.delete(key)],
    ['deleted in a batch', (key) => bare.deleteMulti([key, 'another'])],
    ['written and deleted', async (key) => (await bare.set(key, bytes('newer'), {}), bare.delete(key))],
    [
      'written and swept',
      async (key) => {
        const sweeper = lmdb(root, { sweepEvery: 5 })
        await sweeper.set(key, bytes('newer'), { ttl: 5 })
        await gone(key)
        await sweeper.close()
      },
    ],
  ])('undoes no change by a write that was given up: %s', async (how, overtake) => {
    for (const old of [false, true]) {
      const key = `given up, ${how}, ${old}`
      if (old) await bare.set(key, bytes('oldest'), {})
      let deliver: () => unknown = () => {}
      const late = processOver(
        0,
        (_, run) => new Promise((resolve) => (deliver = () => resolve(run()))),
        // From here on its transaction lies before the lock of the file.
        20,
      )
      await expect(late.set(key, bytes('old'), {})).rejects.toMatchObject({ code: 'ERR_TIMEOUT' })
      await overtake(key)
      deliver()
      await bare.set('after it', bytes('all that came before is done'), {})
      expect(await left(key)).toBeUndefined()
      await late.close()
    }
  })
})

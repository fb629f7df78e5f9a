import { expect, it } from 'vitest'
import { backendOver } from '../../backends/memcached/backend.js'
import { type Commands, commandsOf } from '../../backends/memcached/client/commands.js'
import { openServer } from '../../backends/memcached/client/server.js'
import { CLOCK, LIFE, STAMP, wireName } from '../../backends/memcached/format.js'
import { ownerOf } from '../../backends/memcached/marks.js'
import { settingsOf } from '../../backends/memcached/options.js'
import type { Backend, Bytes, InvalidationMode, Ledger } from '../../src/index.js'
import { bytes, text, withMemcached } from '../backends/memcached/start.js'
import { judge } from '../support/ledgers.js'
import { LONG } from '../support/long.js'
import { stepped } from './memcached-explore.js'
import { exploreStore, type Step } from './real-store.js'

const BUDGET = LONG ? { runs: 60_000, samples: 10_000 } : { runs: 300, samples: 200 }

/** Longer than any run: expiry is another test's business. */
const LEASE = 60_000

withMemcached('every order of the commands that memcached is sent', (bench) => {
  const connect = (): Commands =>
    commandsOf(settingsOf(bench().address).addresses.map((address) => openServer(address, 1_000)))

  /** Two processes over connections of their own, stepped, and a view of the store that is not. */
  const stage = () => {
    const connections = [connect(), connect(), connect()] as const
    const open = (i: 0 | 1 | 2, step: Step) =>
      backendOver(stepped(connections[i], `${i}`, step), { timeout: 60_000, pendingFor: 60_000 })
    return { connections, open, bare: backendOver(connections[0], { timeout: 60_000 }) }
  }

  interface World {
    readonly key: string
    readonly step: Step
    truth: number
    acknowledged: number
  }

  const create = async (
    world: World,
    backend: Backend<Bytes>,
    who: number,
    { steal = false, filler = backend, fails = false } = {},
  ) => {
    const { token } = await backend.acquire(world.key, LEASE, { steal })
    // A waiter would poll, and the orders would depend on the speed of the machine.
    if (token === undefined) return void (await backend.close())
    if (fails) return void (await filler.release(world.key, token))
    const seen = await world.step(`${who} get truth`, () => world.truth)
    await filler.set(world.key, bytes(String(seen)), { token })
  }
  const change = async (world: World, invalidate: (truth: number) => unknown) => {
    const truth = await world.step('2 change truth', () => ++world.truth)
    await invalidate(truth)
    world.acknowledged = Math.max(world.acknowledged, truth)
  }

  it.each<
    [
      string,
      {
        readonly old?: boolean
        readonly steal?: boolean
        readonly swap?: boolean
        readonly lose?: boolean
        readonly set?: boolean
        readonly fails?: boolean
        /** Few enough orders to try them all every time. */
        readonly all?: boolean
      },
    ]
  >([
    ['two creators and a deletion', { all: true }],
    ['two creators, a deletion and the loss of the item', { lose: true }],
    ['two creators that renew an old value, a deletion and the loss of the item', { old: true, lose: true }],
    ['a creator, a thief and a deletion, over an old value', { old: true, steal: true }],
    ['two creators that fill over another connection, and a deletion', { swap: true, lose: true }],
    ['two creators that fail over an old value, and a deletion', { old: true, fails: true }],
    [
      'two creators that fail over an old value, and an explicit value',
      { old: true, fails: true, set: true },
    ],
    ['two creators and an explicit value', { set: true, lose: true }],
    ['two creators that renew an old value, and an explicit value', { old: true, set: true }],
  ])(
    'leaves no older value: %s',
    async (name, { old, steal, swap, lose, set, fails, all }) => {
      const { connections, open, bare } = stage()
      const { runs, exhausted } = await exploreStore(
        async (step, run) => {
          const world: World = {
            key: `${name.replaceAll(/\W+/g, '-')}-${run}`,
            step,
            truth: 0,
            acknowledged: 0,
          }
          if (old) await bare.set(world.key, bytes('0'), {})
          const [one, other, third] = [open(0, step), open(1, step), open(2, step)]
          await Promise.all([
            create(world, one, 0, { filler: swap ? other : one, ...(fails && { fails }) }),
            create(world, other, 1, { ...(steal && { steal }), ...(fails && { fails }) }),
            change(world, (truth) =>
              set ? third.set(world.key, bytes(String(truth)), {}) : third.delete(world.key),
            ),
            lose && step(`3 lose ${world.key}`, () => connections[2].delete(world.key)),
          ])
          const left = text(await bare.get(world.key))
          if (left !== undefined) expect(Number(left)).toBeGreaterThanOrEqual(world.acknowledged)
          for (const backend of [one, other, third]) await backend.close()
        },
        all ? { runs: 12_000 } : BUDGET,
      )
      if (all) expect(exhausted).toBe(true)
      console.log(`[interleavings] ${name}: ${runs} schedules${exhausted ? ', all there are' : ''}`)
      for (const connection of connections) connection.close()
    },
    1_800_000,
  )

  it.each<
    [
      string,
      {
        readonly creators: number
        readonly mode?: InvalidationMode
        readonly lose?: 'stamp' | 'clock'
        readonly warm?: boolean
        readonly late?: boolean
        /** Another process invalidates another name, or the same one. */
        readonly noise?: 'another' | 'same'
        /** The change is a transaction that marks the name before its commit. */
        readonly marked?: 'commits' | 'rolls back' | 'dies'
        /** Another transaction marks the name, too, and has ended before. */
        readonly beside?: boolean
      },
    ]
  >([
    ['a creator and an invalidation, cold', { creators: 1 }],
    ['a creator and an invalidation, warm', { creators: 1, warm: true }],
    ['a creator, an invalidation and the loss of the stamp', { creators: 1, warm: true, lose: 'stamp' }],
    ['a creator, an invalidation and the loss of the clock', { creators: 1, warm: true, lose: 'clock' }],
    ['a creator and a soft invalidation', { creators: 1, mode: 'soft' }],
    ['a creator that learns the name late, and an invalidation', { creators: 1, late: true }],
    [
      'a creator that learns the name late, and a soft invalidation',
      { creators: 1, late: true, mode: 'soft' },
    ],
    [
      'a creator that learns the name late, an invalidation, and one of another name',
      { creators: 1, late: true, noise: 'another' },
    ],
    [
      'a creator, an invalidation, one of another name and the loss of the stamp',
      { creators: 1, warm: true, noise: 'another', lose: 'stamp' },
    ],
    ['two creators, an invalidation and the loss of the stamp', { creators: 2, warm: true, lose: 'stamp' }],
    ['two creators and a soft invalidation', { creators: 2, warm: true, mode: 'soft' }],
    ['a creator and a transaction that rolls back', { creators: 1, warm: true, marked: 'rolls back' }],
    ['a creator and a transaction', { creators: 1, warm: true, marked: 'commits' }],
    ['a creator and a transaction that dies, cold', { creators: 1, marked: 'dies' }],
    ['a creator and a transaction that dies, warm', { creators: 1, warm: true, marked: 'dies' }],
    [
      'a creator that learns the name late, and a transaction that dies',
      { creators: 1, late: true, marked: 'dies' },
    ],
    [
      'a creator that learns the name late, a transaction that dies, and an invalidation',
      { creators: 1, late: true, noise: 'same', marked: 'dies' },
    ],
    [
      'a creator, a transaction that dies, and one that has rolled back',
      { creators: 1, warm: true, marked: 'dies', beside: true },
    ],
    [
      'a creator, a transaction that dies after a soft change, and an invalidation',
      { creators: 1, warm: true, mode: 'soft', noise: 'same', marked: 'dies' },
    ],
    ['two creators and a transaction that dies', { creators: 2, late: true, marked: 'dies' }],
    ['a creator, a transaction and the loss of the clock', { creators: 1, marked: 'dies', lose: 'clock' }],
  ])(
    'takes nothing older for fresh: %s',
    async (name, { creators, mode = 'hard', lose, warm, late, noise, marked, beside }) => {
      const { connections, open, bare } = stage()
      const view = bare.ledger as Ledger
      const { runs, exhausted } = await exploreStore(async (step, run) => {
        const scene = `${name.replaceAll(/\W+/g, '-')}-${run}`
        const world: World = { key: `entry-${scene}`, step, truth: 0, acknowledged: 0 }
        const [clock, tag] = [`clock-${scene}`, `tag-${scene}`]
        const lost = lose === 'clock' ? wireName(CLOCK, clock) : wireName(STAMP, tag)
        if (warm || late) await view.open(clock).now(late ? [] : [tag])
        const store = async (backend: Backend<Bytes>, i: number) => {
          const { epoch, at } = await (backend.ledger as Ledger)
            .open(clock)
            .now(i === 0 && !late ? [tag] : [])
          const snapshot = { epoch, groups: [{ asOf: at, names: [tag] }] }
          const seen = await step(`${i} get truth`, () => world.truth)
          await backend.set(`${world.key}-${i}`, bytes(`${seen} ${JSON.stringify(snapshot)}`), {
            ifCurrent: { clock, snapshot },
          })
        }
        const writers = [open(0, step), open(1, step)].slice(0, creators)
        const ledgerAt = (i: 0 | 1 | 2) => (open(i, step).ledger as Ledger).open(clock)
        const transact = async () => {
          const ledger = ledgerAt(2)
          await ledger.pending?.([tag], mode, `t-${scene}`)
          if (marked !== 'rolls back') world.acknowledged = await step('2 commit', () => ++world.truth)
          if (marked === 'dies')
            await step('2 dies', () => connections[2].delete(wireName(LIFE, ownerOf(clock, `t-${scene}`))))
          else await ledger.invalidate([tag], mode, `t-${scene}`)
        }
        const other = async () => {
          const ledger = ledgerAt(1)
          await ledger.pending?.([tag], mode, `u-${scene}`)
          await ledger.invalidate([tag], mode, `u-${scene}`)
        }
        await Promise.all([
          ...writers.map(store),
          marked === undefined ? change(world, () => ledgerAt(2).invalidate([tag], mode)) : transact(),
          beside && other(),
          noise && ledgerAt(1).invalidate([noise === 'same' ? tag : `other ${tag}`], 'hard'),
          lose && step(`3 lose ${lost}`, () => connections[2].delete(lost)),
        ])
        for (let i = 0; i < creators; i++) {
          const left = text(await bare.get(`${world.key}-${i}`))
          if (left === undefined) continue
          const [seen, ...snapshot] = left.split(' ')
          const freshness = await judge(view, clock, JSON.parse(snapshot.join(' ')))
          if (freshness === 'fresh') expect(Number(seen)).toBeGreaterThanOrEqual(world.acknowledged)
        }
      }, BUDGET)
      console.log(`[interleavings] ${name}: ${runs} schedules${exhausted ? ', all there are' : ''}`)
      for (const connection of connections) connection.close()
    },
    1_800_000,
  )
})

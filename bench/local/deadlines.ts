/** How far callers settle beyond their deadlines: many at a time, whose creators hang, over memory and over a store that is slow. */
import { setTimeout as pause } from 'node:timers/promises'
import { memory } from '../../backends/memory/index.js'
import { type Backend, type CachedValue, delegate, makeRegion, wrap } from '../../src/index.js'
import { budget, machine, saveJson, table } from '../support.js'

const CALLERS = 500
/** ms in which the callers come. */
const SPREAD = 2_000
/** ms. */
const TIMEOUT = 100
/** ms beyond a bare timer: a busy machine wakes every timer late. */
const BUDGET = 50

const slow = (next: Backend<CachedValue>) =>
  delegate(next, {
    get: async (key) => {
      await pause(5)
      return next.get(key)
    },
  })

const hang = () => new Promise<number>(() => {})

/** Callers come one after another, as in a service. */
const turnOf = (i: number) => pause((SPREAD * i) / CALLERS)

/** ms by which a bare timer is late. */
async function timers(): Promise<readonly number[]> {
  const late = await Promise.all(
    Array.from({ length: CALLERS }, async (_, i) => {
      await turnOf(i)
      const due = performance.now() + TIMEOUT
      await pause(TIMEOUT)
      return performance.now() - due
    }),
  )
  return late.sort((one, other) => one - other)
}

/** ms by which each caller settled late. */
async function overshoot(backend: Backend<CachedValue>, option: 'softTimeout' | 'hardTimeout') {
  const clock = { now: () => now }
  let now = Date.now()
  const region = makeRegion<number>({ backend, clock, expirationTime: 1_000, grace: '1h' })
  const stands = option === 'softTimeout'
  const keys = Array.from({ length: CALLERS }, (_, i) => `key:${i}`)
  if (stands) await region.setMulti(keys.map((key): [string, number] => [key, 1]))
  now += 1_001
  const late = await Promise.all(
    keys.map(async (key, i) => {
      await turnOf(i)
      const due = performance.now() + TIMEOUT
      await region.getOrCreate(key, hang, { [option]: TIMEOUT }).catch(() => {})
      return performance.now() - due
    }),
  )
  void region.close()
  return late.sort((one, other) => one - other)
}

console.log(machine())
// Once for the compiler.
await overshoot(memory(), 'softTimeout')
const stores = { memory: () => memory(), 'a store of 5 ms': () => wrap(memory(), slow) } as const
const figures: Record<string, readonly number[]> = { 'a bare timer': await timers() }
for (const [store, make] of Object.entries(stores))
  for (const option of ['softTimeout', 'hardTimeout'] as const)
    figures[`${option}, ${store}`] = await overshoot(make(), option)
const at = (late: readonly number[], part: number) => late[Math.floor((late.length - 1) * part)] as number
const rows = Object.entries(figures).map(([what, late]) => ({
  what,
  'p50 ms': at(late, 0.5).toFixed(2),
  'p99 ms': at(late, 0.99).toFixed(2),
  'latest ms': at(late, 1).toFixed(2),
}))
console.log(`${CALLERS} callers whose creators hang, ms beyond their deadlines\n`)
console.log(`${table(rows)}\n`)
const [[, bare = []] = [], ...callers] = Object.entries(figures)
for (const [what, late] of callers) {
  const p99 = at(late, 0.99) - at(bare, 0.99)
  console.log(
    budget(`${what}, p99 beyond a bare timer`, `${p99.toFixed(2)} ms`, `${BUDGET} ms`, p99 <= BUDGET),
  )
}
saveJson(figures)

/** Up to 10,000 callers of one cold key, and the time that they wait beyond the creator itself. */
import { setTimeout as pause } from 'node:timers/promises'
import { memory } from '../../backends/memory/index.js'
import { makeRegion } from '../../src/index.js'
import { budget, machine, saveJson, shown, spread, table } from '../support.js'

const CALLERS = [1, 10, 100, 1_000, 10_000]
const ROUNDS = 41
const CREATOR = 10

/** The least that sharing a promise costs: the base line. */
function bare() {
  const flights = new Map<string, Promise<number>>()
  return (key: string, create: () => Promise<number>): Promise<number> => {
    let flight = flights.get(key)
    if (flight === undefined) {
      flight = create().finally(() => flights.delete(key))
      flights.set(key, flight)
    }
    return flight
  }
}

async function stampede(
  get: (key: string, create: () => Promise<number>) => Promise<number>,
  key: string,
  callers: number,
) {
  let runs = 0
  let began = 0
  let ended = 0
  const create = async () => {
    runs++
    began = performance.now()
    await pause(CREATOR)
    ended = performance.now()
    return 1
  }
  const start = performance.now()
  await Promise.all(Array.from({ length: callers }, () => get(key, create)))
  return { over: performance.now() - start - (ended - began), runs }
}

const region = makeRegion<number>({ backend: memory() })
const corral = (key: string, create: () => Promise<number>) => region.getOrCreate(key, create)
const base = bare()

console.log(
  `${machine()}\n${ROUNDS} rounds, in turn with the base line; a ${CREATOR} ms creator; ms beyond the creator, medians and quartiles\n`,
)
const rows = []
let thousand = Number.NaN
let mostRuns = 0
for (const callers of CALLERS) {
  const over: number[] = []
  const least: number[] = []
  for (let round = -5; round < ROUNDS; round++) {
    const one = await stampede(corral, `${callers}:${round}`, callers)
    const other = await stampede(base, `${callers}:${round}`, callers)
    mostRuns = Math.max(mostRuns, one.runs)
    if (round < 0) continue
    over.push(one.over)
    least.push(other.over)
  }
  if (callers === 1_000) thousand = spread(over).median
  rows.push({ callers, 'Corral ms': shown(spread(over)), 'bare promise ms': shown(spread(least)) })
}
console.log(table(rows))
console.log(`\n${budget('creator runs', String(mostRuns), '1', mostRuns === 1)}`)
console.log(
  budget(
    '1,000 callers, one cold key',
    `${thousand.toFixed(2)} ms over the creator`,
    '1 ms (moonshot 0.4 ms)',
    thousand <= 1,
  ),
)
saveJson(rows)

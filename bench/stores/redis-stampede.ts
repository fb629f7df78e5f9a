/**
 * Four processes of 250 callers each want one cold key of a Redis that they share. Measured is the time from the return
 * of the creator to each caller: the fill, the wake-up message, and the caller's turn.
 */
import { crew } from '../../test/backends/redis/crew.js'
import { standalone } from '../../test/backends/redis/deployments.js'
import { budget, machine, saveJson, shown, spread, table } from '../support.js'

const PROCESSES = 4
const CALLERS = 250
const ROUNDS = 40
/** ms; long enough for every caller to have come and to wait. */
const WORK = 150

const at = await standalone()
const team = await crew()
try {
  const workers = await team.hire(PROCESSES)
  const [own, first, last]: [number[], number[], number[]] = [[], [], []]
  let runs = 0
  for (let round = -5; round < ROUNDS; round++) {
    const answers = await Promise.all(
      workers.map((worker) =>
        worker.do({
          task: 'stampede',
          where: at.where,
          key: `cold ${round}`,
          callers: CALLERS,
          work: WORK,
          lease: 10_000,
        }),
      ),
    )
    const made = answers.find((answer) => answer.made !== undefined)?.made ?? Number.NaN
    if (round < 0) continue
    runs += answers.reduce((sum, answer) => sum + answer.runs, 0)
    for (const answer of answers) (answer.made === undefined ? first : own).push(answer.first - made)
    last.push(Math.max(...answers.map((answer) => answer.last)) - made)
  }
  // In turn with the rounds it would find the processes warmer than they are: the measurement by hand has separate rounds.
  const [handOwn, handFirst]: [number[], number[]] = [[], []]
  for (let round = -5; round < ROUNDS; round++) {
    const answers = await Promise.all(
      workers.map((worker, i) =>
        worker.do({
          task: 'byHand',
          url: `${at.where.url}`,
          key: `by hand ${round}`,
          makes: i === 0,
          work: WORK,
        }),
      ),
    )
    const made = answers[0]?.made ?? Number.NaN
    if (round < 0) continue
    for (const answer of answers) (answer.made === undefined ? handFirst : handOwn).push(answer.first - made)
  }
  const sorted = [...first].sort((one, other) => one - other)
  const p99 = sorted[Math.floor(sorted.length * 0.99)] ?? Number.NaN
  console.log(
    `${machine()}\n${ROUNDS} rounds of ${PROCESSES} × ${CALLERS} callers; ms after the creator, medians and quartiles\n`,
  )
  const rows = [
    { who: 'first caller in the process of the creator', ms: shown(spread(own)) },
    { who: 'first caller in each other process', ms: shown(spread(first)) },
    { who: `last of all ${PROCESSES * CALLERS}`, ms: shown(spread(last)) },
    { who: 'by hand, one caller: SET and PUBLISH answered', ms: shown(spread(handOwn)) },
    { who: 'by hand, one caller: message, then GET', ms: shown(spread(handFirst)) },
  ]
  console.log(table(rows))
  console.log(`\n${budget('creator runs for a key', `${runs / ROUNDS}`, '1', runs === ROUNDS)}`)
  const { median } = spread(first)
  console.log(
    budget(
      'first waiter of each process',
      `p50 ${median.toFixed(2)} ms, p99 ${p99.toFixed(2)} ms`,
      'p50 1 ms (moonshot p99 5 ms)',
      median <= 1,
    ),
  )
  saveJson({ own, first, last })
} finally {
  await team.dismiss()
  await at.stop()
}

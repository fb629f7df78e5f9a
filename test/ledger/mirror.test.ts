import { expect, it } from 'vitest'
import { type JournalPosition, type JournalReply, Mirror, mirrorTail } from '../../src/ledger/mirror.js'
import { turn } from '../support/waiting.js'

/** A journal whose replies a test sends, each as of the moment at which it is sent. */
function journal(clock?: { now(): number }) {
  const state = { at: 100, changes: [] as { name: string; at: number }[] }
  const questions: (() => void)[] = []
  const replyTo = (positions: readonly JournalPosition[]): JournalReply => ({
    server: 's',
    journals: positions.map(({ since }) => ({
      now: { epoch: 'e', at: state.at },
      floor: 100,
      // A question without a time is told of nothing: there is no copy yet that it could be about.
      changed: since === undefined ? [] : state.changes.filter(({ at }) => at > since.at),
    })),
  })
  const pull = (positions: readonly JournalPosition[]) =>
    new Promise<JournalReply>((resolve) => questions.push(() => resolve(replyTo(positions))))
  return { state, questions, mirror: new Mirror({ pull }, clock) }
}

it('a mirror trusts no copy from before the reply to a question that knew no time', async () => {
  const { state, questions, mirror } = journal()
  const tail = mirrorTail(mirror, { keys: 'k', names: 'n' })
  const first = mirror.prove()
  await turn()
  const second = mirror.prove()
  await turn()
  expect(questions).toHaveLength(2)
  questions[0]?.()
  await first
  const place = tail.place('x')
  const mark = { place, key: place, names: place }
  expect(tail.keyStands('x', { ...mark })).toBe(true)
  // Another process deletes x. The second question is executed only then, and its reply tells nothing.
  state.changes.push({ name: 'x', at: 105 })
  state.at = 105
  questions[1]?.()
  await second
  expect(tail.keyStands('x', { ...mark })).toBe(false)
  mirror.received('k', ['x'], { server: 's', epoch: 'e', before: 100, at: 105 })
  expect(tail.keyStands('x', { ...mark })).toBe(false)
})

it('a mark that lost its place stands for nothing', async () => {
  const { questions, mirror } = journal()
  const tail = mirrorTail(mirror, { keys: 'k', names: 'n' })
  const proof = mirror.prove()
  await turn()
  questions[0]?.()
  await proof
  const place = tail.place('x')
  expect(tail.keyStands('x', { place, key: place, names: place })).toBe(true)
  expect(tail.keyStands('x', { place } as never)).toBe(false)
  expect(tail.namesStand?.(['n'], { place } as never)).toBe(false)
})

it('a proof ends with its bound: at one reading of the clock a change may have followed the question', async () => {
  let now = 50
  const { questions, mirror } = journal({ now: () => now })
  const proof = mirror.prove()
  await turn()
  questions[0]?.()
  await proof
  expect(mirror.isProven(0)).toBe(false)
  expect(mirror.isProven(20)).toBe(true)
  now = 70
  expect(mirror.isProven(20)).toBe(false)
})

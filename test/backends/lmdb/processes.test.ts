import { join } from 'node:path'
import { afterAll, describe, expect, test } from 'vitest'
import { bundlePeer, endPeers, type RunningPeer, startPeer, temporaryFolder } from './support.js'

const folder = temporaryFolder()
const program = await bundlePeer()
let files = 0

afterAll(endPeers)

async function startPeers(count: number, lease = 10_000): Promise<readonly RunningPeer[]> {
  const file = join(folder, `${++files}.mdb`)
  return Promise.all(Array.from({ length: count }, () => startPeer(program, { role: 'region', file, lease })))
}

async function create(peers: readonly RunningPeer[], key: string, callers: number, ms: number) {
  const answers = peers.map((peer) => peer.next('created'))
  for (const peer of peers) peer.tell({ kind: 'create', key, callers, ms })
  return Promise.all(answers)
}

describe.each([2, 4])('%i processes', (count) => {
  test('create a cold key once for all of 250 callers each, and wake them by a push', async () => {
    const peers = await startPeers(count)
    const wakes: number[] = []
    const lasts: number[] = []
    for (let round = 0; round < 12; round++) {
      const answers = await create(peers, `cold ${round}`, 250, 60)
      expect(answers.reduce((runs, answer) => runs + answer.runs, 0)).toBe(1)
      expect(answers.flatMap(({ errors }) => errors)).toEqual([])
      expect(new Set(answers.flatMap(({ values }) => values)).size).toBe(1)
      const maker = answers.find(({ runs }) => runs === 1)
      for (const answer of answers) {
        lasts.push(answer.last - (maker?.madeAt ?? 0))
        if (answer !== maker) wakes.push(answer.first - (maker?.first ?? 0))
      }
    }
    wakes.sort((one, other) => one - other)
    lasts.sort((one, other) => one - other)
    const at = (times: readonly number[], part: number) =>
      times[Math.min(times.length - 1, Math.floor(times.length * part))] as number
    console.log(
      `${count} × 250 over lmdb: first waiter of another process after the creator's own callers p50 ${at(wakes, 0.5).toFixed(2)} ms,`,
      `p99 ${at(wakes, 0.99).toFixed(2)} ms; last of all after the creator returned p50 ${at(lasts, 0.5).toFixed(2)} ms, p99 ${at(lasts, 0.99).toFixed(2)} ms`,
    )
    // Polling alone would take 125 ms and more.
    expect(at(wakes, 0.5)).toBeLessThan(100)
    for (const peer of peers) peer.tell({ kind: 'stop' })
    await Promise.all(peers.map((peer) => peer.exited))
  })
})

describe('a creator', () => {
  test('that is killed holds its key until its lease expires, not longer', async () => {
    const [maker, other] = (await startPeers(2, 600)) as [RunningPeer, RunningPeer]
    const creating = maker.next('creating')
    maker.tell({ kind: 'create', key: 'k', callers: 1, ms: 60_000 })
    await creating
    maker.signal('SIGKILL')
    await maker.exited
    const start = performance.now()
    const [answer] = await create([other], 'k', 20, 5)
    expect(answer).toMatchObject({ runs: 1, values: [`by ${other.pid}`], errors: [] })
    expect(performance.now() - start).toBeLessThan(600 + 1000)
  })

  test('that is frozen past its lease is overtaken, and cannot store its value', async () => {
    const [maker, other] = (await startPeers(2, 600)) as [RunningPeer, RunningPeer]
    const creating = maker.next('creating')
    const late = maker.next('created')
    maker.tell({ kind: 'create', key: 'k', callers: 1, ms: 1, freezes: true })
    await creating
    const start = performance.now()
    const [answer] = await create([other], 'k', 20, 5)
    expect(answer).toMatchObject({ runs: 1, values: [`by ${other.pid}`], errors: [] })
    expect(performance.now() - start).toBeLessThan(600 + 1000)
    maker.signal('SIGCONT')
    await late
    const [after] = await create([other], 'k', 1, 5)
    expect(after).toMatchObject({ runs: 0, values: [`by ${other.pid}`] })
  })

  test('that takes longer than its lease keeps it while it lives', async () => {
    // A process that a busy machine keeps waiting must not lose its lease by that.
    const peers = await startPeers(2, 2000)
    const answers = await create(peers, 'slow', 10, 5000)
    expect(answers.reduce((runs, answer) => runs + answer.runs, 0)).toBe(1)
  })
})

test('waiters wake at once when the lease is given back by a failure or a kill of the notifier is followed by a poll', async () => {
  const [one, two] = (await startPeers(2, 800)) as [RunningPeer, RunningPeer]
  const creating = one.next('creating')
  // Frozen while the others wait: nobody is there to send a wake-up.
  one.tell({ kind: 'create', key: 'shared', callers: 5, ms: 100, freezes: true })
  await creating
  const [answer] = await create([two], 'shared', 5, 5)
  expect(answer).toMatchObject({ runs: 1, errors: [] })
  one.signal('SIGKILL')
})

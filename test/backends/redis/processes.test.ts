import { afterAll, afterEach, beforeAll, describe, expect, inject, it } from 'vitest'
import { type FaultProxy, faultProxy } from '../../support/faultproxy.js'
import { sleep, until } from '../../support/waiting.js'
import { type Crew, crew, type Worker } from './crew.js'
import { cluster, type Deployment, sentinel, standalone } from './deployments.js'
import { freshKey } from './suite.js'
import type { Stampede } from './worker.js'

const CALLERS = 250

describe.skipIf(inject('servers').redis === null)('several processes and one cold key', () => {
  let team: Crew
  beforeAll(async () => {
    team = await crew()
  })
  afterAll(() => team?.dismiss())
  const hired: Worker[] = []
  afterEach(() => {
    for (const worker of hired.splice(0)) worker.kill('SIGKILL')
  })
  const hire = async (count: number) => {
    const workers = await team.hire(count)
    hired.push(...workers)
    return workers
  }

  const storm = (
    workers: readonly Worker[],
    at: Pick<Deployment, 'where'>,
    key: string,
    work: number,
    lease = 10_000,
  ) =>
    workers.map((worker) =>
      worker.do({ task: 'stampede', where: at.where, key, callers: CALLERS, work, lease }),
    )
  const runs = (answers: readonly Stampede[]) => answers.reduce((sum, answer) => sum + answer.runs, 0)

  it.each(Object.entries({ 'a standalone Redis': standalone, Sentinel: sentinel, 'a Cluster': cluster }))(
    'run the creator once for 4 × 250 callers, and are woken by a message: %s',
    async (name, start) => {
      const at = await start()
      try {
        const workers = await hire(4)
        await Promise.all(storm(workers, at, freshKey(), 10))
        const answers = await Promise.all(storm(workers, at, freshKey(), 400))
        expect(runs(answers)).toBe(1)
        expect(new Set(answers.flatMap(({ values }) => values)).size).toBe(1)
        expect(answers.flatMap(({ errors }) => errors)).toEqual([])
        const made = answers.find((answer) => answer.made !== undefined)?.made ?? 0
        const first = answers.map((answer) => answer.first - made)
        const last = answers.map((answer) => answer.last - made)
        console.log(
          `[stampede] ${name}: first callers of each process ${shown(first)} after the creator, last ones ${shown(last)}`,
        )
        // Without the message a process would look after up to a second, and poll each 250 ms at the most.
        expect(Math.max(...first)).toBeLessThan(330)
      } finally {
        await at.stop()
      }
    },
    60_000,
  )

  it.each(Object.entries({ 'a standalone Redis': standalone, 'a Cluster': cluster }))(
    'do not wait for each other until the deadline when their creators ask for each other: %s',
    async (_, start) => {
      const at = await start()
      try {
        const [one, other] = (await hire(2)) as [Worker, Worker]
        const [a, b] = [freshKey(), freshKey()]
        // A caller that waited until the deadline would reject with ERR_WAIT_TIMEOUT.
        const values = await Promise.all([
          one.do({ task: 'crossed', where: at.where, mine: a, theirs: b, wait: 20_000 }),
          other.do({ task: 'crossed', where: at.where, mine: b, theirs: a, wait: 20_000 }),
        ])
        expect(values[0].startsWith(`${a} of ${b}`)).toBe(true)
        expect(values[1].startsWith(`${b} of ${a}`)).toBe(true)
      } finally {
        await at.stop()
      }
    },
    60_000,
  )

  it.each(['SIGKILL', 'SIGSTOP'] as const)(
    'go on when the process of the creator gets a %s, once its lease has expired',
    async (signal) => {
      const at = await standalone()
      try {
        const key = freshKey()
        const [victim, ...others] = await hire(4)
        const probe = at.open()
        const doomed = (victim as Worker).do({
          task: 'stampede',
          where: at.where,
          key,
          callers: CALLERS,
          work: 30_000,
          lease: 1_000,
        })
        doomed.catch(() => {})
        await until(() => probe.held(`crew:${key}`))
        const answers = Promise.all(storm(others, at, key, 50, 1_000))
        await sleep(200)
        victim?.kill(signal)
        const began = performance.now()
        const got = await answers
        expect(runs(got)).toBe(1)
        expect(new Set(got.flatMap(({ values }) => values)).size).toBe(1)
        expect(got.flatMap(({ errors }) => errors)).toEqual([])
        expect(performance.now() - began).toBeLessThan(5_000)
      } finally {
        await at.stop()
      }
    },
    60_000,
  )

  it('do not let a creator that was frozen past its lease put its value back', async () => {
    const at = await standalone()
    try {
      const key = freshKey()
      const [frozen, other] = (await hire(2)) as [Worker, Worker]
      const creating = frozen.creating()
      const late = frozen.do({
        task: 'stampede',
        where: at.where,
        key,
        callers: CALLERS,
        // Long enough to be frozen before it ends, however busy the machine is.
        work: 8_000,
        lease: 400,
      })
      await creating
      frozen.kill('SIGSTOP')
      // Its lease outlives any pause of this machine. Only that of the frozen process has to expire.
      const [between] = await Promise.all(storm([other], at, key, 50, 20_000))
      frozen.kill('SIGCONT')
      const { runs: lateRuns, errors } = await late
      expect(errors).toEqual([])
      expect(lateRuns).toBeGreaterThan(0)
      expect(between?.values).toEqual([`by ${other.pid}`])
      const [after] = await Promise.all(storm([other], at, key, 50, 20_000))
      expect(after?.values).toEqual([`by ${other.pid}`])
      expect(after?.runs).toBe(0)
    } finally {
      await at.stop()
    }
  }, 60_000)

  it.each<readonly ['cut' | 'rst' | 'fin', number]>([
    ['cut', 3],
    ['cut', 60],
    ['rst', 0],
    ['fin', 0],
  ])(
    'go on when the connection of the creator is lost in mid-reply: %s after %i bytes',
    async (kind, afterBytes) => {
      const at = await standalone()
      let proxy: FaultProxy | undefined
      try {
        proxy = await faultProxy({ port: at.servers[0]?.port ?? 0 })
        const key = freshKey()
        const [cut, ...others] = (await hire(4)) as [Worker, ...Worker[]]
        const probe = at.open()
        const behind = { where: { url: `redis://127.0.0.1:${proxy.port}` } }
        const first = storm([cut], behind, key, 600, 1_000)
        await until(() => probe.held(`crew:${key}`))
        const answers = Promise.all([...first, ...storm(others, at, key, 50, 1_000)])
        await sleep(350)
        proxy.set(kind === 'cut' ? { kind, afterBytes } : { kind })
        await sleep(200)
        proxy.set({ kind: 'none' })
        const got = await answers
        // A process that lost its lease with the connection may have created a value that was refused.
        expect(runs(got)).toBeLessThanOrEqual(2)
        expect(got.flatMap(({ errors }) => errors)).toEqual([])
        const [after] = await Promise.all(storm([others[0] as Worker], at, key, 50, 1_000))
        expect(after?.runs).toBe(0)
      } finally {
        await proxy?.close()
        await at.stop()
      }
    },
    60_000,
  )
})

function shown(times: readonly number[]): string {
  return `${times.map((ms) => ms.toFixed(1)).join(', ')} ms`
}

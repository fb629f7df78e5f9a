import type { ChildProcess } from 'node:child_process'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { order } from '../../support/orders.js'
import { bundleProgram, type Program } from '../../support/programs.js'
import type { StampedeReport } from './peer.js'
import { withMemcached } from './start.js'

const PROCESSES = 4
const CALLERS = 250

withMemcached('a stampede on one cold key of memcached', (bench) => {
  let program: Program
  let all: readonly ChildProcess[]
  beforeAll(async () => {
    program = await bundleProgram('test/backends/memcached/peer.ts')
    all = await Promise.all(Array.from({ length: PROCESSES }, () => program.start()))
  })
  afterAll(() => program?.end())

  it.each([10, 50, 200])('of 4 processes with 250 callers each runs a creator of %i ms once', async (ms) => {
    const late: number[] = []
    for (let round = 0; round < 5; round++) {
      const reports = await Promise.all(
        all.map((peer) =>
          order<StampedeReport>(peer, {
            servers: bench().address,
            key: `cold ${ms} ${round}`,
            callers: CALLERS,
            ms,
          }),
        ),
      )
      expect(reports.reduce((sum, { runs }) => sum + runs, 0)).toBe(1)
      expect(new Set(reports.flatMap(({ values }) => values)).size).toBe(1)
      expect(reports.flatMap(({ served }) => served)).toHaveLength(PROCESSES * CALLERS)
      const madeAt = Math.max(...reports.map((report) => report.madeAt ?? 0))
      // How long the first caller of each waiting process had to wait once the value was made.
      for (const report of reports)
        if (report.madeAt === undefined) late.push(Math.min(...report.served) - madeAt)
    }
    late.sort((a, b) => a - b)
    const at = (share: number) => (late[Math.floor(share * (late.length - 1))] ?? Number.NaN).toFixed(1)
    console.log(
      `[stampede] creator of ${ms} ms: waiting processes woke after ${at(0.5)} ms (median), ${at(1)} ms (last)`,
    )
    // By looking: nothing else ends their wait before the lease does, of 10 seconds. A busy machine looks late.
    expect(Number(at(1))).toBeLessThan(8_000)
  })
})

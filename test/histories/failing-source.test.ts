/** Processes over Redis whose source fails, hangs and recovers at random, or fails throughout. */
import type { ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, inject, it } from 'vitest'
import { LONG } from '../support/long.js'
import { bundleProgram, type Program } from '../support/programs.js'
import { type Server, startRedis } from '../support/servers.js'
import { sharedNow, sleep } from '../support/waiting.js'
import type { SourceEvent, SourcePart } from './peer-source.js'

type Of<K extends SourceEvent['kind']> = SourceEvent & { readonly kind: K }

const off = inject('servers').redis === null
let program: Program
let server: Server
let folder: string
beforeAll(async () => {
  if (off) return
  folder = mkdtempSync(join(tmpdir(), 'corral-source-'))
  ;[program, server] = await Promise.all([bundleProgram('test/histories/peer-source.ts'), startRedis()])
}, 60_000)
afterAll(async () => {
  await program?.end()
  await server?.stop()
  if (folder !== undefined) rmSync(folder, { recursive: true, force: true })
})

let runs = 0
/** Runs processes for a time. Returns their events and the ms from the first start to the last end. */
async function run(processes: number, ms: number, part: Omit<SourcePart, 'port' | 'log' | 'seed'>) {
  const began = sharedNow()
  runs++
  const logs = Array.from({ length: processes }, (_, i) => join(folder, `${runs}-${i}.log`))
  const children = await Promise.all(
    logs.map(
      (log, i): Promise<ChildProcess> =>
        program.start(JSON.stringify({ ...part, port: server.port, log, seed: i + 1 })),
    ),
  )
  await sleep(ms)
  const ended = children.map((child) => once(child, 'exit'))
  for (const child of children) child.send('stop')
  for (const [code] of await Promise.all(ended)) expect(code).toBe(0)
  const lasted = sharedNow() - began
  const events = logs.flatMap((log) =>
    existsSync(log)
      ? readFileSync(log, 'utf8')
          .trim()
          .split('\n')
          .map((line) => JSON.parse(line) as SourceEvent)
      : [],
  )
  const of = <K extends SourceEvent['kind']>(kind: K) =>
    events.filter((event): event is Of<K> => event.kind === kind)
  expect(of('wrong')).toEqual([])
  return { of, lasted }
}

const overlap = (one: { start: number; end: number }, start: number, end: number) =>
  one.start <= end && one.end >= start

describe.skipIf(off)('processes over Redis', () => {
  it('serve nothing older than a hard invalidation, and always a value while one stands, whatever their source does', {
    timeout: 300_000,
  }, async () => {
    const { of } = await run(LONG ? 6 : 3, LONG ? 60_000 : 8_000, {
      ...{ keys: 4, callers: 6, invalidates: 0.04 },
      source: { fails: 0.35, hangs: 0.05, slow: 0.6 },
      options: {
        ...{ name: 'random', expirationTime: 40, grace: '1h', retryAfter: 60 },
        ...{ softTimeout: 20, abandonAfter: 300, lease: { ms: 600 }, refreshAhead: 0.5 },
      },
    })
    const [reads, hard, soft, creations] = [of('read'), of('hard'), of('soft'), of('creation')]
    const older = reads.filter(({ key, start, version }) =>
      hard.some(
        (one) => version !== undefined && one.key === key && one.end < start && version < one.version,
      ),
    )
    // A value was returned, and from the start of that read to the end of this one no invalidation removed it.
    const unanswered = reads.filter(
      ({ key, start, end, error }) =>
        error !== undefined &&
        reads.some(
          (one) =>
            one.key === key &&
            one.version !== undefined &&
            one.end < start &&
            !hard.some((other) => other.key === key && overlap(other, one.start, end)) &&
            !soft.some((other) => other.key === key && overlap(other, one.start, one.end)),
        ),
    )
    const landed = hard.filter(({ key, start, end }) =>
      creations.some((one) => one.key === key && one.start < end && one.start > start - 60),
    )
    const ends = (how: string) => creations.filter((one) => one.ends === how).length
    const counts = {
      ...{ reads: reads.length, errors: reads.filter(({ error }) => error !== undefined).length },
      ...{ hard: hard.length, soft: soft.length, landed: landed.length },
      ...{ creations: creations.length, failed: ends('fails'), hung: ends('hangs') },
    }
    console.log(
      `[failing source] ${JSON.stringify(counts)}: ${older.length} older than a hard invalidation, ${unanswered.length} unanswered while a value stood`,
    )
    expect(older.slice(0, 5)).toEqual([])
    expect(unanswered.slice(0, 5)).toEqual([])
    for (const [what, least] of Object.entries({ reads: 300, hard: 10, soft: 10, failed: 10, hung: 3 }))
      expect(counts[what as keyof typeof counts], what).toBeGreaterThan(least)
  })

  it('try a source that fails throughout once for each retryAfter, and answer every call', {
    timeout: 300_000,
  }, async () => {
    const retryAfter = LONG ? 10_000 : 1_000
    const options = { name: 'throughout', expirationTime: 1, grace: '1h', retryAfter } as const
    const never = { fails: 0, hangs: 0, slow: 0 }
    await run(1, 200, { options, keys: 2, callers: 2, invalidates: 0, source: never })
    const { of, lasted } = await run(10, LONG ? 60_000 : 6_000, {
      ...{ options, keys: 2, callers: LONG ? 100 : 10, invalidates: 0 },
      source: { fails: 1, hangs: 0, slow: 0.5 },
    })
    const reads = of('read')
    const runs = ['0', '1'].map((key) => of('creation').filter((one) => one.key === key).length)
    console.log(
      `[failing source] 10 processes, ${Math.round(lasted)} ms, retryAfter ${retryAfter} ms: ${runs} creator runs of two keys for ${reads.length} reads`,
    )
    expect(reads.filter(({ error }) => error !== undefined)).toEqual([])
    expect(reads.length).toBeGreaterThan(200)
    // The first run at once, and then one for each whole retryAfter: seven in 60 s.
    for (const one of runs) expect(one).toBeLessThanOrEqual(Math.floor(lasted / retryAfter) + 1)
    for (const one of runs) expect(one).toBeGreaterThan(1)
  })
})

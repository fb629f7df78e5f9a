/** Runs a history: processes that read and change, troubles, and the checker, until there is enough to judge by. */
import type { ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { LONG } from '../support/long.js'
import { bundleProgram, type Program } from '../support/programs.js'
import { sleep } from '../support/waiting.js'
import { type Binding, check, excused, type Verdict } from './checker.js'
import { type Happened, readEvents } from './events.js'
import { type Part, SHARES, type Way } from './generator.js'
import type { Place } from './places.js'

/** The store under a history, and its troubles. */
export interface World {
  /** Where process `index` finds the store. */
  place(index: number): Place
  readonly processes?: number
  /** The ways of its changes. @default all */
  readonly ways?: readonly Way[]
  /** @default true */
  readonly tracked?: boolean
  /** How often a reader reads between two pauses. @default 1 */
  readonly burst?: number
  /** Makes trouble, again and again, and returns its name. */
  trouble?(round: number, processes: Processes): Promise<string | undefined>
  /** ms between two troubles. */
  every?(): number
  readonly bindings?: Parameters<typeof check>[1]
  /** ms by which a read may be late, to be shown beside the latest one. */
  readonly bound?: number
  /** Which changes still bind, where a store may lose acknowledged ones. */
  readonly kept?: Binding
  /** The share of operations that may fail. @default 1 */
  readonly failing?: number
  stop(): Promise<unknown>
}

export interface Processes {
  /** Kills a process at random and starts another in its place. */
  replace(): Promise<void>
  /** Stops a process at random for a while. */
  freeze(ms: number): Promise<void>
}

export interface Plan {
  readonly worlds: Readonly<Record<string, () => Promise<World>>>
  /** Whether the server of a world was opted out of: its history is then reported as skipped. */
  missing?(world: string): boolean
  /** The least counts, of the checker and of troubles by their names. */
  readonly floor: Readonly<Record<string, number>>
  /** ms that a history lasts at least, and at the most until its floor is reached. */
  readonly ms: number
  readonly patience: number
}

/** One history for each world. */
export function histories(
  subject: string,
  { worlds, missing = () => false, floor, ms, patience }: Plan,
): void {
  describe(subject, () => {
    let program: Program
    beforeAll(async () => {
      program = await bundleProgram('test/histories/peer.ts')
    })
    afterAll(() => program?.end())

    for (const [name, start] of Object.entries(worlds))
      it.skipIf(missing(name))(
        `has no read that is older than an acknowledged change: ${name}`,
        async () => {
          const world = await start()
          const folder = mkdtempSync(join(tmpdir(), 'corral-history-'))
          try {
            const processes = await startProcesses(program, world, folder)
            const troubles = trouble(world, processes)
            const began = performance.now()
            const elapsed = () => performance.now() - began
            let judged: Judged
            do {
              await sleep(Math.max(ms - elapsed(), LONG ? 30_000 : 2_000))
              judged = judge(world, processes.events(), troubles.counts)
            } while (judged.stale.length === 0 && lacking(judged, floor).length > 0 && elapsed() < patience)
            await troubles.end()
            await processes.stop()
            judged = judge(world, processes.events(), troubles.counts)
            const { counts, stale, staleAsFresh, wrong, failures, staleness, excused: lost } = judged
            console.log(
              `[history] ${subject}: ${name}: ${JSON.stringify({ ...counts, excused: lost, failures })}, ${stale.length} stale, ${staleAsFresh.length} stale served as fresh, the latest ${staleness.toFixed(1)} ms after a change${world.bound === undefined ? '' : `, bound ${world.bound} ms`}`,
            )
            expect(stale.slice(0, 5)).toEqual([])
            expect(staleAsFresh.slice(0, 5)).toEqual([])
            expect(wrong.slice(0, 5)).toEqual([])
            expect(lacking(judged, floor)).toEqual([])
            if (world.failing !== undefined)
              expect(counts.failed / (counts.reads + counts.changes)).toBeLessThan(world.failing)
          } finally {
            await world.stop()
            rmSync(folder, { recursive: true, force: true })
          }
        },
        patience + 120_000,
      )
  })
}

type Judged = Verdict & { readonly excused?: number; readonly counts: Readonly<Record<string, number>> }

function judge(
  { kept, bindings }: World,
  events: readonly Happened[],
  troubles: Readonly<Record<string, number>>,
): Judged {
  const verdict = check(events, kept === undefined ? bindings : () => ({ kept }))
  const compared = Object.entries(verdict.compared).map(([name, pairs]) => [`compared ${name}`, pairs])
  return {
    ...verdict,
    ...(kept && { excused: excused(events, kept) }),
    counts: { ...verdict.counts, ...Object.fromEntries(compared), ...troubles },
  }
}

function lacking({ counts }: Judged, floor: Plan['floor']): string[] {
  return Object.keys(floor).filter((name) => (counts[name] ?? 0) < (floor[name] ?? 0))
}

async function startProcesses(program: Program, world: World, folder: string) {
  const { processes = 3, ways = Object.keys(SHARES) as Way[], tracked = true, burst = 1 } = world
  const logs: { readonly path: string; readonly index: number }[] = []
  const start = (index: number): Promise<ChildProcess> => {
    const log = join(folder, `events-${logs.length}`)
    logs.push({ path: log, index })
    const part: Part = {
      ...{ place: world.place(index), truth: join(folder, 'truth'), log, index, processes, ways, tracked },
      pause: LONG ? 20 : 4,
      burst,
    }
    return program.start(JSON.stringify(part))
  }
  const running = await Promise.all(Array.from({ length: processes }, (_, index) => start(index)))
  const any = () => Math.floor(Math.random() * processes)
  return {
    events: () => logs.flatMap(({ path, index }) => readEvents(path, index)),
    async replace() {
      const index = any()
      const child = running[index] as ChildProcess
      const ended = once(child, 'exit')
      child.kill('SIGKILL')
      await ended
      running[index] = await start(index)
    },
    async freeze(ms: number) {
      const child = running[any()] as ChildProcess
      child.kill('SIGSTOP')
      await sleep(ms)
      child.kill('SIGCONT')
    },
    async stop() {
      await Promise.all(
        running.map(async (child) => {
          const ended = once(child, 'exit')
          child.send('stop')
          expect(await ended).toEqual([0, null])
        }),
      )
    },
  }
}

function trouble({ trouble: make, every = () => 400 }: World, processes: Processes) {
  const counts: Record<string, number> = {}
  let over = false
  const troubled = (async () => {
    for (let round = 0; make !== undefined && !over; round++) {
      await sleep(every())
      const what = await make(round, processes).catch(() => undefined)
      if (what !== undefined) counts[what] = (counts[what] ?? 0) + 1
    }
  })()
  return {
    counts,
    async end() {
      over = true
      await troubled
    },
  }
}

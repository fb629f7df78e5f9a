/**
 * Model checking against a real server: each command that a backend sends is a step, which waits to be picked and then
 * runs to its end before the next one is. A scenario is played again under every order of its steps, or as many as the
 * budget allows and random ones after that.
 */
import type { Commands } from '../../backends/memcached/commands.js'
import { seeded } from '../interleavings/explore.js'

export type Step = <R>(label: string, run: () => R | Promise<R>) => Promise<R>

export interface Explored {
  readonly runs: number
  readonly exhausted: boolean
}

export interface Budget {
  readonly runs: number
  readonly samples?: number
}

export async function exploreServer(
  scenario: (step: Step, run: number) => Promise<void>,
  budget: Budget,
): Promise<Explored> {
  const path: { pick: number; of: number }[] = []
  let runs = 0
  while (runs < budget.runs) {
    let depth = 0
    await play(scenario, runs++, (of) => {
      const known = path[depth++]
      if (known === undefined) path.push({ pick: 0, of })
      // What a server answers may depend on the time: an order that came out otherwise is still an order.
      return Math.min(known?.pick ?? 0, of - 1)
    })
    path.length = Math.min(path.length, depth)
    while (path.length > 0 && (path.at(-1)?.pick ?? 0) + 1 >= (path.at(-1)?.of ?? 0)) path.pop()
    const last = path.at(-1)
    if (last === undefined) return { runs, exhausted: true }
    last.pick++
  }
  const random = seeded(7)
  for (let i = 0; i < (budget.samples ?? 0); i++)
    await play(scenario, runs++, (of) => Math.floor(random() * of))
  return { runs, exhausted: false }
}

async function play(
  scenario: (step: Step, run: number) => Promise<void>,
  run: number,
  choose: (of: number) => number,
): Promise<void> {
  const waiting: { readonly label: string; readonly go: () => Promise<unknown> }[] = []
  const trace: string[] = []
  let over = false
  const step: Step = (label, work) =>
    new Promise((resolve, reject) => {
      const go = async () => {
        try {
          resolve(await work())
        } catch (error) {
          reject(error)
        }
      }
      waiting.push({ label, go })
    })
  const finished = scenario(step, run).finally(() => {
    over = true
  })
  finished.catch(() => {})
  await turn()
  while (!over) {
    // What a scenario prepares and checks is no step: it takes its time between them.
    for (let patience = performance.now() + 10_000; waiting.length === 0 && !over; await turn())
      if (performance.now() > patience) throw new Error(`Nothing can go on, after: ${trace.join(', ')}`)
    if (over) break
    const [picked] = waiting.splice(waiting.length === 1 ? 0 : choose(waiting.length), 1)
    trace.push(picked?.label ?? '')
    await picked?.go()
    await turn()
  }
  try {
    await finished
  } catch (error) {
    throw new Error(`${error instanceof Error ? error.message : String(error)}\nafter: ${trace.join(', ')}`, {
      cause: error,
    })
  }
}

const turn = () => new Promise<void>((resolve) => setImmediate(resolve))

/** Commands each of which is a step. */
export function stepped(commands: Commands, who: string, step: Step): Commands {
  return {
    get: (key) => step(`${who} get ${key}`, () => commands.get(key)),
    set: (key, value, seconds, guard) =>
      step(`${who} ${guard === 'absent' ? 'add' : guard === undefined ? 'set' : 'cas'} ${key}`, () =>
        commands.set(key, value, seconds, guard),
      ),
    delete: (key, guard) => step(`${who} delete ${key}`, () => commands.delete(key, guard)),
    increment: (key, start) => step(`${who} increment ${key}`, () => commands.increment(key, start)),
    close() {},
  }
}

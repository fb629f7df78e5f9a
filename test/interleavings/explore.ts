/**
 * Stateless model checking of the real code: every operation on the store is a step that waits to be picked, and a
 * scenario is run again and again until every order of steps was tried, or the budget is spent.
 */
export interface Schedule {
  /** Makes an operation a step: it runs, whole, when the scheduler picks it. */
  step<R>(label: string, run: () => R | Promise<R>): Promise<R>
  /** What was picked so far, to print when a check fails. */
  readonly trace: readonly string[]
}

export interface Explored {
  readonly runs: number
  readonly exhausted: boolean
}

interface Waiting {
  readonly label: string
  readonly go: () => void
}

/** A small seeded generator: runs beyond the budget of the systematic search are sampled, reproducibly. */
export function seeded(seed: number): () => number {
  let state = seed >>> 0
  return () => {
    state = (state + 0x6d2b79f5) >>> 0
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state)
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32
  }
}

/** Runs `scenario` under every order of its steps, at most `budget` of them, and then `samples` random ones. */
export async function explore(
  scenario: (schedule: Schedule) => Promise<void>,
  {
    budget,
    samples = 0,
    seed = 1,
  }: { readonly budget: number; readonly samples?: number; readonly seed?: number },
): Promise<Explored> {
  const path: { pick: number; of: number }[] = []
  let runs = 0
  for (;;) {
    let depth = 0
    await play(scenario, (of) => {
      const at = path[depth]
      const pick = at === undefined ? 0 : at.pick
      if (at === undefined) path.push({ pick, of })
      depth++
      return pick
    })
    runs++
    path.length = depth
    while (path.length > 0 && (path.at(-1)?.pick ?? 0) + 1 >= (path.at(-1)?.of ?? 0)) path.pop()
    const last = path.at(-1)
    if (last === undefined) return { runs, exhausted: true }
    last.pick++
    if (runs >= budget) break
  }
  const random = seeded(seed)
  for (let i = 0; i < samples; i++, runs++) await play(scenario, (of) => Math.floor(random() * of))
  return { runs, exhausted: false }
}

async function play(
  scenario: (schedule: Schedule) => Promise<void>,
  choose: (of: number) => number,
): Promise<void> {
  const waiting: Waiting[] = []
  const trace: string[] = []
  const schedule: Schedule = {
    trace,
    step: (label, run) =>
      new Promise((resolve, reject) => {
        const go = () => {
          try {
            resolve(run())
          } catch (error) {
            reject(error)
          }
        }
        waiting.push({ label, go })
      }),
  }
  let done = false
  const finished = scenario(schedule).finally(() => {
    done = true
  })
  finished.catch(() => {})
  await settled()
  while (!done) {
    if (waiting.length === 0) throw new Error(`Nothing can go on, after: ${trace.join(', ')}`)
    const [picked] = waiting.splice(waiting.length === 1 ? 0 : choose(waiting.length), 1)
    trace.push(picked?.label ?? '')
    picked?.go()
    await settled()
  }
  try {
    await finished
  } catch (error) {
    throw new Error(`${error instanceof Error ? error.message : String(error)}\nafter: ${trace.join(', ')}`, {
      cause: error,
    })
  }
}

/** Everything between two steps is microtasks, and so is over by the next turn of the loop. */
function settled(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve))
}

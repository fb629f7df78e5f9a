import { AsyncLocalStorage } from 'node:async_hooks'

/**
 * Stateless model checking of the real code: every operation on the store is a step that waits to be picked, and a
 * scenario is run again and again until every order of steps was tried, or the budget is spent.
 */
export interface Schedule {
  /** Makes an operation a step: it runs, whole, when the scheduler picks it. */
  step<R>(label: string, run: () => R | Promise<R>): Promise<R>
  /** Runs what one of those does who act at the same time: leaving him while he could go on is a preemption, and so is taking his steps out of their order. */
  actor<R>(name: string, work: () => Promise<R>): Promise<R>
  /** What was picked so far, to print when a check fails. */
  readonly trace: readonly string[]
}

export interface Explored {
  readonly runs: number
  readonly exhausted: boolean
}

interface Waiting {
  readonly label: string
  readonly actor: string
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

/**
 * Runs `scenario` under every order of its steps, at most `budget` of them, and then `samples` random ones. With
 * `preemptions` the systematic search is of the orders that have at most so many of them.
 */
export async function explore(
  scenario: (schedule: Schedule) => Promise<void>,
  {
    budget,
    samples = 0,
    seed = 1,
    preemptions = Number.POSITIVE_INFINITY,
  }: {
    readonly budget: number
    readonly samples?: number
    readonly seed?: number
    readonly preemptions?: number
  },
): Promise<Explored> {
  const path: { pick: number; of: number }[] = []
  let runs = 0
  let exhausted = budget <= 0
  while (runs < budget) {
    let depth = 0
    let spent = 0
    await play(scenario, (waiting, running) => {
      const free = preemptions === Number.POSITIVE_INFINITY ? [] : inTurn(waiting, running)
      const allowed = [...free]
      if (free.length === 0 || spent < preemptions)
        for (let i = 0; i < waiting.length; i++) if (!free.includes(i)) allowed.push(i)
      const at = path[depth]
      const pick = at === undefined ? 0 : at.pick
      if (at === undefined) path.push({ pick, of: allowed.length })
      depth++
      if (free.length > 0 && pick >= free.length) spent++
      return allowed[pick] as number
    })
    runs++
    path.length = depth
    while (path.length > 0 && (path.at(-1)?.pick ?? 0) + 1 >= (path.at(-1)?.of ?? 0)) path.pop()
    const last = path.at(-1)
    if (last === undefined) {
      exhausted = true
      break
    }
    last.pick++
  }
  if (exhausted && preemptions === Number.POSITIVE_INFINITY && budget > 0) return { runs, exhausted }
  const random = seeded(seed)
  const byChance = (waiting: readonly Waiting[]) => Math.floor(random() * waiting.length)
  let steps = 20
  for (let i = 0; i < samples; i++, runs++) {
    const choose =
      i % 2 === 0 || preemptions === Number.POSITIVE_INFINITY ? byChance : byRank(random, preemptions, steps)
    let depth = 0
    await play(scenario, (waiting) => (depth++, choose(waiting)))
    steps = depth
  }
  return { runs, exhausted: exhausted && budget > 0 }
}

/**
 * Actors go by rank until, at a few moments drawn beforehand, whoever is at it becomes the last. Orders that take few
 * well placed preemptions are found far sooner than by picking every step by chance.
 */
function byRank(random: () => number, preemptions: number, steps: number) {
  const ranks = new Map<string, number>()
  const moments = new Set(Array.from({ length: preemptions }, () => Math.floor(random() * steps)))
  let depth = 0
  let last = 0
  return (waiting: readonly Waiting[]): number => {
    for (const { actor } of waiting) if (!ranks.has(actor)) ranks.set(actor, random())
    const rank = ({ actor }: Waiting) => ranks.get(actor) ?? 0
    const first = () =>
      waiting.reduce((best, one, i) => (rank(one) > rank(waiting[best] as Waiting) ? i : best), 0)
    if (moments.has(depth++)) ranks.set(waiting[first()]?.actor ?? '', --last)
    return first()
  }
}

/** The oldest step of who is at it already; where he cannot go on, the oldest one of each. */
function inTurn(waiting: readonly Waiting[], running: string | undefined): number[] {
  const oldest = new Map<string, number>()
  waiting.forEach(({ actor }, i) => {
    if (!oldest.has(actor)) oldest.set(actor, i)
  })
  const own = oldest.get(running ?? '')
  return own === undefined ? [...oldest.values()] : [own]
}

const actors = new AsyncLocalStorage<string>()

async function play(
  scenario: (schedule: Schedule) => Promise<void>,
  choose: (waiting: readonly Waiting[], running: string | undefined) => number,
): Promise<void> {
  const waiting: Waiting[] = []
  const trace: string[] = []
  let running: string | undefined
  const schedule: Schedule = {
    trace,
    actor: (name, work) => actors.run(name, work),
    step: (label, run) =>
      new Promise((resolve, reject) => {
        const go = () => {
          try {
            resolve(run())
          } catch (error) {
            reject(error)
          }
        }
        waiting.push({ label, actor: actors.getStore() ?? '', go })
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
    const [picked] = waiting.splice(waiting.length === 1 ? 0 : choose(waiting, running), 1)
    running = picked?.actor
    trace.push(running ? `${running}: ${picked?.label}` : (picked?.label ?? ''))
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

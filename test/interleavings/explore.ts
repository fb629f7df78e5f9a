import { AsyncLocalStorage } from 'node:async_hooks'
import { seeded } from '../support/seeded.js'
import { turn } from '../support/waiting.js'
import { EVERYTHING, type Fingerprint, type Moments, moments, type Touched } from './moments.js'

/**
 * Stateless model checking of the real code: every operation on the store is a step that waits to be picked, and a
 * scenario is run again and again until every order of steps was tried, or the budget is spent.
 *
 * Most orders differ only in independent steps, and reach the same moment (`moments.ts`). If a moment comes up again,
 * with the same running actor and no more preemptions left than before, the search stops: all its continuations were
 * tried. A step lasts until nothing moves any more. A step without `touched` depends on everything.
 */
export interface Schedule {
  /**
   * Makes an operation a step: it runs, whole, when the scheduler picks it.
   * @param touched - the shared things that it reads and writes. Default: everything.
   */
  step<R>(label: string, run: () => R | Promise<R>, touched?: Touched): Promise<R>
  /**
   * Runs the work of one of several concurrent actors. It is a preemption to leave an actor while it could go on, and to
   * take its steps out of their order.
   * @param memory names the actor's state, beside the things that its steps touch. Actors that give the same name share
   *   that state: a step of one concerns them all. If it is the actor's own name, no other has it. Default: everything.
   */
  actor<R>(name: string, work: () => Promise<R>, memory?: string): Promise<R>
  /** Runs work without concurrency: steps are taken as they come. */
  alone<R>(work: () => Promise<R>): Promise<R>
  /** The step under way, or work that it starts, reads or writes something more. */
  touch(touched: Touched): void
  /** The picks so far, to print when a check fails. */
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

/** Picks one of the waiting steps; `undefined`: every continuation is known. */
type Choose = (
  waiting: readonly Waiting[],
  running: string | undefined,
  now: Moments['now'],
) => number | undefined

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
    again = false,
  }: {
    readonly budget: number
    readonly samples?: number
    readonly seed?: number
    readonly preemptions?: number
    /** Goes on from known moments, too: then every order is played. */
    readonly again?: boolean
  },
): Promise<Explored> {
  const path: { pick: number; of: number }[] = []
  const tried = new Tried()
  let runs = 0
  let exhausted = budget <= 0
  while (runs < budget) {
    let depth = 0
    let spent = 0
    await play(scenario, (waiting, running, now) => {
      const bounded = preemptions !== Number.POSITIVE_INFINITY
      const left = bounded ? preemptions - spent : 0
      const goingOn = bounded && waiting.some(({ actor }) => actor === running) ? running : undefined
      const at = path[depth]
      if (at === undefined && !again && !tried.isNew(now(goingOn ?? ''), left)) return undefined
      const free = bounded ? inTurn(waiting, running) : []
      const allowed = [...free]
      if (free.length === 0 || spent < preemptions)
        for (let i = 0; i < waiting.length; i++) if (!free.includes(i)) allowed.push(i)
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
    await play(scenario, (waiting) => (depth++, choose(waiting)), UNTOLD)
    steps = depth
  }
  return { runs, exhausted: exhausted && budget > 0 }
}

/**
 * Actors go by rank. At a few moments, drawn beforehand, the running actor becomes the last. Orders that need few well
 * placed preemptions are found far sooner than by picking every step by chance.
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

/** The oldest step of the running actor; where it cannot go on, the oldest one of each. */
function inTurn(waiting: readonly Waiting[], running: string | undefined): number[] {
  const oldest = new Map<string, number>()
  waiting.forEach(({ actor }, i) => {
    if (!oldest.has(actor)) oldest.set(actor, i)
  })
  const own = oldest.get(running ?? '')
  return own === undefined ? [...oldest.values()] : [own]
}

/** The moments seen so far, each with the most preemptions that were left. */
class Tried {
  readonly #left = new Map<number, number>()
  isNew({ high, low }: Fingerprint, left: number): boolean {
    const key = (high >>> 0) * 2 ** 21 + (low >>> 11)
    const rest = low & 2047
    const found = this.#left.get(key)
    if (found !== undefined && found % 2048 === rest && Math.floor(found / 2048) >= left) return false
    this.#left.set(key, left * 2048 + rest)
    return true
  }
  get size() {
    return this.#left.size
  }
}

interface Actor {
  readonly name: string
  readonly memory: string | undefined
  steps: number
}

const actors = new AsyncLocalStorage<Actor>()

/** Orders drawn at random keep no record of their moments. */
const UNTOLD: Moments = { open() {}, touch() {}, close() {}, now: () => ({ high: 0, low: 0 }) }

async function play(
  scenario: (schedule: Schedule) => Promise<void>,
  choose: Choose,
  at = moments(),
): Promise<void> {
  const waiting: Waiting[] = []
  const trace: string[] = []
  const nobody: Actor = { name: '', memory: undefined, steps: 0 }
  let running: string | undefined
  let freely = false
  let asking: Actor | undefined
  const enter = ({ memory = EVERYTHING }: Actor) => at.touch({ writes: [memory] })
  const letGo = () => {
    freely = true
    for (const { go } of waiting.splice(0)) go()
  }
  const schedule: Schedule = {
    trace,
    async alone(work) {
      const before = freely
      letGo()
      try {
        return await work()
      } finally {
        freely = before
      }
    },
    touch: at.touch,
    actor: (name, work, memory) => actors.run({ name, memory, steps: 0 }, work),
    step: (label, run, touched) =>
      new Promise((resolve, reject) => {
        const actor = actors.getStore() ?? nobody
        const id = `${actor.name} ${actor.steps++} ${label}`
        const go = () => {
          try {
            resolve(run())
          } catch (error) {
            reject(error)
          }
        }
        // Never before the tick is over: callers that share a request of one tick rely on its not having been sent yet.
        if (freely) return process.nextTick(go)
        // The actor of this step may have been waiting for the step under way.
        if (actor !== asking) enter(actor)
        waiting.push({
          label,
          actor: actor.name,
          go: () => {
            asking = touched?.asks && actor.memory === actor.name ? actor : undefined
            at.open(id, asking && `answers for ${actor.name}`)
            if (asking === undefined) enter(actor)
            at.touch({ reads: [EVERYTHING] })
            at.touch(touched ?? { writes: [EVERYTHING] })
            go()
          },
        })
      }),
  }
  let done = false
  const finished = scenario(schedule).finally(() => {
    done = true
  })
  finished.catch(() => {})
  await settled()
  at.close()
  const stuck = () => new Error(`Nothing can go on, after: ${trace.join(', ')}`)
  while (!done) {
    if (waiting.length === 0) throw stuck()
    const pick = waiting.length === 1 ? 0 : choose(waiting, running, at.now)
    if (pick === undefined) {
      trace.push('and so on')
      // The run ends, so that no work stays behind.
      letGo()
      break
    }
    const [picked] = waiting.splice(pick, 1) as [Waiting]
    running = picked.actor
    trace.push(running ? `${running}: ${picked.label}` : picked.label)
    picked.go()
    await settled()
    at.close()
  }
  try {
    if (freely) await settled()
    if (!done) throw stuck()
    await finished
  } catch (error) {
    throw new Error(`${error instanceof Error ? error.message : String(error)}\nafter: ${trace.join(', ')}`, {
      cause: error,
    })
  }
}

/** Only microtasks run between two steps, so they are over by the next turn of the loop. */
function settled(): Promise<void> {
  return turn()
}

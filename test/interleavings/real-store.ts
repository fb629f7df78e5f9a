/**
 * Model checking against a real store: each step waits to be picked and then runs to its end, however long the store
 * takes for it, before the next one is.
 */

import { seeded } from '../support/seeded.js'
import { turn } from '../support/waiting.js'

export type Step = <R>(label: string, run: () => R | Promise<R>) => Promise<R>

export interface Explored {
  readonly runs: number
  /** Every order was tried, except those that differ only in independent steps. */
  readonly exhausted: boolean
}

export interface Budget {
  readonly runs: number
  readonly samples?: number
}

/** A choice: the possible picks, those that lead only where another choice has led, and those that were tried. */
interface Choice {
  readonly labels: readonly string[]
  readonly asleep: ReadonlySet<string>
  readonly tried: Set<string>
  pick: string
}

/** Labels have the form `actor operation item`; two steps that read an item may change places. */
function unrelated(one: string, other: string): boolean {
  const [, what, item] = one.split(' ')
  const [, otherWhat, otherItem] = other.split(' ')
  return item !== otherItem || (what === 'get' && otherWhat === 'get')
}

/**
 * A scenario is played again under every order of its steps, or as many as the budget allows and random ones after that.
 */
export async function exploreStore(
  scenario: (step: Step, run: number) => Promise<void>,
  budget: Budget,
): Promise<Explored> {
  const path: Choice[] = []
  let runs = 0
  while (runs < budget.runs) {
    let depth = 0
    let parent: Choice | undefined
    let redundant = false
    await play(scenario, runs++, (labels) => {
      let choice = path[depth]
      if (choice === undefined && !redundant) {
        const before = parent
        const asleep = new Set(
          before === undefined
            ? []
            : [...before.asleep, ...before.tried].filter((label) => unrelated(label, before.pick)),
        )
        const pick = labels.find((label) => !asleep.has(label))
        redundant = pick === undefined
        if (pick !== undefined) path.push((choice = { labels, asleep, tried: new Set(), pick }))
      }
      depth++
      parent = choice
      // A server's reply may depend on the time: an order that came out otherwise is still an order.
      return choice === undefined ? 0 : Math.max(0, labels.indexOf(choice.pick))
    })
    path.length = Math.min(path.length, depth)
    for (let last = path.at(-1); last !== undefined; last = path.at(-1)) {
      const { labels, asleep, tried } = last
      tried.add(last.pick)
      const next = labels.find((label) => !asleep.has(label) && !tried.has(label))
      if (next !== undefined) {
        last.pick = next
        break
      }
      path.pop()
    }
    if (path.length === 0) return { runs, exhausted: true }
  }
  await sampleStore(scenario, budget.samples ?? 0, 7, runs)
  return { runs: runs + (budget.samples ?? 0), exhausted: false }
}

/** A scenario is played again under orders drawn at random, the same for the same seed. */
export async function sampleStore(
  scenario: (step: Step, run: number) => Promise<void>,
  samples: number,
  seed: number,
  from = 0,
): Promise<void> {
  const random = seeded(seed)
  for (let run = from; run < from + samples; run++)
    await play(scenario, run, (labels) => Math.floor(random() * labels.length))
}

async function play(
  scenario: (step: Step, run: number) => Promise<void>,
  run: number,
  choose: (labels: readonly string[]) => number,
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
    // The preparation and the checks of a scenario are no steps: they take their time between them.
    for (let patience = performance.now() + 10_000; waiting.length === 0 && !over; await turn())
      if (performance.now() > patience) throw new Error(`Nothing can go on, after: ${trace.join(', ')}`)
    if (over) break
    const [picked] = waiting.splice(choose(waiting.map(({ label }) => label)), 1)
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

import { bindContext } from '../base/async-context.js'
import { report } from '../base/diagnostics.js'
import { inBatches } from '../base/in-batches.js'
import { isPromise, native } from '../base/maybe-promise.js'
import { runDetached } from '../creation/renewal.js'
import { creationNode } from '../creation/wait-graph.js'
import type { HeldLease, LeasedCreations } from './create-and-fill.js'
import { Flight } from './flight.js'
import type { AsyncCreationRunner } from './runner.js'
import type { DogpileDriver } from './types.js'

/** The parts of a dogpile that work behind the backs of callers needs. */
export interface Background<V> {
  readonly owner: object
  readonly runner: AsyncCreationRunner | undefined
  readonly creations: LeasedCreations<V>
  /** Aborted when the region is closed. */
  readonly closing: AbortSignal
}

/** Hands stale keys to the runner. Its job holds the leases without their flights: those are for callers that wait. */
export function renewInBackground<V>(
  background: Background<V>,
  leases: readonly HeldLease<V>[],
  driver: DogpileDriver<V>,
): void {
  for (const { flight } of leases) {
    flight.close()
    flight.retry()
  }
  const keys = Object.freeze(leases.map(({ flight }) => flight.key))
  const { owner, creations, closing, runner = startAtOnce } = background
  const work = async (): Promise<void> => {
    // A job may have waited in a queue for longer than its leases lived.
    const still = await inBatches(leases, ({ flight, token }) => driver.renew?.(flight.key, token) ?? true)
    const live = leases.filter((_, i) => still[i])
    if (closing.aborted) return creations.release(live, driver)
    const liveKeys = live.map(({ flight }) => flight.key)
    const node = creationNode(owner, liveKeys)
    // The ledger's time is taken again: what was invalidated while the job was queued must not refuse its fill.
    const jobs = live.map(({ token, found, flight: { key } }) => ({
      token,
      found,
      flight: new Flight<V>(key, node),
    }))
    await runDetached(async () => {
      const results = jobs.map(({ flight }) => attend(flight, background, true, driver))
      // A creation that is given up ends its flights, and never itself.
      void creations.createAndFill(jobs, driver)
      await Promise.all(results)
    })
  }
  handOver(runner, keys, closing, driver, work, () => creations.release(leases, driver))
}

const startAtOnce: AsyncCreationRunner = (job) => void job.run()

/** Gives a runner work to do, once. */
function handOver<V>(
  runner: AsyncCreationRunner,
  keys: readonly string[],
  signal: AbortSignal,
  { origin }: DogpileDriver<V>,
  work: () => Promise<void>,
  undo: () => Promise<void> | void,
): void {
  const key = keys[0] as string
  const failed = async (error: unknown): Promise<void> => {
    report('failure', () => ({ where: 'asyncCreationRunner', ...origin, key, error }))
    await undo()
  }
  let running: Promise<void> | undefined
  try {
    // A queue runs the job when another one ends, and so in the context of that one's caller.
    const run = bindContext(() => (running ??= work().catch(failed)))
    const left: unknown = runner({ key, keys, signal, run })
    // A runner may be an async function, and no caller awaits it.
    if (isPromise(left)) (native(left) as Promise<unknown>).catch(failed)
  } catch (error) {
    void failed(error)
  }
}

/** Waits for a creation behind the backs of its callers: it goes on until it ends, is given up, or the region is closed. */
async function attend<V>(
  flight: Flight<V>,
  { creations, closing }: Pick<Background<V>, 'creations' | 'closing'>,
  leads: boolean,
  driver: DogpileDriver<V>,
): Promise<void> {
  const never = Number.POSITIVE_INFINITY
  try {
    await flight.wait({ wait: never, deadline: never, patience: never, signal: closing }, leads)
  } catch (error) {
    if (!closing.aborted && !flight.wasAbandoned) creations.unheard(flight.key, error, driver)
  }
}

/** Stands in for callers that took a value that stood. A runner counts the creation among its jobs. */
export function attendFor<V>(flight: Flight<V>, background: Background<V>, driver: DogpileDriver<V>): void {
  const { runner, closing } = background
  if (flight.isAttended) return
  flight.isAttended = true
  runDetached(() => {
    const ended = attend(flight, background, false, driver)
    if (runner !== undefined)
      handOver(
        runner,
        Object.freeze([flight.key]),
        closing,
        driver,
        () => ended,
        () => {},
      )
  })
}

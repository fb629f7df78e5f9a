import { bindContext } from '../base/async-context.js'
import { report } from '../base/diagnostics.js'
import { inBatches } from '../base/in-batches.js'
import { ignoreRejection, isPromise, native } from '../base/maybe-promise.js'
import { runDetached } from '../creation/renewal.js'
import { creationNode } from '../creation/wait-graph.js'
import type { HeldLease, LeasedCreations } from './create-and-fill.js'
import { Flight } from './flight.js'
import type { AsyncCreationRunner } from './runner.js'
import type { DogpileDriver } from './types.js'

export interface BackgroundRenewal<V> {
  readonly owner: object
  readonly runner: AsyncCreationRunner
  readonly creations: LeasedCreations<V>
  /** Aborted when the region is closed. */
  readonly closing: AbortSignal
}

/** Hands stale keys to the runner. Its job holds the leases without their flights: those are for callers that wait. */
export function renewInBackground<V>(
  { owner, runner, creations, closing }: BackgroundRenewal<V>,
  leases: readonly HeldLease<V>[],
  driver: DogpileDriver<V>,
): void {
  for (const { flight } of leases) {
    flight.close()
    flight.retry()
  }
  const keys = Object.freeze(leases.map(({ flight }) => flight.key))
  const background = async (): Promise<void> => {
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
      const never = Number.POSITIVE_INFINITY
      const limits = { wait: never, deadline: never, patience: never, signal: closing }
      const results = jobs.map(({ flight }) => ignoreRejection(flight.wait(limits, true)))
      // A creation that is given up ends its flights, and never itself.
      void creations.createAndFill(jobs, driver)
      await Promise.all(results)
    })
  }
  const failed = async (error: unknown): Promise<void> => {
    report('failure', () => ({ where: 'asyncCreationRunner', key: keys[0], error }))
    await creations.release(leases, driver)
  }
  let running: Promise<void> | undefined
  try {
    const left: unknown = runner({
      key: keys[0] as string,
      keys,
      signal: closing,
      // A queue runs the job when another one ends, and so in the context of that one's caller.
      run: bindContext(() => (running ??= background().catch(failed))),
    })
    // A runner may be an async function, and no caller awaits it.
    if (isPromise(left)) (native(left) as Promise<unknown>).catch(failed)
  } catch (error) {
    void failed(error)
  }
}

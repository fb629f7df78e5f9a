import { report } from '../base/diagnostics.js'
import { ignoreRejection, isPromise } from '../base/maybe-promise.js'
import { runDetached } from '../creation/renewal.js'
import { creationNode } from '../creation/wait-graph.js'
import { type HeldLease, type LeasedCreations, releaseLease } from './create-and-fill.js'
import { startFlight } from './flight.js'
import type { AsyncCreationRunner } from './runner.js'
import type { DogpileDriver } from './types.js'

export interface BackgroundRenewal<V> {
  readonly owner: object
  readonly runner: AsyncCreationRunner
  readonly maker: LeasedCreations<V>
  /** Aborted when nobody wants renewals any more. */
  readonly closing: AbortSignal
}

/** Hands stale keys to the runner. Its job holds the leases on its own: flights are for callers who wait. */
export function renewInBackground<V>(
  { owner, runner, maker, closing }: BackgroundRenewal<V>,
  claims: readonly HeldLease<V>[],
  steps: DogpileDriver<V>,
): void {
  const keys = claims.map(({ key }) => key)
  const background = async (): Promise<void> => {
    // A job may have waited in a queue for longer than its leases lived.
    const still = await Promise.all(claims.map(({ key, token }) => steps.renew?.(key, token) ?? true))
    const live = claims.filter((_, i) => still[i])
    if (live.length === 0) return
    if (closing.aborted) {
      await Promise.all(live.map(({ key, token }) => releaseLease(key, token, steps)))
      return
    }
    const work = creationNode(
      owner,
      live.map(({ key }) => key),
    )
    const jobs = live.map((claim) => ({ ...claim, flight: startFlight<V>(work) }))
    await runDetached(async () => {
      const limits = {
        wait: Number.POSITIVE_INFINITY,
        deadline: Number.POSITIVE_INFINITY,
        signal: closing,
      }
      const landings = jobs.map(({ flight }) => ignoreRejection(flight.wait(limits, true)))
      await maker.createAndFill(jobs, work, steps)
      await Promise.all(landings)
    })
  }
  const failed = async (error: unknown): Promise<void> => {
    report('failure', () => ({ where: 'asyncCreationRunner', key: keys[0], error }))
    await Promise.all(claims.map(({ key, token }) => releaseLease(key, token, steps)))
  }
  let running: Promise<void> | undefined
  try {
    const left: unknown = runner({
      key: keys[0] as string,
      keys,
      signal: closing,
      run: () => (running ??= background().catch(failed)),
    })
    // A runner may be an async function, whose failure would otherwise be nobody's.
    if (isPromise(left)) left.catch(failed)
  } catch (error) {
    void failed(error)
  }
}

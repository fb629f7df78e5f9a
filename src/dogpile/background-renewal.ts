import { report } from '../base/diagnostics.js'
import { handled, isPromise } from '../base/maybe-promise.js'
import { runApart, workOf } from '../creation/scope.js'
import { type Claim, giveBack, type Maker } from './create-and-fill.js'
import { takeOff } from './flight.js'
import type { AsyncCreationRunner } from './runner.js'
import type { Steps } from './types.js'

export interface HandOver<V> {
  readonly pile: object
  readonly runner: AsyncCreationRunner
  readonly maker: Maker<V>
  /** Aborted when nobody wants renewals any more. */
  readonly closing: AbortSignal
}

/** Hands stale keys to the runner. Its job holds the leases on its own: flights are for callers who wait. */
export function handOver<V>(
  { pile, runner, maker, closing }: HandOver<V>,
  claims: readonly Claim<V>[],
  steps: Steps<V>,
): void {
  const keys = claims.map(({ key }) => key)
  const background = async (): Promise<void> => {
    // A job may have waited in a queue for longer than its leases lived.
    const still = await Promise.all(claims.map(({ key, token }) => steps.renew?.(key, token) ?? true))
    const live = claims.filter((_, i) => still[i])
    if (live.length === 0) return
    if (closing.aborted) {
      await Promise.all(live.map(({ key, token }) => giveBack(key, token, steps)))
      return
    }
    const work = workOf(
      pile,
      live.map(({ key }) => key),
    )
    const jobs = live.map((claim) => ({ ...claim, flight: takeOff<V>(work) }))
    await runApart(async () => {
      const limits = {
        wait: Number.POSITIVE_INFINITY,
        deadline: Number.POSITIVE_INFINITY,
        signal: closing,
      }
      const landings = jobs.map(({ flight }) => handled(flight.wait(limits, true)))
      await maker.makeAndLand(jobs, work, steps)
      await Promise.all(landings)
    })
  }
  const failed = async (error: unknown): Promise<void> => {
    report('failure', () => ({ where: 'asyncCreationRunner', key: keys[0], error }))
    await Promise.all(claims.map(({ key, token }) => giveBack(key, token, steps)))
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

import type { MaybePromise } from './maybe-promise.js'

/** Operations that one call begins at once: enough to fill a round trip, few enough to let other callers in between. */
const BATCH = 1_000

/** Does the same for many items, a batch at a time. Returns the results in their order. */
export async function inBatches<T, R>(
  items: readonly T[],
  work: (item: T, at: number) => MaybePromise<R>,
): Promise<R[]> {
  if (items.length <= BATCH) return Promise.all(items.map(work))
  const results: R[] = []
  for (let at = 0; at < items.length; at += BATCH)
    results.push(...(await Promise.all(items.slice(at, at + BATCH).map((item, i) => work(item, at + i)))))
  return results
}

/** The outcome of the work for each item, in their order. */
export async function settledInBatches<T, R>(
  items: readonly T[],
  work: (item: T) => Promise<R>,
): Promise<readonly PromiseSettledResult<R>[]> {
  const outcomes: PromiseSettledResult<R>[] = []
  for (let at = 0; at < items.length; at += BATCH)
    outcomes.push(...(await Promise.allSettled(items.slice(at, at + BATCH).map(work))))
  return outcomes
}

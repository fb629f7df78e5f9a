/** Commands that a cluster is sent at once on behalf of one call: the other commands of the application must get through too. */
const BATCH = 1_000

/** Does the same for many keys of a cluster, with a command for each. Returns the results in their order. */
export async function inBatches<T, R>(
  items: readonly T[],
  work: (item: T, at: number) => Promise<R>,
): Promise<R[]> {
  if (items.length <= BATCH) return Promise.all(items.map(work))
  const results: R[] = []
  for (let at = 0; at < items.length; at += BATCH)
    results.push(...(await Promise.all(items.slice(at, at + BATCH).map((item, i) => work(item, at + i)))))
  return results
}

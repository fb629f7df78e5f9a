/** A value now, or later. Storage answers at once where it can, so that a memory chain costs one tick at any depth. */
export type MaybePromise<T> = T | Promise<T>

/** Tells whether a value is still to come. Thenables of other libraries count, cached payloads never reach this test. */
export function isPromise<T>(value: MaybePromise<T>): value is Promise<T> {
  return (
    typeof value === 'object' && value !== null && typeof (value as { then?: unknown }).then === 'function'
  )
}

/** Continues with a value, at once when it is here. Not named `then`: `import()` of such a module would call it. */
export function andThen<T, R>(value: MaybePromise<T>, next: (value: T) => MaybePromise<R>): MaybePromise<R> {
  return isPromise(value) ? value.then(next) : next(value)
}

/** How a promise that is not one yet, such as a place in a batch, is changed without becoming one. */
export const MAP_LAZILY: unique symbol = Symbol('changed')

interface LazyPromise<T> extends Promise<T> {
  [MAP_LAZILY]<R>(change: (value: T) => MaybePromise<R>): MaybePromise<R>
}

/**
 * Changes a value once it is here. Unlike `andThen` it may leave the change to whoever asks for the outcome, who then
 * waits for one promise and not for one of each layer: for changes without effects of their own.
 */
export function mapLazily<T, R>(
  value: MaybePromise<T>,
  change: (value: T) => MaybePromise<R>,
): MaybePromise<R> {
  if (!isPromise(value)) return change(value)
  return MAP_LAZILY in value ? (value as LazyPromise<T>)[MAP_LAZILY](change) : value.then(change)
}

/** Runs an attempt and recovers from its failure, whether it throws or rejects. */
export function orElse<T, R>(
  attempt: () => MaybePromise<T>,
  recover: (error: unknown) => MaybePromise<R>,
): MaybePromise<T | R> {
  try {
    const value = attempt()
    return isPromise(value) ? value.catch(recover) : value
  } catch (error) {
    return recover(error)
  }
}

/** All values, in order; a plain array when every one is here. */
export function all<T>(values: readonly MaybePromise<T>[]): MaybePromise<T[]> {
  for (const value of values) if (isPromise(value)) return Promise.all(values)
  return values as T[]
}

/** Does something for each item. A failure of one is that of all, thrown or rejected, and the others' are not left behind. */
export function mapEach<T, R>(
  items: readonly T[],
  work: (item: T, index: number) => MaybePromise<R>,
): MaybePromise<R[]> {
  const started: MaybePromise<R>[] = []
  for (const [index, item] of items.entries())
    try {
      started.push(work(item, index))
    } catch (error) {
      started.push(Promise.reject(error))
    }
  return all(started)
}

/** Swallows the failure of a promise that somebody else already answers for. */
export function ignoreRejection<T>(value: MaybePromise<T>): MaybePromise<T> {
  // A value that is no promise has no rejection.
  if (isPromise(value) && !(MAP_LAZILY in value)) value.catch(() => {})
  return value
}

import type { AnyFunction, Arguments } from './any-function.js'

/**
 * A value now, or later. A store in memory returns at once, so that a chain over it costs one tick at any depth.
 * @example
 * ```ts
 * import type { MaybePromise } from 'corral'
 *
 * export const doubled = async (value: MaybePromise<number>) => 2 * (await value)
 * ```
 */
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

/**
 * A thenable that user code returned, as a promise: other libraries' may lack `catch`, and their `then` may return nothing. Our
 * own lazy promises stay as they are.
 */
export function native<T>(value: MaybePromise<T>): MaybePromise<T> {
  return !isPromise(value) || MAP_LAZILY in value || value instanceof Promise ? value : Promise.resolve(value)
}

/** The method of a lazy promise, such as a place in a batch, that changes its value and leaves it lazy. */
export const MAP_LAZILY: unique symbol = Symbol('changed')

interface LazyPromise<T> extends Promise<T> {
  [MAP_LAZILY]<R, A>(change: (value: T, about: A) => MaybePromise<R>, about: A): MaybePromise<R>
}

/**
 * Changes a value once it is here. Unlike `andThen` it may run the change when a caller asks for the outcome. The caller
 * then waits for one promise instead of one of each layer. Only for changes without side effects.
 * @param about - passed on to the change: a function made for every read costs more than most changes
 */
export function mapLazily<T, R, A = undefined>(
  value: MaybePromise<T>,
  change: (value: T, about: A) => MaybePromise<R>,
  about?: A,
): MaybePromise<R> {
  if (!isPromise(value)) return change(value, about as A)
  return MAP_LAZILY in value
    ? (value as LazyPromise<T>)[MAP_LAZILY](change, about as A)
    : value.then((later) => change(later, about as A))
}

/** Runs an attempt and recovers from its failure, whether it throws or rejects. */
export function orElse<T, R>(
  attempt: () => MaybePromise<T>,
  recover: (error: unknown) => MaybePromise<R>,
): MaybePromise<T | R> {
  try {
    const value = attempt()
    return recovered(value, recover)
  } catch (error) {
    return recover(error)
  }
}

/** The value, from which a rejection recovers. It may be of user code, whose thenables may lack `catch`. */
export function recovered<T, R>(
  value: MaybePromise<T>,
  recover: (error: unknown) => MaybePromise<R>,
): MaybePromise<T | R> {
  return isPromise(value) ? (native(value) as Promise<T>).catch(recover) : value
}

/** The method of user code, whose thenables become promises. */
export function promising(method: AnyFunction): (this: unknown, ...given: Arguments) => unknown {
  return function (...given) {
    return native(method.apply(this, given as never))
  }
}

/** Runs work whose failures all reject, those that it throws at once too. A promise of the work is returned as it is. */
export function attempt<R>(work: () => MaybePromise<R>): Promise<R> {
  try {
    return Promise.resolve(work())
  } catch (error) {
    return Promise.reject(error)
  }
}

/** All values, in order; a plain array when every one is here. */
export function all<T>(values: readonly MaybePromise<T>[]): MaybePromise<T[]> {
  for (const value of values) if (isPromise(value)) return Promise.all(values)
  return values as T[]
}

/** Runs work for each item. A failure of one, thrown or rejected, is that of all; the others' rejections are handled. */
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

/** Ignores the rejection of a promise that another caller handles. */
export function ignoreRejection<T>(value: MaybePromise<T>): MaybePromise<T> {
  // A value that is no promise has no rejection.
  if (isPromise(value) && !(MAP_LAZILY in value)) (native(value) as Promise<T>).catch(() => {})
  return value
}

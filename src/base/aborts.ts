import { ignoreRejection, isPromise, type MaybePromise } from './maybe-promise.js'

interface Aborts {
  readonly waiting: Set<() => void>
  readonly listener: () => void
}

const aborts = new WeakMap<AbortSignal, Aborts>()

/** One listener for all waiters under a signal: a request's signal serves many calls, and Node warns from eleven on. */
export function addAbort(signal: AbortSignal, abort: () => void): void {
  let found = aborts.get(signal)
  if (found === undefined) {
    const waiting = new Set<() => void>()
    const listener = () => {
      for (const one of [...waiting]) one()
    }
    aborts.set(signal, (found = { waiting, listener }))
    signal.addEventListener('abort', listener, { once: true })
  }
  found.waiting.add(abort)
}

/** Without waiters the listener goes: Node keeps a signal of `AbortSignal.any` alive as long as it has one. */
export function removeAbort(signal: AbortSignal, abort: () => void): void {
  const found = aborts.get(signal)
  if (found === undefined) return
  found.waiting.delete(abort)
  if (found.waiting.size > 0) return
  aborts.delete(signal)
  signal.removeEventListener('abort', found.listener)
}

/** The result, unless the signal is aborted first: a store or a version check may hang. Callers without a signal pay nothing. */
export function untilAborted<T>(signal: AbortSignal | undefined, result: MaybePromise<T>): MaybePromise<T> {
  if (signal === undefined || !isPromise(result)) return result
  if (signal.aborted) {
    void ignoreRejection(result)
    return Promise.reject(signal.reason)
  }
  return new Promise((resolve, reject) => {
    const abort = () => reject(signal.reason)
    addAbort(signal, abort)
    // A thenable of another library may lack `finally`, and its `then` may return nothing.
    void Promise.resolve(result)
      .then(resolve, reject)
      .finally(() => removeAbort(signal, abort))
  })
}

/** The signals of jsdom before 25, which Jest's environment has, and those of `abort-controller` lack the method. */
export function throwIfAborted(signal: AbortSignal | undefined): void {
  if (signal?.aborted) throw signal.reason
}

export interface Follower {
  readonly signal: AbortSignal
  /** From now on the signal stays as it is. */
  stay(): void
}

/** A signal that follows another one until it is told to stay: work that is done counts, whatever becomes of its request. */
export function followed(signal: AbortSignal | undefined): Follower {
  const own = new AbortController()
  const abort = () => own.abort(signal?.reason)
  if (signal?.aborted) abort()
  else if (signal !== undefined) addAbort(signal, abort)
  return { signal: own.signal, stay: () => void (signal && removeAbort(signal, abort)) }
}

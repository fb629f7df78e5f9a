import { CorralError, formatValue } from '../base/errors.js'
import { andThen, isPromise, type MaybePromise } from '../base/maybe-promise.js'
import { delegate, type Overrides } from '../chain/proxy.js'
import type { Backend } from './backend.js'

/** Foreign failures of a chain as one typed error with the foreign one as its cause, thrown or rejected alike. */
export function guard<T>(next: Backend<T>): Backend<T> {
  const fail = (error: unknown): never => {
    throw backendError(next.name, error)
  }
  const tried = <R>(work: () => MaybePromise<R>): MaybePromise<R> => {
    try {
      const result = work()
      return isPromise(result) ? result.catch(fail) : result
    } catch (error) {
      return fail(error)
    }
  }
  const layer: Overrides<T> = {
    get: (key) => tried(() => next.get(key)),
    set: (key, value, options) => tried(() => next.set(key, value, options)),
    delete: (key) => tried(() => next.delete(key)),
    getMulti: (keys) => tried(() => next.getMulti(keys)),
    setMulti: (writes) => tried(() => next.setMulti(writes)),
    deleteMulti: (keys) => tried(() => next.deleteMulti(keys)),
    acquire: (key, ms, options) =>
      andThen(
        tried(() => next.acquire(key, ms, options)),
        (acquired) =>
          acquired.token === undefined ? { ...acquired, settled: acquired.settled.catch(fail) } : acquired,
      ),
    renew: (key, token, ms) => tried(() => next.renew(key, token, ms)),
    release: (key, token) => tried(() => next.release(key, token)),
    held: (key) => tried(() => next.held(key)),
    close: () => tried(() => next.close()),
    tracker: next.tracker && {
      ...next.tracker,
      asOf: (names) => tried(() => next.tracker?.asOf(names) as never),
      invalidate: (names, mode) => tried(() => next.tracker?.invalidate(names, mode)),
      judge: (snapshot) => tried(() => next.tracker?.judge(snapshot) as never),
      inspect: (key) => tried(() => next.tracker?.inspect(key) as never),
    },
  }
  return delegate(next, layer, true)
}

/** A foreign failure as a typed one. */
export function backendError(backend: string, error: unknown): CorralError {
  if (CorralError.is(error)) return error
  return new CorralError(
    'ERR_BACKEND',
    `Backend '${backend}' failed: ${error instanceof Error ? error.message : formatValue(error)}. See \`cause\`.`,
    { cause: error },
  )
}

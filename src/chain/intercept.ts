import type { Outcome } from '../backend/backend.js'
import { delegate } from '../backend/delegate.js'
import { CorralError, formatValue } from '../base/errors.js'
import type { MaybePromise } from '../base/maybe-promise.js'
import type { TransparentProxy } from './proxy.js'

/**
 * The name of an operation that `intercept` wraps.
 * @example
 * ```ts
 * import type { OperationName } from 'corral'
 *
 * export const reads: readonly OperationName[] = ['get', 'getMulti']
 * ```
 */
export type OperationName =
  | 'get'
  | 'set'
  | 'delete'
  | 'getMulti'
  | 'setMulti'
  | 'deleteMulti'
  | 'acquire'
  | 'renew'
  | 'release'
  | 'held'

/**
 * One operation of a backend, with its keys.
 * @example
 * ```ts
 * import type { Operation } from 'corral'
 *
 * export const line = ({ name, keys }: Operation) => `${name} ${keys.join(' ')}`
 * ```
 */
export interface Operation {
  readonly name: OperationName
  readonly keys: readonly string[]
}

/**
 * Goes around every operation: to time, log, count, retry or refuse it. `proceed` may be called again.
 * @example
 * ```ts
 * import { intercept } from 'corral'
 *
 * export const logged = intercept(({ name, keys }, proceed) => {
 *   console.log(name, keys)
 *   return proceed()
 * })
 * ```
 * @throws CorralError `ERR_OPTION` unless `around` is a function.
 */
export function intercept(
  around: <R>(operation: Operation, proceed: () => MaybePromise<R>) => MaybePromise<R>,
): TransparentProxy {
  if (typeof around !== 'function')
    throw new CorralError(
      'ERR_OPTION',
      `Expected intercept() to receive a function, got ${formatValue(around)}.`,
    )
  return (next) => {
    const one = <R>(name: OperationName, key: string, proceed: () => MaybePromise<R>) =>
      around({ name, keys: [key] }, proceed)
    return delegate(next, {
      get: (key) => one('get', key, () => next.get(key)),
      set: (key, value, options) => one<Outcome>('set', key, () => next.set(key, value, options)),
      delete: (key) => one('delete', key, () => next.delete(key)),
      getMulti: (keys) => around({ name: 'getMulti', keys }, () => next.getMulti(keys)),
      setMulti: (writes) =>
        around({ name: 'setMulti', keys: writes.map(([key]) => key) }, () => next.setMulti(writes)),
      deleteMulti: (keys) => around({ name: 'deleteMulti', keys }, () => next.deleteMulti(keys)),
      acquire: (key, ms, options) => one('acquire', key, () => next.acquire(key, ms, options)),
      renew: (key, token, ms) => one('renew', key, () => next.renew(key, token, ms)),
      release: (key, token) => one('release', key, () => next.release(key, token)),
      held: (key) => one('held', key, () => next.held(key)),
    })
  }
}

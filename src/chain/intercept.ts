import { aroundOperations, type KeyedOperation } from '../backend/around.js'
import { layerOver } from '../backend/delegate.js'
import { frozenCopy } from '../base/frozen.js'
import { andThen, type MaybePromise, native } from '../base/maybe-promise.js'
import { expectThat } from '../base/options.js'
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
export type OperationName = KeyedOperation

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
  expectThat(typeof around === 'function', around, 'intercept() to receive a function')
  return (next) =>
    layerOver(
      next,
      aroundOperations(next, (name, given, proceed) => {
        const keys = typeof given === 'string' ? [given] : frozenCopy(given)
        const fits = FITS[name]
        const answer = native(around({ name, keys }, proceed))
        return fits === undefined
          ? answer
          : andThen(answer, (result) => {
              expectThat(
                fits(result, keys),
                result,
                `the function of intercept() to return a result of ${name}()`,
                'Return what proceed() returned; if that is none, the layer below forgot it.',
              )
              return result
            })
      }),
    )
}

const isOutcome = (result: unknown) => result === 'stored' || result === 'lost' || result === 'refused'
const isOfEach = (result: unknown, keys: readonly string[]) =>
  Array.isArray(result) && result.length === keys.length

/** A forgotten `return` must not pass for a result. That of `get` is a miss like any other. */
const FITS: Partial<Record<OperationName, (result: unknown, keys: readonly string[]) => boolean>> = {
  set: isOutcome,
  setMulti: isOfEach,
  getMulti: isOfEach,
  acquire: (result) => typeof result === 'object' && result !== null,
}

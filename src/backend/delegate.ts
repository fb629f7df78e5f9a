import { andThen, type MaybePromise, mapEach, orElse } from '../base/maybe-promise.js'
import type { Backend } from './backend.js'
import { mapAcquired } from './lease.js'

/**
 * The members that a proxy may replace. Replacing a single form also governs its multi form.
 * @example
 * ```ts
 * import type { Overrides } from 'corral'
 *
 * export const alwaysMiss: Overrides<unknown> = { get: () => undefined }
 * ```
 */
export type Overrides<T> = Partial<
  Omit<Backend<T>, '~stores: put an encoding such as msgpack() around a backend of bytes' | 'actual'>
>

/**
 * A backend that forwards to `next` the members that the overrides do not replace. A multi form that is not replaced follows its
 * replaced single form, so that no operation bypasses a proxy. A value that a lease brings follows a replaced `get` too.
 * @example
 * ```ts
 * import { delegate, type TransparentProxy } from 'corral'
 *
 * export const readOnly: TransparentProxy = (next) => delegate(next, { set: () => 'refused' })
 * ```
 * @param bringsValues - the replaced `acquire` treats the value that a lease brings as `get` treats one that it reads.
 * `@default false`
 */
export function delegate<T>(next: Backend<T>, overrides: Overrides<T>, bringsValues = false): Backend<T> {
  const get = overrides.get ?? ((key) => next.get(key))
  const set = overrides.set ?? ((key, value, options) => next.set(key, value, options))
  const remove = overrides.delete ?? ((key) => next.delete(key))
  const acquire = overrides.acquire ?? ((key, ms, options) => next.acquire(key, ms, options))
  const release = overrides.release ?? ((key, token) => next.release(key, token))
  const replacesReads = READS.some((name) => name in overrides)
  return {
    name: overrides.name ?? next.name,
    get,
    set,
    delete: remove,
    getMulti:
      overrides.getMulti ??
      (overrides.get ? (keys) => mapEach(keys, (key) => get(key)) : (keys) => next.getMulti(keys)),
    setMulti:
      overrides.setMulti ??
      (overrides.set
        ? (writes) => mapEach(writes, ([key, value, options]) => set(key, value, options))
        : (writes) => next.setMulti(writes)),
    deleteMulti:
      overrides.deleteMulti ??
      (overrides.delete
        ? (keys) =>
            andThen(
              mapEach(keys, (key) => remove(key)),
              () => undefined,
            )
        : (keys) => next.deleteMulti(keys)),
    acquire: replacesReads && !bringsValues ? readingAgain({ get, acquire, release }) : acquire,
    renew: overrides.renew ?? ((key, token, ms) => next.renew(key, token, ms)),
    release,
    held: overrides.held ?? ((key) => next.held(key)),
    close: overrides.close ?? (() => next.close()),
    ledger: 'ledger' in overrides ? overrides.ledger : next.ledger,
    tracker: 'tracker' in overrides ? overrides.tracker : next.tracker,
    reach: overrides.reach ?? next.reach,
    stores: 'stores' in overrides ? overrides.stores : next.stores,
    limits: overrides.limits ?? next.limits,
    actual: next.actual,
  }
}

/** The members that a value passes on its way up: a ledger may know of an invalidation that the store does not. */
const READS = ['get', 'getMulti', 'ledger', 'tracker'] as const

/**
 * Completes a layer that was written as `{ ...next, get }`, without `delegate`: the value that a lease brings must not
 * bypass the reads that the layer replaces.
 */
export function governLeases<T>(layer: Backend<T>, next: Backend<T>): Backend<T> {
  if (layer.acquire !== next.acquire || READS.every((name) => layer[name] === next[name])) return layer
  return delegate(layer, { acquire: readingAgain(layer) }, true)
}

/** An `acquire` whose value comes from the layer's own `get`, and whose waiters read for themselves. */
function readingAgain<T>(layer: Pick<Backend<T>, 'get' | 'acquire' | 'release'>): Backend<T>['acquire'] {
  return (key, ms, options) =>
    andThen(layer.acquire(key, ms, options), (acquired) =>
      mapAcquired(
        // The layer's ledger may know more than the stamps of the store.
        acquired.token === undefined ? acquired : { ...acquired, stamps: undefined },
        ({ token }) =>
          orGiveBack(
            () => layer.get(key),
            () => layer.release(key, token),
          ),
        () => undefined,
      ),
    )
}

/** Runs a step after a grant. If it fails, the caller never learns the token, so the lease is given back here. */
export function orGiveBack<R>(
  step: () => MaybePromise<R>,
  giveBack: () => MaybePromise<unknown>,
): MaybePromise<R> {
  return orElse(step, (error) => {
    const fail = (): never => {
      throw error
    }
    return andThen(orElse(giveBack, fail), fail)
  })
}

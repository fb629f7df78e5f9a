import { andThen, type MaybePromise, mapEach, orElse, promising } from '../base/maybe-promise.js'
import { expectFunction, expectThat, rejectUnknownOptions } from '../base/options.js'
import { isPlainObject } from '../base/realms.js'
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
 * @throws CorralError `ERR_OPTION` for a member that no backend has, or without members.
 * @param bringsValues - the replaced `acquire` treats the value that a lease brings as `get` treats one that it reads.
 * `@default false`
 */
export function delegate<T>(next: Backend<T>, overrides: Overrides<T>, bringsValues = false): Backend<T> {
  expectThat(
    typeof overrides === 'object' && overrides !== null,
    overrides,
    'delegate() to receive the members to replace',
  )
  if (isPlainObject(overrides)) rejectUnknownOptions(overrides, MEMBERS, 'delegate()')
  for (const name of OPERATIONS)
    if (overrides[name] !== undefined) expectFunction(overrides[name], `\`${name}\` of delegate()`)
  return layerOver(next, overrides, bringsValues, withPromises(overrides))
}

const layers = new WeakSet<object>()

/** Declares that the operations of a layer return promises of this realm. */
export function asLayer<L extends object>(layer: L): L {
  layers.add(layer)
  return layer
}

/** The operations as an author wrote them, with promises of this realm: those of other libraries may lack `catch`. */
function withPromises<T>(written: Overrides<T>): Overrides<T> {
  const given = OPERATIONS.flatMap((name) =>
    written[name] === undefined ? [] : [[name, written[name]] as const],
  )
  return Object.fromEntries(given.map(([name, method]) => [name, promising(method)]))
}

/** The same as `delegate` for overrides that return promises of this realm or values: a hit pays for nothing more. */
export function layerOver<T>(
  next: Backend<T>,
  overrides: Overrides<T>,
  bringsValues = false,
  own: Overrides<T> = overrides,
): Backend<T> {
  const { get, set, delete: remove } = own
  const batches: Overrides<T> = {
    ...(get && { getMulti: (keys) => mapEach(keys, (key) => get(key)) }),
    ...(set && { setMulti: (writes) => mapEach(writes, (write) => set(...write)) }),
    ...(remove && {
      deleteMulti: (keys) =>
        andThen(
          mapEach(keys, (key) => remove(key)),
          () => undefined,
        ),
    }),
  }
  const operations = OPERATIONS.map((name) => [name, own[name] ?? batches[name] ?? next[name].bind(next)])
  const removable = REMOVABLE.map((name) => [name, name in overrides ? overrides[name] : next[name]])
  const layer: Backend<T> = {
    ...(Object.fromEntries(operations) as Pick<Backend<T>, (typeof OPERATIONS)[number]>),
    ...(Object.fromEntries(removable) as Pick<Backend<T>, (typeof REMOVABLE)[number]>),
    name: overrides.name ?? next.name,
    reach: overrides.reach ?? next.reach,
    keepsFailures: overrides.keepsFailures ?? next.keepsFailures,
    limits: overrides.limits ?? next.limits,
    storeKey: overrides.storeKey ?? next.storeKey,
    actual: next.actual,
  }
  const bypassed = !bringsValues && READS.some((name) => name in overrides)
  if (!bypassed) return asLayer(layer)
  return asLayer({ ...layer, acquire: readingAgain(layer), ifAbsentFrom: undefined })
}

/** All operations of a backend: every layer forwards those that it does not replace. */
export const OPERATIONS = [
  ...(['get', 'set', 'delete', 'getMulti', 'setMulti', 'deleteMulti'] as const),
  ...(['acquire', 'renew', 'release', 'held', 'ping', 'close'] as const),
] as const

/** The members that a layer may take away, by replacing them with `undefined`. */
const REMOVABLE = [
  ...(['ledger', 'tracker', 'ifAbsentFrom', 'stores'] as const),
  ...(['copyOut', 'capture', 'keys', 'near'] as const),
] as const

/** The members that a layer may replace. */
const MEMBERS: readonly string[] = [
  ...OPERATIONS,
  ...REMOVABLE,
  ...['name', 'reach', 'keepsFailures', 'limits', 'storeKey'],
]

/** The members that a value passes on its way up: a ledger may know of an invalidation that the store does not. */
const READS = ['get', 'getMulti', 'ledger', 'tracker'] as const

/**
 * Completes a layer that was written as `{ ...next, get }`, without `delegate`: the value that a lease brings must not
 * bypass the reads that the layer replaces, and thenables of other libraries are promises.
 */
export function governLeases<T>(written: Backend<T>, next: Backend<T>): Backend<T> {
  const isDone = written === next || layers.has(written)
  const layer = isDone ? written : layerOver(written, withPromises(bound(written)), true)
  if (written.acquire !== next.acquire || READS.every((name) => written[name] === next[name])) return layer
  return layerOver(layer, { acquire: readingAgain(layer), ifAbsentFrom: undefined }, true)
}

/** The operations with the object that they are methods of. */
function bound<T>(written: Backend<T>): Overrides<T> {
  return Object.fromEntries(OPERATIONS.map((name) => [name, written[name].bind(written)]))
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

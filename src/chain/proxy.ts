import type { Backend, Representation } from '../backend/backend.js'
import type { MaybePromise } from '../base/maybe-promise.js'

/**
 * A layer around a backend. `wrap` applies layers from the backend outwards.
 * @example
 * ```ts
 * import type { BackendProxy, Bytes, CachedValue } from 'corral'
 * import { msgpack } from 'corral/proxies/msgpack'
 *
 * export const encoding: BackendProxy<CachedValue, Bytes> = msgpack()
 * ```
 */
export type BackendProxy<Outer, Inner = Outer> = (next: Backend<Inner>) => Backend<Outer>

/**
 * A layer that does not read values, and so fits above and below an encoding.
 * @example
 * ```ts
 * import { delegate, type TransparentProxy } from 'corral'
 *
 * export const readOnly: TransparentProxy = (next) => delegate(next, { set: () => 'refused' })
 * ```
 */
export type TransparentProxy = <T>(next: Backend<T>) => Backend<T>

/**
 * Both directions of a change of representation. A layer may bind a value to its key.
 * @example
 * ```ts
 * import type { CachedValue, Codec } from 'corral'
 *
 * export const unchanged: Codec<CachedValue, CachedValue> = { encode: (value) => value, decode: (stored) => stored }
 * ```
 */
export interface Codec<Outer, Inner> {
  /** Names the layer in reports. @default 'codec' */
  readonly name?: string
  /** The representations below and above this layer; checked when the chain is built, for callers without types. */
  readonly inner?: Representation
  readonly outer?: Representation
  /** May throw: a value that cannot be kept is refused before anything is stored. */
  encode(value: Outer, key: string): MaybePromise<NoInfer<Inner>>
  /** `undefined`, or a throw: the stored value cannot be used. That is a miss, and is reported. */
  decode(stored: Inner, key: string): MaybePromise<NoInfer<Outer> | undefined>
  /** Asked about a stored value that `decode` did not return: an earlier version wrote it. A miss, and no report. */
  isOlder?(stored: NoInfer<Inner>, key: string): boolean
}

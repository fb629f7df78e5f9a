import type { Backend, Representation } from '../backend/backend.js'
import type { MaybePromise } from '../base/maybe-promise.js'

/** A layer around a backend. `wrap` applies layers from the backend outwards. */
export type BackendProxy<Outer, Inner = Outer> = (next: Backend<Inner>) => Backend<Outer>

/** A layer that does not look at values, and so fits above and below an encoding. */
export type TransparentProxy = <T>(next: Backend<T>) => Backend<T>

/** Both directions of a change of representation. The key comes along so that a layer can bind a value to it. */
export interface Codec<Outer, Inner> {
  /** Names the layer in reports. @default 'codec' */
  readonly name?: string
  /** The representations below and above this layer; checked when the chain is built, for callers without types. */
  readonly inner?: Representation
  readonly outer?: Representation
  /** May throw: a value that cannot be kept is refused before anything is stored. */
  encode(value: Outer, key: string): MaybePromise<NoInfer<Inner>>
  /** `undefined`, or a throw: the stored value is of no use. That is a miss, and is reported. */
  decode(stored: Inner, key: string): MaybePromise<NoInfer<Outer> | undefined>
}

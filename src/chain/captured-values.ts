import type { Backend } from '../backend/backend.js'
import { type CachedValue, isCachedValue, type Metadata } from '../backend/cached-value.js'
import { andThen, ignoreRejection, type MaybePromise, native, orElse } from '../base/maybe-promise.js'
import type { Codec } from './proxy.js'

/** The payloads of entries, kept as they were at the call: their metadata comes later, after a wait for the ledger. */
export interface CapturedValues<Outer, Inner> {
  capture(entry: Outer, keyOf: () => string): void
  /** The entry in the form of the layer below. `undefined`: it was not captured. */
  take(entry: Outer, key: string): MaybePromise<Inner> | undefined
}

/** Keeps payloads by encoding their entries at the call. A codec that waits gets them as it reads them before its first wait. */
export function capturedValues<Outer, Inner>(
  codec: Codec<Outer, Inner>,
  next: Backend<Inner>,
): CapturedValues<Outer, Inner> {
  /** Made when it is needed: most chains never wait before they encode. */
  let captured: WeakMap<object, MaybePromise<Kept<Inner>>> | undefined
  const keep = (inner: Inner, keyOf: () => string): Kept<Inner> => {
    if (!carriesMetadata(inner)) return { inner }
    // An object of its own, which gets its metadata later: by it the layers below know the payload that they captured.
    const draft = { payload: inner.payload, metadata: inner.metadata }
    next.capture?.(draft as Inner, keyOf)
    return { draft }
  }
  return {
    capture(entry, keyOf) {
      const draft = { payload: (entry as CachedValue).payload, metadata: { ...NO_METADATA } } as Outer
      const encoded = () => andThen(native(codec.encode(draft, keyOf())), (inner) => keep(inner, keyOf))
      // The write of a value that cannot be encoded is refused there, in the order of its keys.
      captured ??= new WeakMap()
      captured.set(entry as object, ignoreRejection(orElse(encoded, (error) => Promise.reject(error))))
    },
    take(entry, key) {
      const early = captured?.get(entry as object)
      if (early === undefined) return undefined
      const { metadata } = entry as CachedValue
      return andThen(early, (kept): MaybePromise<Inner> => {
        if ('draft' in kept) return Object.assign(kept.draft, { metadata }) as Inner
        // The codec wrote the metadata as well. Its copy of the payload is encoded with those of now.
        return andThen(native(codec.decode(kept.inner, key)), (copy) =>
          native(codec.encode(copy === undefined ? entry : { ...copy, metadata }, key)),
        )
      })
    },
  }
}

type Kept<Inner> = { readonly inner: Inner } | { readonly draft: CachedValue }

/** Of an entry whose metadata is still to come. */
const NO_METADATA: Metadata = { startedAt: 1, createdAt: 1 }

/** Whether a codec returned the metadata as they were, and so works on the payload alone. */
function carriesMetadata(inner: unknown): inner is CachedValue {
  if (!isCachedValue(inner)) return false
  const { startedAt, createdAt, ...more } = inner.metadata
  const isUnchanged = startedAt === NO_METADATA.startedAt && createdAt === NO_METADATA.createdAt
  return isUnchanged && Object.keys(more).length === 0
}

import type { MaybePromise } from '../base/maybe-promise.js'
import type { CopyMark } from '../ledger/tail.js'
import type { CachedValue } from './cached-value.js'

/** The near cache of a chain, as the layers above it and the region see it. Keys are those of the layer. */
export interface NearCache {
  /** ms after which an invalidation of another process is seen at the latest. */
  readonly maxStaleness: number
  /**
   * Runs a read of keys once their copies are proved: all changes that the store had acknowledged `within` ms before the call are
   * known. The proof holds for the synchronous part of the read: a layer that waits before it passes the read on loses it.
   * @param within - ms. @default `maxStaleness`
   */
  proved<R>(keys: readonly string[], read: () => MaybePromise<R>, within?: number): MaybePromise<R>
  /**
   * Keeps a copy of an entry that this layer returned from the store. To be called once the entry was judged fresh by a reading of
   * the ledger that began after the entry's own: the store may still have an entry whose names were invalidated long ago.
   */
  keep(entry: CachedValue): void
  /** ms since the question was sent whose reply proves the copies. */
  proofAge(): number
  /** Runs a read that no copy may serve. */
  beyond<R>(read: () => R): R
}

/** Where a value came from, for diagnostics. Empty for a chain without a near cache. */
export function tierOf(
  near: NearCache | undefined,
  entry: CachedValue | undefined,
): { readonly tier?: 'near' | 'far'; readonly proofAge?: number } {
  if (near === undefined) return {}
  return isCopy(entry) ? { tier: 'near', proofAge: near.proofAge() } : { tier: 'far' }
}

/** Whether an entry is a copy that a near cache returned. */
export function isCopy(entry: CachedValue | undefined): entry is CachedValue {
  // Foreign data may be in the place of an entry. A store that clones or encodes metadata loses the places of a mark.
  return typeof (entry as Partial<CachedValue> | null | undefined)?.metadata?.near?.key === 'number'
}

/** Whether an entry is a copy that nothing proves, served because the store is away. */
export function isBlind({ metadata }: CachedValue): boolean {
  return metadata.blind === true
}

/** A copy serves no read any more, since the store may have a newer value. */
export function discard({ metadata }: CachedValue): void {
  // Not by its key: a layer between may wait before it passes the next read on.
  const mark = metadata.near as CopyMark
  mark.key = Number.NEGATIVE_INFINITY
}

/** A discarded copy counts again, since the store has failed. It is judged by all changes after the read that brought it. */
export function restore({ metadata }: CachedValue): void {
  const mark = metadata.near as CopyMark
  mark.key = mark.place
}

import type { DependencySnapshot } from '../ledger/snapshot.js'

export interface Metadata {
  /** Epoch ms, taken before the creator ran; decides every question of invalidation where no ledger does. */
  readonly startedAt: number
  /** Epoch ms, taken when the creator returned; decides age and expiry only. */
  readonly createdAt: number
  /** The entry's own expiration time in ms; absent: the region's. */
  readonly expiresIn?: number
  /** The dependencies of the entry, if its chain keeps a ledger. */
  readonly snapshot?: DependencySnapshot
  /** A soft invalidation is newer: serve only while one caller renews. */
  readonly stale?: boolean
  /** Made from what a region tracks, by one that tracks nothing: no invalidation of that reaches what is made from it. */
  readonly untracked?: boolean
}

/** The entry that a backend of objects stores, and that every chain passes to its region. */
export interface CachedValue<V = unknown> {
  readonly payload: V
  readonly metadata: Metadata
}

/** The bytes that a backend of encoded values stores. A name of its own keeps compile errors readable. */
export interface Bytes extends Uint8Array {}

/** A miss at the region, where `undefined` and `null` are legitimate payloads. Compare with `===`. */
export const NO_VALUE: unique symbol = Symbol.for('corral.NO_VALUE') as never
export type NoValue = typeof NO_VALUE

/** Guards against entries that a foreign writer or a hand-made codec may have left in the store. */
export function isCachedValue(value: unknown): value is CachedValue {
  if (typeof value !== 'object' || value === null || !('payload' in value)) return false
  const metadata = (value as { metadata?: unknown }).metadata
  if (typeof metadata !== 'object' || metadata === null) return false
  const { startedAt, createdAt } = metadata as Partial<Metadata>
  return typeof startedAt === 'number' && typeof createdAt === 'number'
}

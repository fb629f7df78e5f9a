import { copyPlain } from '../base/parts.js'
import type { DependencySnapshot } from '../ledger/snapshot.js'
import type { CopyMark } from '../ledger/tail.js'

/**
 * The facts that are stored with a value.
 * @example
 * ```ts
 * import type { Metadata } from 'corral'
 *
 * export const age = ({ createdAt }: Metadata) => Date.now() - createdAt
 * ```
 */
export interface Metadata {
  /** Epoch ms, taken before the creator ran; decides every question of invalidation where no ledger does. */
  readonly startedAt: number
  /** Epoch ms, taken when the creator returned; decides age and expiry only. */
  readonly createdAt: number
  /** The entry's own expiration time in ms; absent: the region's. */
  readonly expiresIn?: number
  /** ms after its expiry for which the entry may be served as stale; absent: the region's `grace`. */
  readonly standsFor?: number
  /** The dependencies of the entry, if its chain keeps a ledger. */
  readonly snapshot?: DependencySnapshot
  /** A soft invalidation is newer: serve only while one caller renews. */
  readonly stale?: boolean
  /** Created from tracked values by a region that tracks nothing: their invalidations do not reach this entry's readers. */
  readonly untracked?: boolean
  /** Only on a copy that a near cache returned. Never stored elsewhere. */
  readonly near?: CopyMark
  /** Only on such a copy: the store is away, so that nothing proves it. */
  readonly blind?: boolean
}

/**
 * Metadata whose fields are added in one order, and only where they say something. Entries then share few hidden classes of
 * the engine: with one for each entry, as copies by spread had them, reads are slow and entries large.
 */
export function metadataOf(
  startedAt: number,
  createdAt: number,
  snapshot?: DependencySnapshot,
  expiresIn?: number,
): { -readonly [field in keyof Metadata]: Metadata[field] } {
  if (snapshot === undefined)
    return expiresIn === undefined ? { startedAt, createdAt } : { startedAt, createdAt, expiresIn }
  return expiresIn === undefined
    ? { startedAt, createdAt, snapshot }
    : { startedAt, createdAt, snapshot, expiresIn }
}

/** A copy for user code, which may change nothing of the stored entry. */
export function frozenMetadata(metadata: Metadata): Metadata {
  return copyPlain(metadata, Object.freeze)
}

/**
 * The entry that a backend of objects stores, and that every chain passes to its region.
 * @example
 * ```ts
 * import type { CachedValue } from 'corral'
 *
 * const now = Date.now()
 * export const entry: CachedValue<string> = { payload: 'Ada', metadata: { startedAt: now, createdAt: now } }
 * ```
 */
export interface CachedValue<V = unknown> {
  readonly payload: V
  readonly metadata: Metadata
}

/**
 * The bytes that a backend of encoded values stores. A name of its own keeps compile errors readable.
 * @example
 * ```ts
 * import type { Bytes } from 'corral'
 *
 * export const bytes: Bytes = new TextEncoder().encode('Ada')
 * ```
 */
export interface Bytes extends Uint8Array {}

/**
 * A miss at the region, where `undefined` and `null` are legitimate payloads. Compare with `===`.
 * @example
 * ```ts
 * import { NO_VALUE, type Region } from 'corral'
 *
 * export const has = async (region: Region, key: string) => (await region.get(key)) !== NO_VALUE
 * ```
 */
export const NO_VALUE: unique symbol = Symbol.for('corral.NO_VALUE') as never
/**
 * The type of `NO_VALUE`.
 * @example
 * ```ts
 * import { NO_VALUE, type NoValue } from 'corral'
 *
 * export const orElse = <V>(value: V | NoValue, other: V) => (value === NO_VALUE ? other : value)
 * ```
 */
export type NoValue = typeof NO_VALUE

/** Guards against entries that a foreign writer or a hand-made codec may have left in the store. */
export function isCachedValue(value: unknown): value is CachedValue {
  if (typeof value !== 'object' || value === null || !('payload' in value)) return false
  const metadata = (value as { metadata?: unknown }).metadata
  if (typeof metadata !== 'object' || metadata === null) return false
  const { startedAt, createdAt } = metadata as Partial<Metadata>
  return typeof startedAt === 'number' && typeof createdAt === 'number'
}

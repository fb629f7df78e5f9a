/**
 * Pure decisions about time: whether an entry is fresh by its age, and how long a store keeps it. A policy about the life
 * of entries belongs into this folder; nothing here does I/O or reads a clock.
 */
import type { Metadata } from '../backend/cached-value.js'

/** How long an entry is fresh, in ms: the caller's wish, else the entry's own, else the region's. */
export function freshFor(metadata: Metadata, wish: number | undefined, regional: number): number {
  return wish ?? metadata.expiresIn ?? regional
}

/** ms by which the clocks of two machines may differ, so that one creates an entry in the other's future. */
const SKEW = 1_000

/** Whether the age of an entry or a soft invalidation makes it stale. */
export function isStale(metadata: Metadata, limit: number, now: number): boolean {
  if (metadata.stale === true) return true
  if (limit === Number.POSITIVE_INFINITY) return false
  const age = now - metadata.createdAt
  // The clock was ahead when an entry from the future was created. Its true age is unknown: it would live too long.
  return age > limit || age < -Math.min(limit, SKEW)
}

/** How long a store keeps an entry: as long again as it is fresh, at least a minute, so that it can be served stale. */
export function physicalLifetime(fresh: number): { readonly ttl?: number } {
  return fresh === Number.POSITIVE_INFINITY ? {} : { ttl: fresh + Math.max(fresh, 60_000) }
}

/** How long a created entry is fresh for the caller that waits longest: the creation's wish may exceed the entry's own. */
export function longestFresh(metadata: Metadata, wish: number | undefined, regional: number): number {
  const own = metadata.expiresIn ?? regional
  if (wish === undefined) return own
  return own === Number.POSITIVE_INFINITY ? wish : Math.max(wish, own)
}

/**
 * Pure decisions about time: whether an entry is fresh by its age, and how long a store keeps it. A policy about the life
 * of entries belongs into this folder; nothing here does I/O or reads a clock.
 */
import type { Metadata } from '../backend/cached-value.js'
import type { Freshness } from '../ledger/ledger.js'

/**
 * How long an entry is fresh, in ms: the caller's wish, else the entry's own, else the region's. A wish is shortened by the
 * part that `jitter` has taken from the entry's own lifetime, so that all callers with one wish agree.
 */
export function freshFor(
  { expiresIn: own }: Metadata,
  wish: number | undefined,
  regional: number,
  jitter = 0,
): number {
  if (wish === undefined) return own ?? regional
  if (jitter === 0 || own === undefined) return wish
  const of = [wish, regional].find((life) => own <= life && own >= life * (1 - jitter) - 1)
  return of === undefined || of === Number.POSITIVE_INFINITY ? wish : (wish * own) / of
}

/** ms by which the clocks of two machines may differ, so that one creates an entry in the other's future. */
const SKEW = 1_000

/** Whether the age of an entry or a soft invalidation makes it stale. */
function isStale(metadata: Metadata, limit: number, now: number): boolean {
  if (metadata.stale === true) return true
  if (limit === Number.POSITIVE_INFINITY) return false
  const age = now - metadata.createdAt
  // The clock was ahead when an entry from the future was created. Its true age is unknown: it would live too long.
  return age > limit || age < -Math.min(limit, SKEW)
}

/**
 * Whether an entry is fresh, stale or gone, by its age and its mark.
 * @param grace - ms; `undefined`: the default
 */
export function freshnessByAge(
  metadata: Metadata,
  wish: number | undefined,
  regional: number,
  grace: number | undefined,
  now: number,
  jitter?: number,
): Freshness {
  const limit = freshFor(metadata, wish, regional, jitter)
  if (!isStale(metadata, limit, now)) return 'fresh'
  if (grace === 0 || metadata.standsFor === 0) return 'invalid'
  return graceAge(metadata, now) > endOfGrace(metadata, limit, regional, grace) ? 'invalid' : 'stale'
}

/** The age by which grace ends. An entry from the future counts as old as its clock was ahead, since it is not younger. */
function graceAge({ createdAt }: Metadata, now: number): number {
  return Math.max(now - createdAt, createdAt - now - SKEW)
}

/** The age in ms up to which an entry may be served stale. */
function endOfGrace(metadata: Metadata, limit: number, regional: number, given: number | undefined): number {
  const grace = metadata.standsFor ?? given
  if (grace !== undefined) return limit + grace
  const own = metadata.expiresIn ?? regional
  return Math.max(limit, own) + defaultGrace(own)
}

/** ms for which an entry may still be served stale. */
export function graceLeft(
  metadata: Metadata,
  wish: number | undefined,
  regional: number,
  grace: number | undefined,
  now: number,
  jitter?: number,
): number {
  const limit = freshFor(metadata, wish, regional, jitter)
  return endOfGrace(metadata, limit, regional, grace) - graceAge(metadata, now)
}

/** As long again as the entry is fresh, at least a minute. */
function defaultGrace(fresh: number): number {
  return Math.max(fresh, 60_000)
}

/** How long a store keeps an entry: as long as it is fresh, and as long after that as it may be served stale. */
export function physicalLifetime(fresh: number, grace = defaultGrace(fresh)): { readonly ttl?: number } {
  return fresh === Number.POSITIVE_INFINITY ? {} : { ttl: fresh + grace }
}

/**
 * How long a store keeps an entry from its soft mark on: for the grace, but not beyond the end that the entry has anyway.
 * @param age - ms since the entry was created
 */
export function markedLifetime(
  fresh: number,
  grace: number | undefined,
  age: number,
): { readonly ttl?: number } {
  const { ttl } = physicalLifetime(fresh, grace)
  if (ttl === undefined) return grace === undefined ? {} : { ttl: grace }
  const left = ttl - Math.max(0, age)
  return { ttl: grace === undefined ? Math.max(60_000, left) : Math.max(1, Math.min(grace, left)) }
}

/**
 * The lifetime of an entry, shortened by a random part of at most `jitter`, so that entries of one moment expire one after
 * another. In whole ms, which encodings store in fewer bytes. `undefined`: the region's lifetime.
 */
export function jittered(
  own: number | undefined,
  regional: number,
  jitter: number,
  random: () => number = Math.random,
): number | undefined {
  const fresh = own ?? regional
  if (jitter === 0 || fresh === Number.POSITIVE_INFINITY) return own
  return Math.max(1, Math.round(fresh * (1 - jitter * random())))
}

/** How long a created entry is fresh for the caller that waits longest: the creation's wish may exceed the entry's own. */
export function longestFresh(metadata: Metadata, wish: number | undefined, regional: number): number {
  const own = metadata.expiresIn ?? regional
  if (wish === undefined) return own
  return own === Number.POSITIVE_INFINITY ? wish : Math.max(wish, own)
}

/**
 * Whether a fresh entry is to be renewed ahead of its end.
 * @param ahead - the part of its life after which it is; `'xfetch'`: by chance, the earlier the longer its creation took
 */
export function isDue(
  { startedAt, createdAt }: Metadata,
  fresh: number,
  ahead: number | 'xfetch',
  now: number,
  random: () => number = Math.random,
): boolean {
  if (fresh === Number.POSITIVE_INFINITY) return false
  const age = now - createdAt
  if (ahead !== 'xfetch') return age >= fresh * ahead
  return age - Math.max(createdAt - startedAt, 1) * Math.log(1 - random()) >= fresh
}

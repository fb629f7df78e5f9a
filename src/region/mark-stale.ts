import type { Outcome } from '../backend/backend.js'
import { isCachedValue } from '../backend/cached-value.js'
import { CorralError } from '../base/errors.js'
import { type KeyedQueue, keyedQueue } from '../base/keyed-queue.js'
import { longestFresh, markedLifetime } from '../freshness/freshness.js'
import type { RegionState } from './state.js'

/**
 * How often a soft invalidation tries to mark an entry before it removes the entry. Marks of one process take turns, so each
 * attempt fails for one mark of another process at most that gets through.
 */
const ATTEMPTS = 10

/** Of the marks of a region, by its backend. */
const queues = new WeakMap<object, KeyedQueue>()

/**
 * Marks one key stale: takes its lease, which voids creations under way, and rewrites the entry's metadata under that token.
 * A change that voids the token meanwhile is newer than the mark, unless the lease merely expired: hence the repetition.
 *
 * Marks of one key take each other's leases, and the one that loses its lease cannot know whether the other one succeeds. If
 * each process has a store of its own, the others hear only of a mark that does. So the marks take turns.
 */
export async function markStale(
  region: RegionState,
  key: string,
  grace = region.policy.grace,
  wish?: number,
): Promise<void> {
  const { backend } = region
  let inTurn = queues.get(backend)
  if (inTurn === undefined) queues.set(backend, (inTurn = keyedQueue()))
  await inTurn(key, () => mark(region, key, grace, wish))
}

async function mark(
  region: RegionState,
  key: string,
  grace: number | undefined,
  wish: number | undefined,
): Promise<void> {
  for (let attempt = 0; attempt < ATTEMPTS; attempt++) {
    const outcome = await tryToMark(region, key, grace, wish)
    if (outcome === 'stored') return
    // By a layer that stores no such value. The others must hear of the mark nevertheless.
    if (outcome === 'refused') break
  }
  await region.backend.delete(key)
}

async function tryToMark(
  region: RegionState,
  key: string,
  regional: number | undefined,
  wish: number | undefined,
): Promise<Outcome> {
  const { backend, leaseMs, tracker, precise } = region
  const acquired = await backend.acquire(key, leaseMs, { steal: true, names: tracker && [] })
  if (acquired.token === undefined)
    throw new CorralError('ERR_BACKEND', `Backend '${backend.name}' did not hand over the lease of '${key}'.`)
  const { token, found } = acquired
  try {
    const grace = isCachedValue(found) ? (found.metadata.standsFor ?? regional) : regional
    if (isCachedValue(found) && grace !== 0) {
      const { payload, metadata } = found
      const fresh = longestFresh(metadata, wish, region.expiration)
      const left = markedLifetime(fresh, grace, precise.now() - metadata.createdAt)
      const marked = { payload, metadata: { ...metadata, stale: true } }
      return await backend.set(key, marked, { ...left, token, mark: true })
    }
    // Nothing is ever served stale. And an entry that cannot be read here may still exist: in another process's store, for a later
    // session, or for a newer version of the application.
    await backend.delete(key)
    return 'stored'
  } catch (error) {
    await backend.release(key, token)
    throw error
  }
}

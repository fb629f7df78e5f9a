import type { Outcome } from '../backend/backend.js'
import { isCachedValue } from '../backend/cached-value.js'
import { CorralError } from '../base/errors.js'
import { longestFresh, markedLifetime } from '../freshness/freshness.js'
import type { RegionState } from './state.js'

/** How often a soft invalidation tries to mark an entry before it removes the entry. */
const ATTEMPTS = 3

/**
 * Marks one key stale: takes its lease, which voids creations under way, and rewrites the entry's metadata under that token.
 * A change that voids the token meanwhile is newer than the mark, unless the lease merely expired: hence the repetition.
 */
export async function markStale(
  region: RegionState,
  key: string,
  grace = region.policy.grace,
  wish?: number,
): Promise<void> {
  for (let attempt = 0; attempt < ATTEMPTS; attempt++)
    if ((await tryToMark(region, key, grace, wish, attempt > 0)) !== 'lost') return
  await region.backend.delete(key)
}

async function tryToMark(
  region: RegionState,
  key: string,
  regional: number | undefined,
  wish: number | undefined,
  isRepeated: boolean,
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
      // Marks of one moment void each other's leases, and the last of them stands: the others need none of their own.
      if (isRepeated && metadata.stale === true) {
        await backend.release(key, token)
        return 'stored'
      }
      const fresh = longestFresh(metadata, wish, region.expiration)
      const left = markedLifetime(fresh, grace, precise.now() - metadata.createdAt)
      return await backend.set(key, { payload, metadata: { ...metadata, stale: true } }, { ...left, token })
    }
    // Nothing is ever served stale. And an entry that cannot be read here may still exist: in another process's store, for a later session, or for a newer
    // version of the application.
    await backend.delete(key)
    return 'stored'
  } catch (error) {
    await backend.release(key, token)
    throw error
  }
}

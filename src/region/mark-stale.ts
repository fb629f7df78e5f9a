import type { Outcome } from '../backend/backend.js'
import { isCachedValue } from '../backend/cached-value.js'
import { CorralError } from '../base/errors.js'
import { type Configured, physicalLifetime } from './freshness.js'

/** How often a soft invalidation tries to mark an entry before it removes it instead. */
const MARKINGS = 3

/**
 * Marks one key stale: takes its lease, which voids creations under way, and rewrites its metadata under that token.
 * Whatever voids the token meanwhile is newer than the mark, unless the lease merely expired: hence the repetition.
 */
export async function markStale(region: Configured, key: string): Promise<void> {
  for (let attempt = 0; attempt < MARKINGS; attempt++) if ((await tryToMark(region, key)) !== 'lost') return
  await region.backend.delete(key)
}

async function tryToMark(region: Configured, key: string): Promise<Outcome> {
  const { backend } = region
  const { token } = await backend.acquire(key, region.leaseMs, { steal: true })
  if (token === undefined)
    throw new CorralError('ERR_BACKEND', `Backend '${backend.name}' did not hand over the lease of '${key}'.`)
  let outcome: Outcome | undefined
  try {
    const found = await backend.get(key)
    if (isCachedValue(found)) {
      const { payload, metadata } = found
      const { ttl } = physicalLifetime(metadata.expiresIn ?? region.expiration)
      const left =
        ttl === undefined ? {} : { ttl: Math.max(60_000, ttl - (region.precise.now() - metadata.createdAt)) }
      outcome = await backend.set(
        key,
        { payload, metadata: { ...metadata, stale: true } },
        { ...left, token },
      )
    } else {
      // What cannot be read here and now may be there all the same: in other processes' stores, for a later session, for a
      // newer version of the application.
      await backend.delete(key)
      outcome = 'stored'
    }
    return outcome
  } finally {
    if (outcome === undefined) await backend.release(key, token)
  }
}

import { isCachedValue } from '../backend/cached-value.js'
import { namesOf } from '../ledger/snapshot.js'
import { freshnessOf } from './serve.js'
import type { RegionState } from './state.js'
import type { Explanation } from './types.js'

/** Reads a key below the chain too, which hides entries that it does not vouch for. */
export async function explain(region: RegionState, key: string): Promise<Explanation> {
  const { backend, tracker, precise } = region
  const [served, inspected, locked] = await Promise.all([
    backend.get(key),
    tracker?.inspect(key),
    backend.held(key),
  ])
  const found = inspected === undefined ? served : inspected.entry
  const entry = isCachedValue(found) ? found : undefined
  const invalidated = inspected?.invalidatedNames ?? []
  const base = {
    invalidated,
    locked,
    dependsOn:
      entry?.metadata.snapshot === undefined
        ? []
        : [...namesOf(entry.metadata.snapshot), ...(entry.metadata.snapshot.versions ?? [])],
  }
  if (entry === undefined)
    return { ...base, verdict: 'miss', reason: 'nothing is stored, or nothing that can be decoded' }
  const { createdAt, expiresIn = region.expiration, snapshot } = entry.metadata
  const facts = { ...base, age: precise.now() - createdAt, expiresIn }
  if (served === undefined)
    return {
      ...facts,
      verdict: 'miss',
      reason:
        snapshot === undefined
          ? 'it was stored without a record of what it was made from'
          : `invalidated: ${invalidated.join(', ') || 'just now'}`,
    }
  const verdict = await freshnessOf(region, key, served, undefined)
  if (verdict === 'fresh') return { ...facts, verdict: 'hit', reason: 'fresh' }
  if (verdict === 'invalid') return { ...facts, verdict: 'miss', reason: 'the region was invalidated since' }
  return {
    ...facts,
    verdict: 'stale',
    reason:
      facts.age > expiresIn
        ? `expired ${Math.round(facts.age - expiresIn)} ms ago`
        : `softly invalidated${invalidated.length > 0 ? `: ${invalidated.join(', ')}` : ''}`,
  }
}

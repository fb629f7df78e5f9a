import { isCachedValue, type Metadata } from '../backend/cached-value.js'
import { tierOf } from '../backend/near-cache.js'
import { namesOf } from '../ledger/snapshot.js'
import { ageOf, freshnessOf, newest } from './serve.js'
import type { RegionState } from './state.js'
import type { Explanation } from './types.js'

/** Reads a key below the chain too, which hides entries that it does not vouch for. */
export async function explain(region: RegionState, key: string): Promise<Explanation> {
  const { backend, tracker, precise } = region
  // As a read does it: a copy that is not fresh is no answer.
  const first = await backend.get(key)
  const served = await newest(region, key, region.keyOf(key), first, region.terms)
  const [inspected, locked] = await Promise.all([tracker?.inspect(key), backend.held(key)])
  const found = inspected === undefined ? served : inspected.entry
  const invalidated = inspected?.invalidatedNames ?? []
  if (!isCachedValue(found))
    return {
      verdict: 'miss',
      reason: 'nothing is stored, or nothing that can be decoded',
      dependsOn: [],
      invalidated,
      locked,
    }
  const { createdAt, expiresIn = region.expiration, snapshot } = found.metadata
  const dependsOn = snapshot === undefined ? [] : [...namesOf(snapshot), ...(snapshot.versions ?? [])]
  const tier = served === undefined ? {} : tierOf(backend.near, served)
  const facts = { ...tier, age: precise.now() - createdAt, expiresIn, dependsOn, invalidated, locked }
  const names = invalidated.length > 0 ? `: ${invalidated.join(', ')}` : ''
  if (served === undefined) {
    const reason =
      snapshot === undefined
        ? 'it was stored without a record of what it was made from'
        : `invalidated${names || ': just now'}`
    return { ...facts, verdict: 'miss', reason }
  }
  const why = () => whyStale(found.metadata, facts.age, expiresIn, names)
  switch (await freshnessOf(region, key, served, region.terms)) {
    case 'fresh':
      return { ...facts, verdict: 'hit', reason: 'fresh' }
    case 'invalid': {
      const isOver = ageOf(region, found.metadata, region.terms) === 'invalid'
      return { ...facts, verdict: 'miss', reason: isOver ? why() : 'the region was invalidated since' }
    }
    case 'stale':
      return { ...facts, verdict: 'stale', reason: why() }
  }
}

function whyStale(metadata: Metadata, age: number, expiresIn: number, names: string): string {
  if (age > expiresIn) return `expired ${Math.round(age - expiresIn)} ms ago`
  const isMarked = metadata.stale === true || names !== ''
  return isMarked || age >= 0
    ? `softly invalidated${names}`
    : `created ${Math.round(-age)} ms in the future, by a clock that was ahead`
}

import type { Outcome, WriteOptions } from '../backend/backend.js'
import type { CachedValue } from '../backend/cached-value.js'
import { completeBackend } from '../backend/define-backend.js'
import { coarseClock } from '../base/clock.js'
import { remembered } from '../dependencies/call-registry.js'
import { track } from '../dependencies/tracking-layer.js'
import { memoryLedger } from '../ledger/memory-ledger.js'
import { validate } from '../ledger/validate.js'
import { makeRegion } from '../region/region.js'
import type { Region } from '../region/types.js'

interface Kept {
  readonly value: CachedValue
  readonly expiresAt: number
}

/** A region in this process that keeps the entries used last, for functions that are given none. */
export function boundedRegion(maxSize: number): Region {
  const kept = new Map<string, Kept>()
  const ledger = memoryLedger()
  const get = (key: string): CachedValue | undefined => {
    const found = kept.get(key)
    if (found === undefined) return undefined
    kept.delete(key)
    if (found.expiresAt <= coarseClock.now()) return undefined
    kept.set(key, found)
    return found.value
  }
  const set = (key: string, value: CachedValue, { ttl, ifCurrent }: WriteOptions): Outcome => {
    kept.delete(key)
    if (ifCurrent !== undefined && validate(ledger.open(ifCurrent.clock), ifCurrent.snapshot) !== 'fresh')
      return 'refused'
    kept.set(key, { value, expiresAt: coarseClock.now() + (ttl ?? Number.POSITIVE_INFINITY) })
    const [oldest] = kept.keys()
    if (kept.size > maxSize && oldest !== undefined) kept.delete(oldest)
    return 'stored'
  }
  const backend = completeBackend<CachedValue>({
    name: 'versioned',
    timeout: Number.POSITIVE_INFINITY,
    get,
    set,
    delete: (key) => void kept.delete(key),
    ledger,
  })
  return makeRegion({ backend: track(backend, ledger, { calls: remembered }) })
}

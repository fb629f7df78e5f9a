import { type CachedFunction, CorralError, type Region } from 'corral'

/** Where a page came from, for a header and for the foot of the page. */
export interface Origin {
  readonly verdict: 'hit' | 'stale' | 'miss'
  readonly why: string
}

/**
 * Calls a cached function and tells where its value came from. It asks before the call, as the call itself changes the answer. That is
 * one more read for each page: leave it out where nobody looks at it.
 */
export async function withOrigin<A extends unknown[], T>(
  region: Region,
  fn: CachedFunction<A, T>,
  ...args: A
): Promise<{ readonly value: T; readonly origin: Origin }> {
  const origin = await originOf(region, fn.key(...args))
  return { value: await fn(...args), origin }
}

async function originOf(region: Region, key: string): Promise<Origin> {
  try {
    const { verdict, reason } = await region.explain(key)
    return { verdict, why: reason }
  } catch (error) {
    if (!CorralError.is(error)) throw error
    return { verdict: 'miss', why: error.code }
  }
}

/** The header of RFC 9211. */
export function cacheStatus({ verdict, why }: Origin): string {
  const result = verdict === 'hit' ? 'hit' : `fwd=${verdict}`
  // A header has no other signs than these.
  return `corral; ${result}; detail="${why.replace(/[^ !#-[\]-~]/g, '?')}"`
}

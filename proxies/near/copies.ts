/** The copies of a near cache. */
import type { WriteOptions } from '../../src/backend/backend.js'
import type { CachedValue, Metadata } from '../../src/backend/cached-value.js'
import { cloned } from '../../src/base/cloned.js'
import { frozen } from '../../src/base/frozen-value.js'
import { physicalLifetime } from '../../src/freshness/freshness.js'
import type { CopyMark } from '../../src/ledger/tail.js'

/** ms. A copy whose own lifetime is unknown is read again from time to time, so that it leaves the near store some day. */
const COPY_LIFE = 3_600_000

/** Its fields are private, because a store may freeze its entries. */
export class Mark implements CopyMark {
  #key: number
  #names: number

  /** @param hasBytes - whether the payload has parts that cannot be frozen */
  constructor(
    readonly place: number,
    readonly hasBytes: boolean,
  ) {
    this.#key = place
    this.#names = place
  }

  get key(): number {
    return this.#key
  }

  set key(place: number) {
    this.#key = place
  }

  get names(): number {
    return this.#names
  }

  set names(place: number) {
    this.#names = place
  }
}

/** The copy for one caller. Bytes cannot be frozen, so each caller gets its own. */
export function forCaller(copy: CachedValue): CachedValue {
  const { payload, metadata } = copy
  return (metadata.near as Partial<Mark>).hasBytes ? { payload: frozen(cloned(payload)), metadata } : copy
}

/** Longer by the time in which no read can bring a copy again. */
export function lifeOf({ expiresIn }: Metadata, blindFor: number): WriteOptions {
  const { ttl } = expiresIn === undefined ? { ttl: COPY_LIFE } : physicalLifetime(expiresIn)
  return ttl === undefined ? {} : { ttl: ttl + blindFor }
}

import { createHash } from 'node:crypto'
import { expectFunction, expectInteger, factory } from '../base/options.js'
import type { KeyMangler } from './map-keys.js'

/**
 * A key as the 40 hexadecimal digits of its SHA-1: short keys for stores that limit their length.
 * @example
 * ```ts
 * import { mapKeys, sha1 } from 'corral'
 *
 * export const short = mapKeys(sha1)
 * ```
 */
export const sha1: KeyMangler = (key) => createHash('sha1').update(key).digest('hex')

/**
 * A key as the 64 hexadecimal digits of its SHA-256: for keys from strangers, which might search for collisions.
 * @example
 * ```ts
 * import { mapKeys, sha256 } from 'corral'
 *
 * export const short = mapKeys(sha256)
 * ```
 */
export const sha256: KeyMangler = (key) => createHash('sha256').update(key).digest('hex')

/**
 * Mangles only keys of more than `length` UTF-16 units, so that the others stay readable.
 * @example
 * ```ts
 * import { mapKeys, sha1, whenLongerThan } from 'corral'
 *
 * export const short = mapKeys(whenLongerThan(200, sha1))
 * ```
 * @throws CorralError `ERR_OPTION` unless `length` is an integer from 0 up.
 */
export const whenLongerThan: (length: number, mangler: KeyMangler) => KeyMangler = /* @__PURE__ */ factory({
  whenLongerThan(length, mangler) {
    expectInteger(length, 'the length in whenLongerThan()', 0)
    expectFunction(mangler, 'the mangler in whenLongerThan()')
    return (key) => (key.length > length ? mangler(key) : key)
  },
})

import { type KeyMangler, mapKeys, type TransparentProxy } from '../src/chain/proxy.js'

/**
 * Changes every key by a function of yours, such as `sha256` or `whenLongerThan(200, sha1)`. Different keys must stay
 * different.
 * @throws CorralError `ERR_OPTION` unless `mangler` is a function.
 */
export function mangle(mangler: KeyMangler): TransparentProxy {
  return mapKeys(mangler)
}

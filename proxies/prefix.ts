import { expectNoOptions, expectText } from '../src/base/options.js'
import { isShared, noticeAbove, withKeys } from '../src/chain/map-keys.js'
import type { TransparentProxy } from '../src/chain/proxy.js'

/**
 * Puts a text before every key, and before the names of the ledger of the layers above: applications share a store
 * without meeting. It stands below `dependencies()`, one for all regions of an application, so that they share a ledger;
 * above `dependencies()` it maps keys only, and applications would invalidate each other's regions.
 * @example
 * ```ts
 * import { makeRegion, wrap } from 'corral'
 * import { redis } from 'corral/backends/redis'
 * import { dependencies } from 'corral/proxies/dependencies'
 * import { msgpack } from 'corral/proxies/msgpack'
 * import { prefix } from 'corral/proxies/prefix'
 *
 * const store = wrap(redis('redis://localhost'), msgpack(), prefix('shop:'), dependencies())
 * const users = makeRegion({ name: 'users', backend: store })
 * ```
 * @throws CorralError `ERR_OPTION` unless `text` is a non-empty string, and for an option: it takes none.
 */
export function prefix(text: string, ...options: readonly []): TransparentProxy {
  expectNoOptions(options, 'prefix()')
  expectText(text, 'the text of prefix()', "a non-empty string such as 'users:'")
  return (next) => {
    if (isShared(next)) noticeAbove('prefix', text, `prefix('${text}')`)
    return withKeys(next, text)
  }
}

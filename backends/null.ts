import type { Backend } from '../src/backend/backend.js'
import type { CachedValue } from '../src/backend/cached-value.js'
import { completeBackend } from '../src/backend/define-backend.js'
import { localLeases } from '../src/backend/lease.js'
import { expectNoOptions } from '../src/base/options.js'

/**
 * Stores nothing: switches a region off without touching its callers, which still share one creation at a time.
 * @example
 * ```ts
 * import { makeRegion } from 'corral'
 * import { memory } from 'corral/backends/memory'
 * import { nullBackend } from 'corral/backends/null'
 *
 * const backend = process.env.CACHE === 'off' ? nullBackend() : memory()
 * const users = makeRegion<string>({ name: 'users', backend })
 * ```
 * @throws CorralError `ERR_OPTION` for an option: it takes none.
 */
export function nullBackend(...options: readonly []): Backend<CachedValue> {
  expectNoOptions(options, 'nullBackend()')
  const leases = localLeases()
  return completeBackend<CachedValue>({
    name: 'null',
    stores: 'values',
    get: () => undefined,
    set(key, _, { token }) {
      if (token === undefined) leases.revoke(key)
      else if (!leases.release(key, token)) return 'lost'
      return 'stored'
    },
    delete: (key) => leases.revoke(key),
    acquire: leases.acquire,
    renew: leases.renew,
    release: leases.release,
    keepsFailures: true,
    held: leases.held,
  })
}

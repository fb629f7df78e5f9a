import type { Backend } from '../../src/backend/backend.js'
import type { Bytes } from '../../src/backend/cached-value.js'
import { backendOver } from './backend.js'
import { commandsOf } from './client/commands.js'
import { openServer } from './client/server.js'
import { type MemcachedOptions, type MemjsClient, settingsOf } from './options.js'

export type { MemcachedOptions, MemjsClient }

/**
 * A backend over one or more memcached servers: bytes, a fenced lease, and a ledger of invalidations that all
 * processes share. It speaks the binary protocol over one connection to each server, and connects when first used.
 *
 * @param given servers as `'host:port'`, several in a list; a client of memjs, whose servers and credentials are used;
 * or options: `servers`, `username` and `password` (SASL), `tls`, `timeout` of an operation (default 1 s), longest
 * pause between two `probe`s of a dead server (default 2 s).
 * @throws CorralError `ERR_OPTION` at once. Operations reject with `ERR_UNAVAILABLE` (a server is down), `ERR_TIMEOUT`,
 * `ERR_VALUE_TOO_LARGE`, `ERR_UNSUPPORTED` (the server runs with `-C`), `ERR_BACKEND` (it refused) or `ERR_CLOSED`.
 *
 * @example
 * ```ts
 * import { wrap } from 'corral'
 * import { memcached } from 'corral/backends/memcached'
 * import { msgpack } from 'corral/proxies/msgpack'
 *
 * const backend = wrap(memcached(['cache1:11211', 'cache2:11211']), msgpack())
 * ```
 */
export function memcached(
  given: string | readonly string[] | MemjsClient | MemcachedOptions,
): Backend<Bytes> {
  const { addresses, probe, ...settings } = settingsOf(given)
  const servers = addresses.map((address) => openServer(address, probe, settings.maxWaiting))
  return backendOver(commandsOf(servers), settings)
}

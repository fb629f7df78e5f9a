import type { RootDatabase } from 'lmdb'
import type { Backend } from '../../src/backend/backend.js'
import type { Bytes } from '../../src/backend/cached-value.js'
import { ownOptions } from '../../src/base/options.js'
import { backendOver } from './backend.js'
import { openTarget } from './client/open-file.js'
import { openStore } from './client/store.js'
import { type LmdbOptions, settingsOf } from './options.js'

export type { LmdbOptions }

/**
 * A backend in one file that all processes of the machine share and that survives restarts. Reads are synchronous, so
 * `peek` works; writes go through lmdb's writer thread. Leases, fenced fills and invalidations are compared and written
 * in one transaction.
 *
 * @param target a path (a name with an extension is the file, any other a folder for it), or a database of lmdb that is
 * open already, which the backend shares and never closes.
 * @throws CorralError `ERR_OPTION` on a wrong option; `ERR_UNAVAILABLE` if the file cannot be written; `ERR_UNSUPPORTED`
 * if it is of a newer format, or no LMDB file.
 *
 * @example
 * ```ts
 * import { wrap } from 'corral'
 * import { lmdb } from 'corral/backends/lmdb'
 * import { msgpack } from 'corral/proxies/msgpack'
 *
 * const backend = wrap(lmdb('cache.mdb'), msgpack())
 * ```
 */
export function lmdb(target: string | RootDatabase, options: LmdbOptions = {}): Backend<Bytes> {
  options = ownOptions(options)
  const settings = settingsOf(target, options)
  const file = openTarget(target, { ...options, timeout: settings.timeout })
  const store = openStore(file.entries, file.bookkeeping, settings.timeout, file.gate)
  return backendOver(store, { ...settings, dataFile: file.dataFile, release: file.close })
}

import type { RootDatabase } from 'lmdb'
import type { Backend } from '../../src/backend/backend.js'
import type { Bytes } from '../../src/backend/cached-value.js'
import { type Duration, milliseconds } from '../../src/base/duration.js'
import { CorralError, formatValue } from '../../src/base/errors.js'
import { rejectUnknownOptions } from '../../src/base/options.js'
import { backendOver } from './backend.js'
import { openDatabase, openPath } from './client/open-file.js'
import { openStore } from './client/store.js'

export interface LmdbOptions {
  /**
   * Bytes that entries and bookkeeping may take, in pages of the file. Beyond it the oldest go first, with a second
   * chance for what this process has read lately. @default 268_435_456 (256 MiB)
   */
  readonly maxBytes?: number
  /** How often expired entries are swept. @default '30s' */
  readonly sweepEvery?: Duration
  /** How long an operation may take before it rejects with `ERR_TIMEOUT`; it is not carried out later, as far as the file was not waiting for it already. @default '10s' */
  readonly timeout?: Duration
  /** Bytes of address space to begin with. The map grows by itself; only a path takes this. @default lmdb's own */
  readonly mapSize?: number
  /** Processes that may use the file at a time; only a path takes this. @default 126 */
  readonly maxReaders?: number
}

const OPTIONS = ['maxBytes', 'sweepEvery', 'timeout', 'mapSize', 'maxReaders'] as const
const OF_A_PATH = ['mapSize', 'maxReaders'] as const

/**
 * A backend in one file that all processes of the machine share and that survives restarts. Reads are synchronous, so
 * `peek` works; writes go through lmdb's writer thread. Leases, fenced fills and invalidations are compared and written
 * in one transaction.
 *
 * Give it a path (a name with an extension is the file, any other a folder for it), or a database of lmdb that is open
 * already, which it then shares and never closes.
 * @throws CorralError `ERR_OPTION` on a wrong option; `ERR_UNAVAILABLE` when the file cannot be written; `ERR_UNSUPPORTED`
 * when it is of a newer format, or no LMDB file.
 */
export function lmdb(target: string | RootDatabase, options: LmdbOptions = {}): Backend<Bytes> {
  rejectUnknownOptions(options, OPTIONS, 'lmdb()')
  const maxBytes = integer('maxBytes', options.maxBytes ?? 2 ** 28, 65_536)
  const timeout = milliseconds(options.timeout ?? '10s', 'timeout')
  const sweepEvery = milliseconds(options.sweepEvery ?? '30s', 'sweepEvery')
  for (const name of OF_A_PATH) {
    if (options[name] === undefined) continue
    if (typeof target !== 'string')
      throw new CorralError(
        'ERR_OPTION',
        `Expected no \`${name}\` beside a database that is open already: give it to lmdb's open().`,
      )
    integer(name, options[name], 1)
  }
  const file = openTarget(target, options)
  return backendOver(openStore(file.entries, file.bookkeeping, timeout), {
    dataFile: file.dataFile,
    maxBytes,
    sweepEvery,
    timeout,
    release: file.close,
  })
}

function openTarget(target: unknown, options: LmdbOptions) {
  if (typeof target === 'string' && target !== '') return openPath(target, options)
  if (
    typeof target === 'object' &&
    target !== null &&
    typeof (target as { openDB?: unknown }).openDB === 'function'
  )
    return openDatabase(target as RootDatabase)
  throw new CorralError(
    'ERR_OPTION',
    `Expected lmdb() to receive a path, or a database that lmdb's open() returned, got ${formatValue(target)}.`,
  )
}

function integer(name: string, value: unknown, least: number): number {
  if (typeof value === 'number' && Number.isSafeInteger(value) && value >= least) return value
  throw new CorralError(
    'ERR_OPTION',
    `Expected \`${name}\` of lmdb() to be an integer from ${least} up, got ${formatValue(value)}.`,
  )
}

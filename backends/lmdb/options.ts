import type { RootDatabase } from 'lmdb'
import { type Duration, milliseconds } from '../../src/base/duration.js'
import { expectInteger, expectThat, rejectUnknownOptions } from '../../src/base/options.js'
import { MAX_DELAY } from '../../src/base/timers.js'

/**
 * The options of `lmdb()`.
 *
 * @example
 * ```ts
 * import { lmdb } from 'corral/backends/lmdb'
 *
 * const backend = lmdb('cache.mdb', { maxBytes: 64 * 2 ** 20, sweepEvery: '5s' })
 * ```
 */
export interface LmdbOptions {
  /**
   * Bytes that entries and bookkeeping may take, in pages of the file. Beyond it the oldest entries are evicted first;
   * an entry that this process has read lately gets a second chance. @default 268_435_456 (256 MiB)
   */
  readonly maxBytes?: number | undefined
  /** How often expired entries are swept. @default '30s' */
  readonly sweepEvery?: Duration | undefined
  /**
   * How long an operation may take before it rejects with `ERR_TIMEOUT`. It is not carried out later, unless the file was
   * waiting for it already. @default '10s'
   */
  readonly timeout?: Duration | undefined
  /**
   * Before a transaction commits, the names that it is about to change are marked, so that they are invalidated also if its
   * process dies between the commit and the invalidation. For how long, if nothing ends the mark: it must exceed the commit.
   * `false`: they are not marked. @default '30s'
   */
  readonly pendingFor?: Duration | false | undefined
  /** Bytes of address space to begin with; it grows by itself. For a path only. @default lmdb's own */
  readonly mapSize?: number | undefined
  /** Processes that may use the file at a time. For a path only. @default 126 */
  readonly maxReaders?: number | undefined
}

export interface LmdbSettings {
  readonly maxBytes: number
  /** ms, like `timeout`. */
  readonly sweepEvery: number
  readonly timeout: number
  /** ms; 0: names are not marked. */
  readonly pendingFor: number
}

const OPTIONS = ['maxBytes', 'sweepEvery', 'timeout', 'pendingFor', 'mapSize', 'maxReaders'] as const
const PATH_OPTIONS = ['mapSize', 'maxReaders'] as const

/** @throws CorralError `ERR_OPTION` */
export function settingsOf(target: string | RootDatabase, options: LmdbOptions): LmdbSettings {
  rejectUnknownOptions(options, OPTIONS, 'lmdb()')
  for (const name of PATH_OPTIONS) {
    const value = options[name]
    if (value === undefined) continue
    expectThat(
      typeof target === 'string',
      value,
      `no \`${name}\` beside a database that is open already`,
      "Give it to lmdb's open().",
    )
    expectInteger(value, `\`${name}\` of lmdb()`)
  }
  return {
    maxBytes: expectInteger(options.maxBytes ?? 2 ** 28, '`maxBytes` of lmdb()', 65_536),
    timeout: milliseconds(options.timeout ?? '10s', 'timeout'),
    sweepEvery: milliseconds(options.sweepEvery ?? '30s', 'sweepEvery'),
    pendingFor: options.pendingFor === false ? 0 : markLife(options.pendingFor ?? '30s'),
  }
}

function markLife(given: Duration): number {
  const ms = milliseconds(given, 'pendingFor')
  const remedy = 'Nothing is stored under the marks of a process that died until they end.'
  expectThat(ms <= MAX_DELAY, given, '`pendingFor` of lmdb() to be at most 24 days', remedy)
  return ms
}

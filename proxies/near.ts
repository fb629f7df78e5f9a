import type { Backend } from '../src/backend/backend.js'
import type { CachedValue } from '../src/backend/cached-value.js'
import { expectBackend } from '../src/backend/expect-backend.js'
import { type Duration, milliseconds } from '../src/base/duration.js'
import { CorralError } from '../src/base/errors.js'
import { expectThat, ownOptions, rejectUnknownOptions } from '../src/base/options.js'
import { processGlobal } from '../src/base/process-global.js'
import { staleness } from '../src/base/staleness.js'
import { MAX_DELAY } from '../src/base/timers.js'
import { checkFit } from '../src/chain/map-values.js'
import type { BackendProxy } from '../src/chain/proxy.js'
import { wrap } from '../src/chain/wrap.js'
import { CHAIN_CLOCK } from '../src/ledger/ledger.js'
import { LEAST_PUSHED, type LedgerTail } from '../src/ledger/tail.js'
import { nearLayer } from './near/layer.js'

/**
 * The bound of a near cache.
 * @example
 * ```ts
 * import type { NearOptions } from 'corral/proxies/near'
 *
 * export const oneSecond: NearOptions = { maxStaleness: '1s' }
 * ```
 */
export interface NearOptions {
  /**
   * How late an invalidation of another process may be seen here. A copy is served while the process has proof that is no older.
   * `0`: never late, for one small command in each tick. A number is ms.
   */
  readonly maxStaleness: Duration
  /**
   * While the store cannot be read: how long after its last proof a copy may still be served, as stale. An invalidation by another
   * process is not seen in that time. Longer than `maxStaleness`, which then is at least 100 ms. A number is ms. @default not at all
   */
  readonly staleWhileAway?: Duration | undefined
}

/**
 * Keeps copies of decoded values in a store of this process, in front of a store that processes share. An invalidation of this
 * process is seen at once, one of another process after at most `maxStaleness`, usually by a message. If the proof is older than
 * that, because a connection was lost or the process was stopped, reads go to the shared store. Leases, the ledger and all writes
 * are those of the shared store. Copies are frozen, unless the near store clones; a value with bytes in it, which cannot be frozen, is
 * copied for each read.
 *
 * Goes around the encoding and below `dependencies()`.
 * @example
 * ```ts
 * import { makeRegion, wrap } from 'corral'
 * import { memory } from 'corral/backends/memory'
 * import { redis } from 'corral/backends/redis'
 * import { dependencies } from 'corral/proxies/dependencies'
 * import { msgpack } from 'corral/proxies/msgpack'
 * import { near } from 'corral/proxies/near'
 *
 * const copies = near(memory({ maxEntries: 10_000 }), { maxStaleness: '1s' })
 * const users = makeRegion<string>({
 *   name: 'users',
 *   backend: wrap(redis('redis://localhost:6379'), msgpack(), copies, dependencies()),
 * })
 * ```
 * @throws CorralError `ERR_OPTION`; `ERR_CHAIN` over bytes, above `dependencies()`, over another near cache, over a store that cannot
 * tell what changed in it, and for a near store that is shared, encodes, or has another near cache's copies.
 */
export function near(store: Backend<CachedValue>, options: NearOptions): BackendProxy<CachedValue> {
  options = ownOptions(options)
  const copies = expectBackend(
    store,
    'near() to receive a backend such as memory() for the copies',
  ) as Backend<CachedValue>
  rejectUnknownOptions(options, ['maxStaleness', 'staleWhileAway'], 'near()')
  expectThat(
    options.maxStaleness !== undefined,
    options.maxStaleness,
    '`maxStaleness` of near()',
    "Say how late an invalidation of another process may be seen, such as '1s'; 0 for never.",
  )
  const maxStaleness = staleness(options.maxStaleness)
  const blindFor = blindTime(options, maxStaleness)
  checkFit('near()', 'values', copies.stores)
  return (next) => {
    const tail = tailUnder(next)
    takeStore(copies)
    return nearLayer(copies, next, tail, { maxStaleness, blindFor })
  }
}

/** ms for which copies are served as stale; 0: never. An option that could change nothing is refused. */
function blindTime({ staleWhileAway }: NearOptions, maxStaleness: number): number {
  if (staleWhileAway === undefined) return 0
  expectThat(
    maxStaleness >= LEAST_PUSHED,
    maxStaleness,
    `\`maxStaleness\` of near() to be at least ${LEAST_PUSHED} ms with \`staleWhileAway\``,
    'Below that every read asks the store for its proof, and fails while the store is away.',
  )
  const ms = milliseconds(staleWhileAway, 'staleWhileAway')
  expectThat(
    ms > maxStaleness && ms <= MAX_DELAY,
    staleWhileAway,
    '`staleWhileAway` of near() to be longer than `maxStaleness`, and at most 24 days',
    "Say how old the last proof may be, such as '10m'.",
  )
  return ms
}

/**
 * The short form of `wrap(far, near(store, options))`: copies in front of a store that processes share.
 * @example
 * ```ts
 * import { makeRegion, wrap } from 'corral'
 * import { memory } from 'corral/backends/memory'
 * import { redis } from 'corral/backends/redis'
 * import { dependencies } from 'corral/proxies/dependencies'
 * import { msgpack } from 'corral/proxies/msgpack'
 * import { tiers } from 'corral/proxies/near'
 *
 * const far = wrap(redis('redis://localhost:6379'), msgpack())
 * const backend = wrap(tiers(memory({ maxEntries: 10_000 }), far, { maxStaleness: '1s' }), dependencies())
 * const users = makeRegion<string>({ name: 'users', backend })
 * ```
 * @throws CorralError as `near` does.
 */
export function tiers(
  store: Backend<CachedValue>,
  far: Backend<CachedValue>,
  options: NearOptions,
): Backend<CachedValue> {
  return wrap(far, near(store, options))
}

function tailUnder({ name, stores, tracker, ledger, near: other }: Backend<CachedValue>): LedgerTail {
  checkFit('near()', 'values', stores)
  if (tracker !== undefined)
    refuse(
      'near() above dependencies()',
      'It keeps copies of values that were judged already: put it below, wrap(backend, near(…), dependencies()).',
    )
  if (other !== undefined) refuse('near() over another near()', 'Drop one of them.')
  const tail = ledger?.open(CHAIN_CLOCK).tail?.()
  if (tail === undefined)
    refuse(
      `near() over '${name}'`,
      'This store cannot tell which of its values were invalidated. Use redis(), lmdb() or memory() below near().',
    )
  return tail
}

function refuse(got: string, remedy: string): never {
  throw new CorralError(
    'ERR_CHAIN',
    `Expected a chain in which copies can be kept current, got ${got}. ${remedy}`,
  )
}

/** The stores of near caches, for all copies of the package. */
const taken = processGlobal('near stores', () => new WeakSet<object>())

/** Copies are judged by the changes of one chain, in one process. */
function takeStore({ name, actual, ledger, capture }: Backend<CachedValue>): void {
  if (ledger?.shared === true)
    refuse(
      `copies in '${name}', which processes share`,
      'Give near() a store of this process, such as memory().',
    )
  if (capture !== undefined)
    refuse(
      `copies in an encoded '${name}'`,
      'Each hit would decode its value, and the encoding loses the mark by which a copy is judged. Give near() a store of values, such as memory().',
    )
  if (taken.has(actual))
    refuse(
      `copies of two chains in one '${name}'`,
      'They would be mixed up: give each near() a store of its own.',
    )
  taken.add(actual)
}

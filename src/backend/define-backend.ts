import { milliseconds } from '../base/duration.js'
import { CorralError, formatValue } from '../base/errors.js'
import { andThen, isPromise, type MaybePromise, mapEach, orElse } from '../base/maybe-promise.js'
import { rejectUnknownOptions } from '../base/options.js'
import type { Ledger } from '../ledger/ledger.js'
import type { Backend, BackendSpec, WriteOptions } from './backend.js'
import { leaseFor } from './local-lease.js'

const REQUIRED = ['get', 'set', 'delete'] as const
const LEASE = ['acquire', 'renew', 'release', 'held'] as const
const OPTIONAL = ['getMulti', 'setMulti', 'deleteMulti', 'close', 'mutex'] as const
const KNOWN = ['name', ...REQUIRED, ...LEASE, ...OPTIONAL, 'ledger', 'tracker', 'timeout', 'stores']

/**
 * Completes what an author wrote: batch forms, an answer to empty batches, a deadline for every operation, and a lease
 * of this process where the store has none.
 * @throws CorralError `ERR_OPTION` when a method is missing, is no function, or only part of the lease is there.
 */
export function defineBackend<T>(spec: BackendSpec<T>): Backend<T> {
  check(spec)
  const given = milliseconds(spec.timeout ?? '10s', 'timeout')
  // A longer timer would fire at once.
  const limit = given < 2 ** 31 ? given : Number.POSITIVE_INFINITY
  const { set, deleteOne, lease, reach } = leaseFor(spec)
  const timely = <R>(operation: string, work: MaybePromise<R>): MaybePromise<R> =>
    isPromise(work) && limit !== Number.POSITIVE_INFINITY
      ? within(limit, work, `${spec.name}.${operation}`)
      : work

  /** An answer of another length would give callers each other's values. */
  const complete = <R>(operation: string, count: number, answer: MaybePromise<readonly R[]>) =>
    andThen(answer, (results) => {
      if (Array.isArray(results) && results.length === count) return results as readonly R[]
      throw new CorralError(
        'ERR_BACKEND',
        `Expected ${spec.name}.${operation} to answer an array of ${count}, one for each key in their order, got ${
          Array.isArray(results) ? `one of ${results.length}` : formatValue(results)
        }.`,
      )
    })

  // A store that cannot be late is spared the question.
  const get =
    limit === Number.POSITIVE_INFINITY
      ? (key: string) => spec.get(key)
      : (key: string) => timely('get', spec.get(key))
  const write = (key: string, value: T, options: WriteOptions) => timely('set', set(key, value, options))
  const remove = (key: string) => timely('delete', deleteOne(key))
  const ownBatches = reach === 'store'
  return {
    name: spec.name,
    get,
    set: write,
    delete: remove,
    getMulti: (keys) => {
      if (keys.length === 0) return []
      return spec.getMulti === undefined
        ? mapEach(keys, get)
        : complete('getMulti', keys.length, timely('getMulti', spec.getMulti(keys)))
    },
    setMulti: (writes) => {
      if (writes.length === 0) return []
      // Without a lease of the store's own each write is fenced here, one by one.
      return spec.setMulti !== undefined && ownBatches
        ? complete('setMulti', writes.length, timely('setMulti', spec.setMulti(writes)))
        : mapEach(writes, ([key, value, options]) => write(key, value, options))
    },
    deleteMulti: (keys) => {
      if (keys.length === 0) return
      if (spec.deleteMulti !== undefined && ownBatches) return timely('deleteMulti', spec.deleteMulti(keys))
      const done = mapEach(keys, remove)
      return isPromise(done) ? done.then(() => {}) : undefined
    },
    acquire(key, ms, options) {
      const work = lease.acquire(key, ms, options)
      if (!isPromise(work)) return work
      let late = false
      // A lease that is granted after its caller was told otherwise is held by nobody.
      work.then(
        ({ token }) => {
          if (late && token !== undefined)
            void orElse(
              () => lease.release(key, token),
              () => false,
            )
        },
        () => {},
      )
      const timed = timely('acquire', work)
      void orElse(
        () => timed,
        () => {
          late = true
        },
      )
      return timed
    },
    renew: (key, token, ms) => timely('renew', lease.renew(key, token, ms)),
    release: (key, token) => timely('release', lease.release(key, token)),
    held: (key) => timely('held', lease.held(key)),
    close: () => spec.close?.(),
    ledger:
      limit === Number.POSITIVE_INFINITY ? spec.ledger : spec.ledger && timelyLedger(spec.ledger, timely),
    tracker: spec.tracker,
    reach,
    stores: spec.stores,
    actual: spec,
  }
}

/** A ledger that hangs would hold up every read that rests on it. What answers at once pays nothing. */
function timelyLedger(
  ledger: Ledger,
  timely: <R>(operation: string, work: MaybePromise<R>) => MaybePromise<R>,
): Ledger {
  return {
    ...(ledger.unmoved && { unmoved: ledger.unmoved.bind(ledger) }),
    ...(ledger.use && { use: ledger.use.bind(ledger) }),
    shared: ledger.shared,
    read: (clock, names) => timely('ledger.read', ledger.read(clock, names)),
    now: (clock, names) => timely('ledger.begin', ledger.now(clock, names)),
    judge: (clock, snapshot) => timely('ledger.judge', ledger.judge(clock, snapshot)),
    invalidate: (clock, names, mode) => timely('ledger.invalidate', ledger.invalidate(clock, names, mode)),
  }
}

function check<T>(spec: BackendSpec<T>): void {
  if (typeof spec !== 'object' || spec === null)
    throw new CorralError(
      'ERR_OPTION',
      `Expected defineBackend() to receive an object of methods, got ${formatValue(spec)}.`,
    )
  if (Object.getPrototypeOf(spec) === Object.prototype) rejectUnknownOptions(spec, KNOWN, 'defineBackend()')
  if (typeof spec.name !== 'string' || spec.name === '')
    throw new CorralError(
      'ERR_OPTION',
      `Expected a backend's \`name\` to be a non-empty string, got ${formatValue(spec.name)}.`,
    )
  const members = spec as unknown as Record<string, unknown>
  const wrong = (name: string) => {
    throw new CorralError(
      'ERR_OPTION',
      `Expected \`${name}\` of backend '${spec.name}' to be a function, got ${formatValue(members[name])}.`,
    )
  }
  for (const name of REQUIRED) if (typeof members[name] !== 'function') wrong(name)
  for (const name of [...LEASE, ...OPTIONAL])
    if (members[name] !== undefined && typeof members[name] !== 'function') wrong(name)
  const missing = LEASE.filter((name) => members[name] === undefined)
  if (missing.length > 0 && missing.length < LEASE.length)
    throw new CorralError(
      'ERR_OPTION',
      `Backend '${spec.name}' has only part of a lease: \`${missing.join('`, `')}\` missing. Give all of ${LEASE.join(', ')}, or none.`,
    )
}

async function within<R>(ms: number, work: Promise<R>, operation: string): Promise<R> {
  let timer: NodeJS.Timeout | undefined
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => {
      reject(
        new CorralError(
          'ERR_TIMEOUT',
          `${operation} did not answer within ${ms} ms. Check the store, or raise \`timeout\` of the backend.`,
        ),
      )
    }, ms)
  })
  try {
    return await Promise.race([work, late])
  } finally {
    clearTimeout(timer)
  }
}

import { andThen, type MaybePromise } from '../base/maybe-promise.js'
import { bindLedger, type Ledger, type OpenLedger } from '../ledger/ledger.js'
import type { Backend } from './backend.js'
import { layerOver, type OPERATIONS, type Overrides } from './delegate.js'
import type { Tracker } from './tracker.js'

/** Runs one operation of a backend. `settled` is the wait for a lease of another caller, which has no deadline. */
export type Around = <R>(operation: string, run: () => MaybePromise<R>) => MaybePromise<R>

/**
 * Puts one function around every operation of a backend, those of its ledger and its tracker included. Unlike `intercept`
 * it trusts the function to change no result, so that a lease may bring a value through it.
 */
export function aroundBackend<T>(next: Backend<T>, around: Around): Backend<T> {
  const operations = aroundOperations(next, (operation, _, run) => around(operation, run))
  const layer: Overrides<T> = {
    ...operations,
    acquire: (key, ms, options) =>
      andThen(operations.acquire(key, ms, options), (acquired) =>
        acquired.token !== undefined
          ? acquired
          : { ...acquired, settled: Promise.resolve(around('settled', () => acquired.settled)) },
      ),
    ping: () => around('ping', () => next.ping()),
    close: () => around('close', () => next.close()),
    ledger: next.ledger && aroundLedger(next.ledger, around),
    tracker: next.tracker && aroundTracker(next.tracker, around),
  }
  return layerOver(next, layer, true)
}

/** An operation on a key, or on the keys of a batch. */
export type KeyedOperation = Exclude<(typeof OPERATIONS)[number], 'ping' | 'close'>

/** The operations on keys, each with one function around it. */
export function aroundOperations<T>(
  next: Backend<T>,
  around: <R>(
    operation: KeyedOperation,
    keys: string | readonly string[],
    run: () => MaybePromise<R>,
  ) => MaybePromise<R>,
): Pick<Backend<T>, KeyedOperation> {
  return {
    get: (key) => around('get', key, () => next.get(key)),
    set: (key, value, options) => around('set', key, () => next.set(key, value, options)),
    delete: (key) => around('delete', key, () => next.delete(key)),
    getMulti: (keys) => around('getMulti', keys, () => next.getMulti(keys)),
    setMulti: (writes) =>
      around(
        'setMulti',
        writes.map(([key]) => key),
        () => next.setMulti(writes),
      ),
    deleteMulti: (keys) => around('deleteMulti', keys, () => next.deleteMulti(keys)),
    acquire: (key, ms, options) => around('acquire', key, () => next.acquire(key, ms, options)),
    renew: (key, token, ms) => around('renew', key, () => next.renew(key, token, ms)),
    release: (key, token, failure) => around('release', key, () => next.release(key, token, failure)),
    held: (key) => around('held', key, () => next.held(key)),
  }
}

function aroundLedger(ledger: Ledger, around: Around): Ledger {
  return {
    shared: ledger.shared,
    open: (clock) => {
      const opened = bindLedger(ledger.open(clock))
      const { restore, pending } = opened
      return {
        ...opened,
        read: (names) => around('ledger.read', () => opened.read(names)),
        now: (names) => around('ledger.now', () => opened.now(names)),
        invalidate: (...given) => around('ledger.invalidate', () => opened.invalidate(...given)),
        ...(pending && { pending: (...given) => around('ledger.pending', () => pending(...given)) }),
        ...(restore && { restore: (snapshot) => around('ledger.restore', () => restore(snapshot)) }),
      } satisfies OpenLedger
    },
  }
}

function aroundTracker(tracker: Tracker, around: Around): Tracker {
  return {
    ...tracker,
    asOf: (names) => around('ledger.now', () => tracker.asOf(names)),
    invalidate: (...given) => around('ledger.invalidate', () => tracker.invalidate(...given)),
    pending:
      tracker.pending &&
      ((...given) => around('ledger.pending', () => tracker.pending?.(...given) as MaybePromise<number>)),
    validate: (snapshot) => around('ledger.read', () => tracker.validate(snapshot)),
    inspect: (key) => around('get', () => tracker.inspect(key)),
  }
}

import { report } from '../base/diagnostics.js'
import { CorralError, formatValue } from '../base/errors.js'
import { keyedQueue } from '../base/keyed-queue.js'
import { andThen, isPromise, type MaybePromise, orElse } from '../base/maybe-promise.js'
import { delay } from '../base/timers.js'
import type { Backend, BackendSpec, Outcome, WriteOptions } from './backend.js'
import { type LeaseOperations, type LocalLeases, localLeases, type PlainMutex } from './lease.js'

/** `forget`: a batch that the store writes by itself is an invalidation of the key. */
type FencedWrites<T> = { readonly forget?: (key: string) => void } & Pick<
  Backend<T>,
  'set' | 'delete' | 'reach' | 'keepsFailures'
> &
  LeaseOperations<T>

/**
 * The lease of a backend: the store's own, or else one for this process, with the writes of a key one after another,
 * so that a fill cannot overtake the deletion that revoked it.
 */
export function leaseFor<T>(spec: BackendSpec<T>): FencedWrites<T> {
  const set = (key: string, value: T, options: WriteOptions): MaybePromise<Outcome> =>
    andThen<Outcome | void, Outcome>(spec.set(key, value, options), (returned) => {
      const outcome = returned ?? 'stored'
      if (OUTCOMES.includes(outcome)) return outcome
      throw new CorralError(
        'ERR_BACKEND',
        `Expected set() of backend '${spec.name}' to return 'stored', 'lost', 'refused' or nothing, got ${formatValue(outcome)}.`,
      )
    })
  if (!hasLease(spec)) return fenceHere(spec, set)
  const own: FencedWrites<T> = {
    set,
    delete: (key) => known(spec.delete(key)),
    acquire: (key, ms, options) => spec.acquire(key, ms, options),
    renew: (key, token, ms) => spec.renew(key, token, ms),
    release: (key, token, failure) => spec.release(key, token, failure),
    held: (key) => spec.held(key),
    reach: 'store',
    keepsFailures: spec.keepsFailures === true,
  }
  return own.keepsFailures ? own : keepFailuresHere(own)
}

/** A store that gives every lease back: this process keeps those of failed creations. */
function keepFailuresHere<T>(store: FencedWrites<T>): FencedWrites<T> {
  const failed = localLeases()
  return {
    ...store,
    forget: failed.revoke,
    set(key, value, options) {
      if (options.token === undefined) failed.revoke(key)
      return store.set(key, value, options)
    },
    delete(key) {
      failed.revoke(key)
      return store.delete(key)
    },
    acquire(key, ms, options = {}) {
      // A request that only reads an entry must not end the failure that denies its renewal.
      if (!options.ifAbsent) {
        // Without `overFailed` a request is refused while a failure stands; the token is of no further use.
        const own = failed.acquire(key, ms, options)
        if (own.token === undefined) return own
        failed.release(key, own.token)
      }
      return store.acquire(key, ms, options)
    },
    release(key, token, failure) {
      if (failure === undefined) return store.release(key, token)
      // Before the store gives the lease back, so that no caller gets it in between.
      const { token: kept = '' } = failed.acquire(key, failure.failedFor, { steal: true })
      failed.release(key, kept, failure)
      return andThen(store.release(key, token), (released) => {
        if (!released) failed.revoke(key)
        return released
      })
    },
  }
}

const OUTCOMES: readonly unknown[] = ['stored', 'lost', 'refused']

/** Whether there was an entry to delete. A driver may return a count or a reply, which says another thing than `true`. */
function known(deleted: MaybePromise<unknown>): MaybePromise<boolean | void> {
  return andThen(deleted, (was) => (typeof was === 'boolean' ? was : undefined))
}

/** A backend has all operations of a lease or none. */
function hasLease<T>(spec: BackendSpec<T>): spec is BackendSpec<T> & LeaseOperations<T> {
  return spec.acquire !== undefined
}

function fenceHere<T>(spec: BackendSpec<T>, store: Backend<T>['set']): FencedWrites<T> {
  const leases = localLeases()
  const inTurn = keyedQueue()
  const { done, holder, acquire, renew, release, held }: LeaseOperations & MutexHolders =
    spec.mutex === undefined
      ? { ...leases, done: nothing, holder: nothing }
      : withMutex(leases, spec.mutex.bind(spec))
  /** Voids the creation in progress, runs the work in turn, and then releases the mutex of the voided creation. */
  const revoking = <R>(key: string, work: () => MaybePromise<R>): MaybePromise<R> => {
    leases.revoke(key)
    const voided = holder(key)
    const worked = inTurn(key, work)
    if (voided === undefined) return worked
    const free = () => done(key, voided)
    return isPromise(worked) ? worked.finally(free) : andThen(free(), () => worked)
  }
  return {
    set(key, value, { token, ...rest }) {
      if (token === undefined) return revoking(key, () => store(key, value, rest))
      const filled = inTurn(key, () =>
        leases.owns(key, token)
          ? andThen(store(key, value, rest), (outcome) => (leases.release(key, token) ? outcome : 'lost'))
          : 'lost',
      )
      return andThen(filled, (outcome) => andThen(done(key, token), () => outcome))
    },
    delete: (key) => revoking(key, () => known(spec.delete(key))),
    // The next holder of the lease reads, and must see the result of a write under way, which is now revoked.
    acquire: (key, ms, options) =>
      andThen(acquire(key, ms, options), (acquired) =>
        acquired.token === undefined ? acquired : inTurn(key, () => acquired),
      ),
    ...{ renew, release, held },
    reach: spec.mutex === undefined ? 'process' : 'mutex',
    keepsFailures: false,
  }
}

interface MutexHolders {
  /** Releases the mutex that the token holds, if any. */
  done(key: string, token: string): MaybePromise<void>
  /** The token that holds the mutex of the key. */
  holder(key: string): string | undefined
}

function nothing(): undefined {}

/** Joins a foreign mutex to the local lease: the token that holds the one also holds the other. */
function withMutex(leases: LocalLeases, mutex: (key: string) => PlainMutex): LeaseOperations & MutexHolders {
  const holders = new Map<string, { token: string; readonly mutex: PlainMutex }>()
  /** A mutex that cannot be released must not cost a caller the value: it expires, and the failure is reported. */
  const done = (key: string, token: string): MaybePromise<void> => {
    const holder = holders.get(key)
    if (holder?.token !== token) return
    holders.delete(key)
    return orElse(
      () => andThen<unknown, void>(holder.mutex.release(), nothing),
      (error) => report('failure', () => ({ where: 'mutex', key, error })),
    )
  }
  const waiting = new Map<string, Promise<void>>()
  /** One wait for all callers of this process: each would take the lock once more, only to release it. */
  const sharedWait = (key: string, foreign: PlainMutex): Promise<void> => {
    const wait = waiting.get(key) ?? untilFree(foreign).finally(() => waiting.delete(key))
    waiting.set(key, wait)
    return wait
  }
  return {
    done,
    holder: (key) => holders.get(key)?.token,
    acquire(key, ms, options) {
      const foreign = mutex(key)
      const acquired = leases.acquire(key, ms, options)
      const { token } = acquired
      if (token === undefined) return acquired
      const former = holders.get(key)
      if (former !== undefined) {
        // A thief inherits the mutex that this process holds already: another acquire would wait for this process.
        former.token = token
        return acquired
      }
      const refused = (error: unknown): never => {
        leases.release(key, token)
        throw error
      }
      return andThen(
        orElse(() => foreign.acquire(false), refused),
        (taken) => {
          if (taken) holders.set(key, { token, mutex: foreign })
          if (taken || options?.steal === true) return { token }
          leases.release(key, token)
          return { remaining: ms, settled: sharedWait(key, foreign) }
        },
      )
    },
    renew: (key, token, ms) => leases.renew(key, token, ms),
    release: (key, token, failure) => {
      const owned = leases.release(key, token, failure)
      return andThen(done(key, token), () => owned)
    },
    // If this process holds the mutex for a lease that has expired, no caller here needs to wait.
    held: (key) => leases.held(key) || (!holders.has(key) && (mutex(key).locked?.() ?? false)),
  }
}

async function untilFree(foreign: PlainMutex): Promise<void> {
  if (await foreign.acquire(true)) await foreign.release()
  // The mutex cannot wait. A retry at once would never let a timer run.
  else await delay(20 + Math.random() * 30)
}

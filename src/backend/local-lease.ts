import { setTimeout as pause } from 'node:timers/promises'
import { report } from '../base/diagnostics.js'
import { CorralError, formatValue } from '../base/errors.js'
import { keyedQueue } from '../base/keyed-queue.js'
import { andThen, isPromise, type MaybePromise, orElse } from '../base/maybe-promise.js'
import type { BackendSpec, LeaseReach, Outcome, WriteOptions } from './backend.js'
import { type LeaseOperations, type LocalLeases, localLeases, type PlainMutex } from './lease.js'

interface FencedLease<T> {
  readonly set: (key: string, value: T, options: WriteOptions) => MaybePromise<Outcome>
  readonly deleteOne: (key: string) => MaybePromise<void>
  readonly lease: LeaseOperations<T>
  readonly reach: LeaseReach
}

/**
 * The lease of a backend: the store's own, or else one for this process, with the writes of a key one after another,
 * so that a fill cannot overtake the deletion that revoked it.
 */
export function leaseFor<T>(spec: BackendSpec<T>): FencedLease<T> {
  const { acquire, renew, release, held } = spec
  const store = (key: string, value: T, options: WriteOptions): MaybePromise<Outcome> =>
    andThen<Outcome | void, Outcome>(spec.set(key, value, options), (returned) => {
      const outcome = returned ?? 'stored'
      if (OUTCOMES.includes(outcome)) return outcome
      throw new CorralError(
        'ERR_BACKEND',
        `Expected set() of backend '${spec.name}' to answer 'stored', 'lost', 'refused' or nothing, got ${formatValue(outcome)}.`,
      )
    })
  if (acquire !== undefined && renew !== undefined && release !== undefined && held !== undefined)
    return {
      set: store,
      deleteOne: (key) => spec.delete(key),
      lease: {
        acquire: acquire.bind(spec),
        renew: renew.bind(spec),
        release: release.bind(spec),
        held: held.bind(spec),
      },
      reach: 'store',
    }

  const leases = localLeases()
  const inTurn = keyedQueue()
  const { lease, done, holder } =
    spec.mutex === undefined
      ? { lease: leases, done: nothing, holder: nothing }
      : withMutex(leases, (key) => mutexOf(spec, key))
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
    deleteOne: (key) => revoking(key, () => spec.delete(key)),
    lease: {
      ...lease,
      // The next holder of the lease reads, and must see the result of a write under way, which is now revoked.
      acquire: (key, ms, options) =>
        andThen(lease.acquire(key, ms, options), (acquired) =>
          acquired.token === undefined ? acquired : inTurn(key, () => acquired),
        ),
    },
    reach: spec.mutex === undefined ? 'process' : 'mutex',
  }
}

const OUTCOMES: readonly unknown[] = ['stored', 'lost', 'refused']

function nothing(): undefined {}

function mutexOf<T>(spec: BackendSpec<T>, key: string): PlainMutex {
  if (spec.mutex === undefined) throw new TypeError('unreachable')
  return spec.mutex(key)
}

/** Joins a foreign mutex to the local lease: the token that holds the one also holds the other. */
function withMutex(leases: LocalLeases, mutex: (key: string) => PlainMutex) {
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
  const untilFree = (key: string, foreign: PlainMutex): Promise<void> => {
    let wait = waiting.get(key)
    if (wait === undefined) {
      wait = (async () => {
        try {
          if (await foreign.acquire(true)) await foreign.release()
          // The mutex cannot wait. A retry at once would never let a timer run.
          else await pause(20 + Math.random() * 30)
        } finally {
          waiting.delete(key)
        }
      })()
      waiting.set(key, wait)
    }
    return wait
  }
  const lease: LeaseOperations = {
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
          return { remaining: ms, settled: untilFree(key, foreign) }
        },
      )
    },
    renew: (key, token, ms) => leases.renew(key, token, ms),
    release: (key, token) => {
      const owned = leases.release(key, token)
      return andThen(done(key, token), () => owned)
    },
    // If this process holds the mutex for a lease that has expired, no caller here needs to wait.
    held: (key) => leases.held(key) || (!holders.has(key) && (mutex(key).locked?.() ?? false)),
  }
  return { lease, done, holder: (key: string) => holders.get(key)?.token }
}

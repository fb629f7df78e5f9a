import { randomUUID } from 'node:crypto'
import type { BackendSpec, Outcome, Write } from '../../src/backend/backend.js'
import type { Bytes } from '../../src/backend/cached-value.js'
import type { AcquireOptions, LeaseOperations, StoreAcquired } from '../../src/backend/lease.js'
import type { Recovery } from '../../src/backend/recovery.js'
import { type FailureLog, failureLog, report } from '../../src/base/diagnostics.js'
import { CorralError } from '../../src/base/errors.js'
import { frozenCopy } from '../../src/base/frozen.js'
import { andThen, isPromise, type MaybePromise } from '../../src/base/maybe-promise.js'
import type { InvalidationMode, Ledger, LedgerReading } from '../../src/ledger/ledger.js'
import type { LedgerTime } from '../../src/ledger/snapshot.js'
import type { LedgerTail } from '../../src/ledger/tail.js'
import { isUnreachable } from './client/errors.js'
import type { EntryWrites } from './entries.js'
import { valueKey } from './format.js'
import type { RedisLedger } from './ledger.js'
import type { Reads } from './reads/read-batcher.js'

export interface FailurePolicyOptions {
  readonly reads: Reads
  readonly writes: EntryWrites
  readonly lease: LeaseOperations<Bytes>
  readonly ledger: RedisLedger
  readonly recovery: Recovery
  readonly failOpen: boolean
  /** Takes the failures of an outage. */
  readonly outage: FailureLog
}

type Guarded<K extends keyof BackendSpec<Bytes>> = Required<Pick<BackendSpec<Bytes>, K>>

/** State that the operations share. */
interface Policy extends FailurePolicyOptions {
  /**
   * Keys whose lease this process stole, by token, to renew them or to mark them stale. Both are invalidations: they need
   * the true content of the store, so no miss replaces a read that failed.
   */
  readonly stolen: Map<string, string>
  readonly unfenced: ReturnType<typeof unfencedLeases>
  /** Takes the failures of operations that Redis refused. */
  readonly refusals: FailureLog
}

/**
 * The consequences of a failed operation. A read rejects, or is a miss with `failOpen`. A write rejects. An invalidation
 * always rejects, is remembered until it could be repeated, and hides its keys from this process meanwhile.
 */
export function failurePolicy(options: FailurePolicyOptions): Omit<BackendSpec<Bytes>, 'name'> {
  const policy: Policy = {
    ...options,
    stolen: new Map(),
    unfenced: unfencedLeases(options.failOpen),
    refusals: failureLog(),
  }
  return {
    ...guardedReads(policy),
    set: (...write) => set(policy, write),
    setMulti: (writes) => setAll(policy, writes),
    delete: (key) => remove(policy, key),
    deleteMulti: (keys) => removeAll(policy, keys),
    ...guardedLease(policy),
    keepsFailures: true,
    ifAbsentFrom: 0.7,
    ledger: guardedLedger(policy),
  }
}

/** Whether a failure is reported instead of thrown: with `failOpen`, unless it is the caller's own mistake. */
function isTolerated(policy: Policy, where: string, key: string | undefined, error: unknown): boolean {
  const { failOpen, outage, refusals } = policy
  if (!failOpen || CorralError.is(error, 'ERR_CLOSED') || CorralError.is(error, 'ERR_KEY')) return false
  const message = () => ({ where: `redis ${where}`, key, error })
  if (isUnreachable(error)) outage.failed(message)
  else if (CorralError.is(error, 'ERR_BACKEND')) refusals.failed(message)
  // A value that cannot be stored is the matter of its key alone.
  else report('failure', message)
  return true
}

/** The outcome of the work, or a replacement if it failed and that is tolerated. */
function orElseOpen<T>(
  policy: Policy,
  where: string,
  key: string | undefined,
  work: MaybePromise<T>,
  instead: () => T,
): MaybePromise<T> {
  if (!policy.failOpen || !isPromise(work)) return work
  return work.catch((error: unknown) => {
    if (!isTolerated(policy, where, key, error)) throw error
    return instead()
  })
}

function guardedReads(policy: Policy): Guarded<'get' | 'getMulti'> {
  const { reads, recovery, stolen, failOpen } = policy
  const isStolen = (key: string) => stolen.size > 0 && [...stolen.values()].includes(key)
  const isHidden = (key: string) => recovery.size > 0 && recovery.hides(key)
  return {
    get(key) {
      if (isStolen(key)) {
        // The caller takes a miss for the truth, so an invalidation that failed since the theft is repeated first.
        if (recovery.hasFailed(key)) return removeAll(policy, [key]).then(() => undefined)
        return isHidden(key) ? undefined : recovery.watch(key, reads.get(valueKey(key)))
      }
      if (isHidden(key)) return undefined
      const found = reads.get(valueKey(key))
      return failOpen ? orElseOpen(policy, 'get', key, found, () => undefined) : found
    },
    getMulti(keys) {
      const found: MaybePromise<readonly (Bytes | undefined)[]> = orElseOpen(
        policy,
        'getMulti',
        keys[0],
        reads.getMulti(keys.map(valueKey)),
        () => keys.map(() => undefined),
      )
      if (recovery.size === 0 || !isPromise(found)) return found
      const hidden = keys.map(isHidden)
      return found.then((values) => values.map((value, i) => (hidden[i] ? undefined : value)))
    },
  }
}

async function remove({ recovery, unfenced, writes }: Policy, key: string): Promise<boolean> {
  unfenced.revokeAll()
  valueKey(key)
  const since = recovery.failures
  const deleted = await writes.delete(key)
  if (typeof deleted === 'boolean') {
    recovery.succeeded(key, since)
    return deleted
  }
  recovery.failedKey(key)
  throw deleted
}

async function removeAll({ recovery, unfenced, writes }: Policy, given: readonly string[]): Promise<void> {
  const keys = frozenCopy(given)
  unfenced.revokeAll()
  keys.forEach(valueKey)
  const since = recovery.failures
  const errors = await writes.deleteMulti(keys)
  keys.forEach((key, i) => {
    if (errors[i] === undefined) recovery.succeeded(key, since)
    else recovery.failedKey(key)
  })
  const failure = errors.find((error) => error !== undefined)
  if (failure !== undefined) throw failure
}

async function set(policy: Policy, write: Write<Bytes>): Promise<Outcome> {
  expectWritable(policy, write)
  const begun = beginWrite(policy, write)
  const outcome = afterWrite(
    policy,
    'set',
    write,
    begun,
    begun.known ?? (await policy.writes.set(write, begun.isInvalidation)),
  )
  if (outcome instanceof Error) throw outcome
  return outcome
}

async function setAll(policy: Policy, given: readonly Write<Bytes>[]): Promise<readonly Outcome[]> {
  const all = frozenCopy(given)
  for (const write of all) expectWritable(policy, write)
  const begun = all.map((write) => beginWrite(policy, write))
  const isSent = (_: unknown, i: number) => begun[i]?.known === undefined
  const results = await policy.writes.setMulti(
    all.filter(isSent),
    begun.filter(isSent).map(({ isInvalidation }) => isInvalidation),
  )
  let next = 0
  const outcomes = all.map((write, i) => {
    const one = begun[i] as BegunWrite
    return afterWrite(policy, 'setMulti', write, one, one.known ?? (results[next++] as Outcome | Error))
  })
  const failure = outcomes.find((outcome) => outcome instanceof Error)
  if (failure !== undefined) throw failure
  return outcomes as Outcome[]
}

/** A write that is under way. */
interface BegunWrite {
  /** Its outcome, if it needs no server. */
  readonly known: Outcome | undefined
  readonly isInvalidation: boolean
  /** The failures that were seen before it began. */
  readonly since: number
}

/** @throws CorralError for a key or a value that cannot be stored. */
function expectWritable({ writes, recovery, unfenced, failOpen }: Policy, write: Write<Bytes>): void {
  const [key, value, { token, ifCurrent }] = write
  if (ifCurrent !== undefined) recovery.addClock(ifCurrent.clock)
  if (token === undefined) unfenced.revokeAll()
  if (token === undefined || !failOpen) writes.check(key, value)
}

function beginWrite({ recovery, stolen, unfenced }: Policy, [, , { token }]: Write<Bytes>): BegunWrite {
  return {
    known: token === undefined ? undefined : unfenced.outcomeOf(token),
    isInvalidation: token === undefined || stolen.delete(token),
    since: recovery.failures,
  }
}

/** The outcome of a write, or the error that its caller receives. */
function afterWrite(
  policy: Policy,
  where: string,
  [key, , { token }]: Write<Bytes>,
  { isInvalidation, since }: BegunWrite,
  result: Outcome | Error,
): Outcome | Error {
  const { recovery } = policy
  const isPlain = token === undefined
  if (!(result instanceof Error)) {
    if (isPlain) recovery.succeeded(key, since)
    return result
  }
  if (isInvalidation) recovery.failedKey(key)
  return isPlain || !isTolerated(policy, where, key, result) ? result : 'lost'
}

function guardedLease(policy: Policy): LeaseOperations<Bytes> {
  const { lease, recovery, stolen, unfenced } = policy
  return {
    acquire: (key, ms, how = {}) =>
      how.steal === true
        ? steal(policy, key, ms, how)
        : orElseOpen<StoreAcquired<Bytes>>(policy, 'acquire', key, acquire(policy, key, ms, how), () => ({
            token: unfenced.newToken(),
            found: undefined,
            ...(how.question !== undefined && { asOf: unreachableTime() }),
          })),
    renew: (key, token, ms) =>
      unfenced.owns(token) || orElseOpen(policy, 'renew', key, lease.renew(key, token, ms), () => false),
    release(key, token, failure) {
      if (unfenced.owns(token)) return unfenced.outcomeOf(token) === 'stored'
      const released = lease.release(key, token, failure)
      const watched = stolen.delete(token) ? recovery.watch(key, released) : released
      return orElseOpen(policy, 'release', key, watched, () => false)
    },
    held: (key) => orElseOpen(policy, 'held', key, lease.held(key), () => false),
  }
}

/** The store does not know of the invalidations that have not reached it, so the values that a lease brings may be older. */
function acquire({ lease, recovery }: Policy, key: string, ms: number, how: AcquireOptions) {
  const [isSure, isHidden] = [recovery.size === 0, recovery.hides(key)]
  return andThen(lease.acquire(key, ms, how), (acquired): StoreAcquired<Bytes> => {
    if (acquired.token !== undefined)
      return isHidden || recovery.hides(key) ? { ...acquired, found: undefined } : acquired
    const settled = acquired.settled.then((value) => (isSure && recovery.size === 0 ? value : undefined))
    return { ...acquired, settled }
  })
}

async function steal(
  policy: Policy,
  key: string,
  ms: number,
  how: AcquireOptions,
): Promise<StoreAcquired<Bytes>> {
  const { lease, recovery, stolen, unfenced } = policy
  unfenced.revokeAll()
  valueKey(key)
  // The caller takes the value that the lease brings for the truth, so a failed invalidation is repeated first.
  if (recovery.hasFailed(key)) await removeAll(policy, [key])
  const acquired = await recovery.watch(key, lease.acquire(key, ms, how))
  if (acquired.token === undefined) return acquired
  stolen.set(acquired.token, key)
  return recovery.isBlind ? { ...acquired, found: undefined } : acquired
}

function guardedLedger(policy: Policy): Ledger {
  const { ledger, recovery, unfenced } = policy
  return {
    shared: ledger.shared,
    open(clock) {
      recovery.addClock(clock)
      const opened = ledger.open(clock)
      return {
        storeClock: clock,
        read: (names) =>
          recovery.isBlind
            ? UNKNOWN
            : orElseOpen(policy, 'ledger.read', undefined, opened.read(names), () => UNKNOWN),
        now: (names) => orElseOpen(policy, 'ledger.now', undefined, opened.now(names), unreachableTime),
        restore: (snapshot) =>
          recovery.isBlind
            ? 'invalid'
            : orElseOpen(policy, 'ledger.restore', undefined, opened.restore(snapshot), () => 'invalid'),
        async invalidate(given, mode, transaction) {
          const names = frozenCopy(given)
          unfenced.revokeAll()
          try {
            await opened.invalidate(names, mode, transaction)
          } catch (error) {
            recovery.failedNames(clock, names, mode)
            throw error
          }
        },
        ...(opened.pending && {
          pending: (given: readonly string[], mode: InvalidationMode, transaction: string) => {
            unfenced.revokeAll()
            return opened.pending?.(frozenCopy(given), mode, transaction) ?? 0
          },
        }),
        ...(opened.tail && { tail: () => guardedTail(policy, opened.tail?.() as LedgerTail) }),
      }
    },
  }
}

function guardedTail(policy: Policy, tail: LedgerTail): LedgerTail {
  return {
    ...tail,
    prove: () => orElseOpen(policy, 'ledger.tail', undefined, tail.prove(), () => false),
  }
}

const UNKNOWN: LedgerReading = { now: undefined, stamps: [] }

/** No clock will ever have this epoch, so a value with it is never stored. */
function unreachableTime(): LedgerTime {
  return { epoch: `unreachable:${randomUUID()}`, at: 0 }
}

const UNFENCED = 'unfenced:'

/** Leases that no store knows of, granted with `failOpen`: the holder creates for the callers of this process only. */
function unfencedLeases(failOpen: boolean) {
  let invalidations = 0
  const owns = (token: string) => failOpen && token.startsWith(UNFENCED)
  return {
    owns,
    newToken: () => `${UNFENCED}${invalidations}:${randomUUID()}`,
    /** The outcome of a fill that needs no server. */
    outcomeOf(token: string): Outcome | undefined {
      if (token === '') return 'lost'
      if (!owns(token)) return undefined
      return token.startsWith(`${UNFENCED}${invalidations}:`) ? 'stored' : 'lost'
    },
    /**
     * An invalidation of this process, of any name, and whether or not Redis received it: a value created without a fence
     * must not be shared with later callers.
     */
    revokeAll: () => void invalidations++,
  }
}

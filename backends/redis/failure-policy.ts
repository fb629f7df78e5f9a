import { randomUUID } from 'node:crypto'
import type { BackendSpec, Outcome, Write } from '../../src/backend/backend.js'
import type { Bytes } from '../../src/backend/cached-value.js'
import type { LeaseOperations } from '../../src/backend/lease.js'
import type { Recovery } from '../../src/backend/recovery.js'
import { report } from '../../src/base/diagnostics.js'
import { CorralError } from '../../src/base/errors.js'
import { andThen, isPromise, type MaybePromise } from '../../src/base/maybe-promise.js'
import type { ClockedLedger } from '../../src/ledger/clocked-ledger.js'
import type { LedgerReading } from '../../src/ledger/ledger.js'
import type { EntryWrites } from './entries.js'
import { valueKey } from './format.js'

/**
 * The consequences of a failed operation. A read rejects, or is a miss with `failOpen`. A write rejects. An invalidation
 * always rejects, is remembered until it could be repeated, and hides its keys from this process meanwhile.
 */
export interface FailurePolicyOptions {
  readonly get: (key: string) => Promise<Bytes | undefined>
  readonly getMulti: (keys: readonly string[]) => Promise<(Bytes | undefined)[]>
  readonly writes: EntryWrites
  readonly lease: LeaseOperations<Bytes>
  readonly ledger: ClockedLedger
  readonly recovery: Recovery
  readonly failOpen: boolean
}

type Operation = 'get' | 'set' | 'delete' | 'getMulti' | 'setMulti' | 'deleteMulti'

export type GuardedOperations = Required<
  Pick<BackendSpec<Bytes>, Operation | keyof LeaseOperations<Bytes>>
> & { readonly ledger: ClockedLedger }

/** State that the operations share. */
interface Policy extends FailurePolicyOptions {
  /**
   * Keys whose lease this process stole, by token, to renew them or to mark them stale. Both are invalidations: they need
   * the true content of the store, so no miss replaces a read that failed.
   */
  readonly stolen: Map<string, string>
  readonly unfenced: UnfencedLeases
}

export function failurePolicy(options: FailurePolicyOptions): GuardedOperations {
  const policy: Policy = { ...options, stolen: new Map(), unfenced: unfencedLeases(options.failOpen) }
  return {
    ...guardedReads(policy),
    ...guardedWrites(policy),
    ...guardedLease(policy),
    ledger: guardedLedger(policy),
  }
}

/** With `failOpen`, a replacement for a failure that is not the caller's own mistake. */
function orElseOpen<T>(
  { failOpen }: Policy,
  where: string,
  key: string | undefined,
  work: MaybePromise<T>,
  instead: () => T,
): MaybePromise<T> {
  if (!failOpen || !isPromise(work)) return work
  return work.catch((error: unknown) => {
    if (CorralError.is(error, 'ERR_CLOSED') || CorralError.is(error, 'ERR_KEY')) throw error
    report('failure', () => ({ where: `redis ${where}`, key, error }))
    return instead()
  })
}

function guardedReads(policy: Policy): Pick<GuardedOperations, 'get' | 'getMulti'> {
  const { get, getMulti, recovery, failOpen, stolen } = policy
  const isStolen = (key: string) => stolen.size > 0 && [...stolen.values()].includes(key)
  const isHidden = (key: string) => recovery.size > 0 && recovery.hides(key)
  return {
    get(key) {
      if (isStolen(key)) {
        // The caller takes a miss for the truth, so an invalidation that failed since the theft is repeated first.
        if (recovery.hasFailed(key)) return removeAll(policy, [key]).then(() => undefined)
        return isHidden(key) ? undefined : recovery.watch(key, get(key))
      }
      if (isHidden(key)) return undefined
      return failOpen ? orElseOpen(policy, 'get', key, get(key), () => undefined) : get(key)
    },
    getMulti(keys) {
      const found = orElseOpen<readonly (Bytes | undefined)[]>(
        policy,
        'getMulti',
        keys[0],
        getMulti(keys),
        () => keys.map(() => undefined),
      )
      if (recovery.size === 0 || !isPromise(found)) return found
      const hidden = keys.map(isHidden)
      return found.then((values) => values.map((value, i) => (hidden[i] ? undefined : value)))
    },
  }
}

async function removeAll({ recovery, unfenced, writes }: Policy, keys: readonly string[]): Promise<void> {
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

function guardedWrites(
  policy: Policy,
): Pick<GuardedOperations, 'set' | 'setMulti' | 'delete' | 'deleteMulti'> {
  const { writes, recovery, stolen, unfenced } = policy
  return {
    async set(key, value, options) {
      const { token, ifCurrent } = options
      if (ifCurrent !== undefined) recovery.addClock(ifCurrent.clock)
      if (token === undefined) {
        unfenced.revokeAll()
        writes.check(key, value)
        const since = recovery.failures
        const outcome = await recovery.watch(key, writes.set(key, value, options))
        recovery.succeeded(key, since)
        return outcome
      }
      const known = unfenced.outcomeOf(token)
      if (known !== undefined) return known
      const written = writes.set(key, value, options)
      const watched = stolen.delete(token) ? recovery.watch(key, written) : written
      return orElseOpen<Outcome>(policy, 'set', key, watched, () => 'lost')
    },
    setMulti: (all) => setAll(policy, all),
    delete: (key) => removeAll(policy, [key]),
    deleteMulti: (keys) => removeAll(policy, keys),
  }
}

async function setAll(policy: Policy, all: readonly Write<Bytes>[]): Promise<readonly Outcome[]> {
  const { writes, recovery, stolen, unfenced, failOpen } = policy
  for (const [key, value, { token, ifCurrent }] of all) {
    if (ifCurrent !== undefined) recovery.addClock(ifCurrent.clock)
    if (token === undefined) unfenced.revokeAll()
    writes.check(key, value)
  }
  const outcomes = all.map(([, , { token }]) => (token === undefined ? undefined : unfenced.outcomeOf(token)))
  const sent = all.flatMap((write, place) => (outcomes[place] === undefined ? [{ write, place }] : []))
  const since = recovery.failures
  const results =
    sent.length === 0
      ? []
      : await writes.setMulti(sent.map(({ write }) => write)).catch((error: Error) => sent.map(() => error))
  let failure: Error | undefined
  sent.forEach(({ write: [key, , { token }], place }, i) => {
    const result =
      results[i] ?? new CorralError('ERR_BACKEND', 'Redis returned fewer outcomes than there were writes.')
    const isPlain = token === undefined
    const invalidates = isPlain || stolen.delete(token)
    if (!(result instanceof Error)) {
      if (isPlain) recovery.succeeded(key, since)
      outcomes[place] = result
      return
    }
    if (invalidates) recovery.failedKey(key)
    if (isPlain || !failOpen) failure ??= result
    else report('failure', () => ({ where: 'redis setMulti', key, error: result }))
  })
  if (failure !== undefined) throw failure
  return outcomes.map((outcome) => outcome ?? 'lost')
}

function guardedLease(policy: Policy): LeaseOperations<Bytes> {
  const { lease, recovery, stolen, unfenced } = policy
  return {
    acquire: (key, ms, options) =>
      options?.steal === true
        ? steal(policy, key, ms)
        : orElseOpen(policy, 'acquire', key, acquire(policy, key, ms), unfenced.grant),
    renew: (key, token, ms) =>
      unfenced.owns(token) || orElseOpen(policy, 'renew', key, lease.renew(key, token, ms), () => false),
    release(key, token) {
      if (unfenced.owns(token)) return unfenced.outcomeOf(token) === 'stored'
      const released = lease.release(key, token)
      const watched = stolen.delete(token) ? recovery.watch(key, released) : released
      return orElseOpen(policy, 'release', key, watched, () => false)
    },
    held: (key) => orElseOpen(policy, 'held', key, lease.held(key), () => false),
  }
}

/** A value in a message was true in the store, which does not know of the invalidations that have not reached it. */
function acquire({ lease, recovery }: Policy, key: string, ms: number) {
  const isSure = recovery.size === 0
  return andThen(lease.acquire(key, ms), (acquired) =>
    acquired.token !== undefined
      ? acquired
      : {
          ...acquired,
          settled: acquired.settled.then((value) => (isSure && recovery.size === 0 ? value : undefined)),
        },
  )
}

async function steal({ lease, recovery, stolen, unfenced }: Policy, key: string, ms: number) {
  unfenced.revokeAll()
  valueKey(key)
  const acquired = await recovery.watch(key, lease.acquire(key, ms, { steal: true }))
  if (acquired.token !== undefined) stolen.set(acquired.token, key)
  return acquired
}

function guardedLedger(policy: Policy): ClockedLedger {
  const { ledger, recovery, unfenced } = policy
  return {
    shared: ledger.shared,
    use: (clock) => recovery.addClock(clock),
    read(clock, names) {
      recovery.addClock(clock)
      if (recovery.isBlind) return UNKNOWN
      return orElseOpen(policy, 'ledger.read', undefined, ledger.read(clock, names), () => UNKNOWN)
    },
    now(clock, names) {
      recovery.addClock(clock)
      // No clock will ever have this epoch, so a value with it is never stored.
      return orElseOpen(policy, 'ledger.now', undefined, ledger.now(clock, names), () => ({
        epoch: `unreachable:${randomUUID()}`,
        at: 0,
      }))
    },
    judge(clock, snapshot) {
      recovery.addClock(clock)
      if (recovery.isBlind) return 'invalid'
      return orElseOpen(policy, 'ledger.judge', undefined, ledger.judge(clock, snapshot), () => 'invalid')
    },
    async invalidate(clock, names, mode) {
      unfenced.revokeAll()
      recovery.addClock(clock)
      try {
        await ledger.invalidate(clock, names, mode)
      } catch (error) {
        recovery.failedNames(clock, names, mode)
        throw error
      }
    },
  }
}

const UNKNOWN: LedgerReading = { now: undefined, stamps: [] }

/** Leases that no store knows of, granted with `failOpen`: the holder creates for the callers of this process only. */
interface UnfencedLeases {
  grant(): { readonly token: string }
  owns(token: string): boolean
  /** The outcome of a fill that needs no server. */
  outcomeOf(token: string): Outcome | undefined
  /**
   * An invalidation of this process, of any name, and whether or not Redis received it: a value created without a fence
   * must not be shared with later callers.
   */
  revokeAll(): void
}

const UNFENCED = 'unfenced:'

function unfencedLeases(failOpen: boolean): UnfencedLeases {
  let invalidations = 0
  const owns = (token: string) => failOpen && token.startsWith(UNFENCED)
  return {
    owns,
    grant: () => ({ token: `${UNFENCED}${invalidations}:${randomUUID()}` }),
    outcomeOf(token) {
      if (token === '') return 'lost'
      if (!owns(token)) return undefined
      return token.startsWith(`${UNFENCED}${invalidations}:`) ? 'stored' : 'lost'
    },
    revokeAll: () => void invalidations++,
  }
}

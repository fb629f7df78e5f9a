import { randomUUID } from 'node:crypto'
import type { BackendSpec, Outcome } from '../../src/backend/backend.js'
import type { Bytes } from '../../src/backend/cached-value.js'
import { type Acquired, arriving, type LeaseOperations } from '../../src/backend/lease.js'
import { report } from '../../src/base/diagnostics.js'
import { CorralError } from '../../src/base/errors.js'
import { andThen, isPromise, type MaybePromise } from '../../src/base/maybe-promise.js'
import type { Ledger, LedgerReading } from '../../src/ledger/ledger.js'
import type { EntryWrites } from './entries.js'
import { valueKey } from './format.js'
import type { Recovery } from './recovery.js'

export interface PolicyParts {
  readonly get: (key: string) => Promise<Bytes | undefined>
  readonly getMulti: (keys: readonly string[]) => Promise<(Bytes | undefined)[]>
  readonly writes: EntryWrites
  readonly lease: LeaseOperations<Bytes>
  readonly ledger: Ledger
  readonly recovery: Recovery | undefined
  /** Every clock that a chain was built on or that was ever asked for. */
  readonly clocks: Set<string>
  readonly failOpen: boolean
}

type Policed = Required<
  Pick<
    BackendSpec<Bytes>,
    'get' | 'set' | 'delete' | 'getMulti' | 'setMulti' | 'deleteMulti' | keyof LeaseOperations<Bytes>
  >
> & {
  readonly ledger: Ledger
}

/** A lease that no store knows of: its holder creates for itself, and for who joined it in this process. */
const UNFENCED = 'unfenced:'
const UNKNOWN: LedgerReading = { now: undefined, stamps: [] }

/**
 * What happens when an operation fails. A read rejects, or is a miss with `failOpen`. A write rejects. An invalidation
 * always rejects, is remembered until it could be done, and hides its keys from this process meanwhile.
 */
export function failurePolicy({
  get,
  getMulti,
  writes,
  lease,
  ledger,
  recovery,
  clocks,
  failOpen,
}: PolicyParts): Policed {
  const tell = (where: string, key: string | undefined, error: unknown) =>
    report('failure', () => ({ where: `redis ${where}`, key, error }))
  /** With `failOpen`, what to answer instead of a failure that is not the caller's own mistake. */
  const open = <T>(
    where: string,
    key: string | undefined,
    work: MaybePromise<T>,
    instead: () => T,
  ): MaybePromise<T> => {
    if (!failOpen || !isPromise(work)) return work
    return work.catch((error: unknown) => {
      if (CorralError.is(error, 'ERR_CLOSED') || CorralError.is(error, 'ERR_KEY')) throw error
      tell(where, key, error)
      return instead()
    })
  }
  const hidden = (key: string) => recovery !== undefined && recovery.size > 0 && recovery.hides(key)

  /** Does something that makes older values of the key unreachable, or remembers that it has failed. */
  const invalidating = async <T>(key: string, work: () => Promise<T>): Promise<T> => {
    const since = recovery?.failureCount() ?? 0
    try {
      const done = await work()
      recovery?.succeeded(key, since)
      return done
    } catch (error) {
      recovery?.failedKey(key)
      throw error
    }
  }
  const remove = async (keys: readonly string[]): Promise<void> => {
    invalidations++
    keys.forEach(valueKey)
    const since = recovery?.failureCount() ?? 0
    const errors = await writes.deleteMulti(keys)
    keys.forEach((key, i) => {
      if (errors[i] === undefined) recovery?.succeeded(key, since)
      else recovery?.failedKey(key)
    })
    const failure = errors.find((error) => error !== undefined)
    if (failure !== undefined) throw failure
  }

  /**
   * Keys whose lease this process stole, to renew them or to mark them stale. Both are invalidations: what they find must
   * be true, so that nothing stands in for a read that failed.
   */
  const stolen = new Map<string, string>()
  const isStolen = (key: string) => stolen.size > 0 && [...stolen.values()].includes(key)
  const steal = async (key: string, ms: number): Promise<Acquired<Bytes>> => {
    invalidations++
    valueKey(key)
    const acquired = await remembering(key, lease.acquire(key, ms, { steal: true }))
    if (acquired.token !== undefined) stolen.set(acquired.token, key)
    return acquired
  }
  /** What does not get through to renew or to mark a key is made good for by removing it. */
  const remembering = async <T>(key: string, work: MaybePromise<T>): Promise<T> => {
    try {
      return await work
    } catch (error) {
      recovery?.failedKey(key)
      throw error
    }
  }

  /** What needs no server: the fill of a lease that no server knows of, or of none. */
  const knownOutcome = (token: string): Outcome | undefined =>
    token === '' ? 'lost' : isUnfenced(token) ? (stands(token) ? 'stored' : 'lost') : undefined
  const isUnfenced = (token: string) => failOpen && token.startsWith(UNFENCED)
  /**
   * What was made without a fence must not be shared with who came after an invalidation of this process, of whatever it
   * was, and whether or not Redis has heard of it.
   */
  const stands = (token: string) => token.startsWith(`${UNFENCED}${invalidations}:`)
  let invalidations = 0

  /** What a message says was true in the store, which does not know of the invalidations that have not reached it. */
  const acquire = (key: string, ms: number, options: { readonly steal?: boolean } | undefined) => {
    const sure = undone() === 0
    return andThen(lease.acquire(key, ms, options), (acquired) =>
      arriving(acquired, (value) => (sure && undone() === 0 ? value : undefined)),
    )
  }
  const undone = () => recovery?.size ?? 0

  let lastClock: string | undefined
  const saw = (clock: string) => {
    if (clock !== lastClock) clocks.add((lastClock = clock))
  }

  return {
    get(key) {
      // Who marks or renews a key takes a miss for the truth: what failed since it was stolen is done first.
      if (isStolen(key) && recovery?.hasFailed(key)) return remove([key]).then(() => undefined)
      if (hidden(key)) return undefined
      if (isStolen(key)) return remembering(key, get(key))
      return failOpen ? open('get', key, get(key), () => undefined) : get(key)
    },
    getMulti(keys) {
      const found = open<readonly (Bytes | undefined)[]>('getMulti', keys[0], getMulti(keys), () =>
        keys.map(() => undefined),
      )
      if (recovery === undefined || recovery.size === 0 || !isPromise(found)) return found
      const hide = keys.map(hidden)
      return found.then((values) => values.map((value, i) => (hide[i] ? undefined : value)))
    },
    async set(key, value, options) {
      const { token } = options
      if (options.ifCurrent !== undefined) saw(options.ifCurrent.clock)
      if (token === undefined) {
        invalidations++
        writes.check(key, value)
        return invalidating(key, () => writes.set(key, value, options))
      }
      const known = knownOutcome(token)
      if (known !== undefined) return known
      const written = writes.set(key, value, options)
      return open<Outcome>(
        'set',
        key,
        stolen.delete(token) ? remembering(key, written) : written,
        () => 'lost',
      )
    },
    async setMulti(all) {
      for (const [key, value, { ifCurrent, token }] of all) {
        if (token === undefined) invalidations++
        writes.check(key, value)
        if (ifCurrent !== undefined) saw(ifCurrent.clock)
      }
      const outcomes = all.map(([, , { token }]) => (token === undefined ? undefined : knownOutcome(token)))
      const sent = all.flatMap((write, place) => (outcomes[place] === undefined ? [{ write, place }] : []))
      const since = recovery?.failureCount() ?? 0
      const answers =
        sent.length === 0
          ? []
          : await writes
              .setMulti(sent.map(({ write }) => write))
              .catch((error: Error) => sent.map(() => error))
      let failure: Error | undefined
      sent.forEach(({ write: [key, , { token }], place }, i) => {
        const answer =
          answers[i] ??
          new CorralError('ERR_BACKEND', 'Redis answered fewer outcomes than there were writes.')
        const plain = token === undefined
        const invalidates = plain || stolen.delete(token)
        if (!(answer instanceof Error)) {
          if (plain) recovery?.succeeded(key, since)
          outcomes[place] = answer
          return
        }
        if (invalidates) recovery?.failedKey(key)
        if (plain || !failOpen) failure ??= answer
        else tell('setMulti', key, answer)
      })
      if (failure !== undefined) throw failure
      return outcomes.map((outcome) => outcome ?? 'lost')
    },
    delete: (key) => remove([key]),
    deleteMulti: remove,
    acquire: (key, ms, options) =>
      options?.steal === true
        ? steal(key, ms)
        : open('acquire', key, acquire(key, ms, options), () => ({
            token: `${UNFENCED}${invalidations}:${randomUUID()}`,
          })),
    renew: (key, token, ms) =>
      isUnfenced(token) || open('renew', key, lease.renew(key, token, ms), () => false),
    release(key, token) {
      if (isUnfenced(token)) return stands(token)
      const released = lease.release(key, token)
      return open('release', key, stolen.delete(token) ? remembering(key, released) : released, () => false)
    },
    held: (key) => open('held', key, lease.held(key), () => false),
    ledger: {
      shared: ledger.shared,
      use: saw,
      read(clock, names) {
        saw(clock)
        if (recovery?.blind) return UNKNOWN
        return open('ledger.read', undefined, ledger.read(clock, names), () => UNKNOWN)
      },
      now(clock, names) {
        saw(clock)
        // An epoch that no clock will ever have: what is made from it is never stored.
        return open('ledger.begin', undefined, ledger.now(clock, names), () => ({
          epoch: `unreachable:${randomUUID()}`,
          at: 0,
        }))
      },
      judge(clock, snapshot) {
        saw(clock)
        if (recovery?.blind) return 'invalid'
        return open('ledger.judge', undefined, ledger.judge(clock, snapshot), () => 'invalid' as const)
      },
      async invalidate(clock, names, mode) {
        invalidations++
        saw(clock)
        try {
          await ledger.invalidate(clock, names, mode)
        } catch (error) {
          recovery?.failedNames(clock, names, mode)
          throw error
        }
      },
    },
  }
}

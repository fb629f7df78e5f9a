import type { Backend } from '../backend/backend.js'
import type { CachedValue } from '../backend/cached-value.js'
import type { CallRegistry, Tracker } from '../backend/tracker.js'
import { asyncContext, type ContextFrame, innermostActive } from '../base/async-context.js'
import type { CircuitBreaker } from '../base/breaker.js'
import type { Clock, Pause } from '../base/clock.js'
import type { FailureLog } from '../base/diagnostics.js'
import { CorralError } from '../base/errors.js'
import type { MaybePromise } from '../base/maybe-promise.js'
import { attempt } from '../base/maybe-promise.js'
import type { CallFailures } from '../creation/scope.js'
import type { CreateOptions, Creator, MultiCreator } from '../creation/types.js'
import type { Deadlines, Dogpile } from '../dogpile/types.js'
import type { CallsUnderWay } from './calls.js'
import type { Policy, Verdict } from './policy.js'
import type { RegionInvalidator } from './region-invalidator.js'
import type { RememberedErrors } from './remembered-errors.js'
import type { Counters } from './stats.js'

/** The result of a creation: the entry, and the reason that keeps it out of the store, if any. */
export interface Created {
  readonly entry: CachedValue
  readonly withheld?: string | undefined
  /** The entry was read, and was stale then. */
  readonly isStale?: boolean | undefined
  /** The value does not belong under its key: only the caller that led the creation gets it. */
  readonly isOwn?: boolean | undefined
}

/** A validated order to create. */
export interface CreationPlan {
  readonly create: MultiCreator<unknown> | Creator<unknown>
  /** `create` returns the value of the one key, instead of a list of values. */
  readonly isSingle: boolean
  readonly expiration: number | undefined
  readonly policy: Policy
  verdict?: Verdict | undefined
  /** No caller waits for it, and the value that it replaces is fresh. */
  readonly isAhead?: boolean
  /** Absent for creators that are no source, such as the host of a reservation. */
  readonly breaker: CircuitBreaker | undefined
  readonly shouldCache: ((value: never, key: string) => boolean) | undefined
  /** Absent where no option asks for one. */
  readonly deadlines: Deadlines | undefined
  readonly signal: AbortSignal | undefined
  /** Absent outside of creations. */
  readonly failures: CallFailures | undefined
  /** The options. Callers with the same object ask in the same way. */
  readonly options: CreateOptions<never>
}

/** The terms on which a call takes an entry. */
export interface ReadTerms extends Pick<CreationPlan, 'expiration' | 'policy'> {
  /** The call takes a stale value. */
  readonly staleToo?: boolean
  /** ms; `undefined`: the near cache's own bound. */
  readonly within?: number | undefined
}

/** Everything that the operations of a configured region need, validated. */
export interface RegionState {
  readonly name: string | undefined
  /** The name that invalidates everything in the region. */
  readonly own: string
  /** `own` as a list: one for all entries that depend on nothing else. */
  readonly ownNames: readonly string[]
  /** The chain with its failures typed. */
  readonly backend: Backend<CachedValue>
  /** The key under which `stored` and `chain` know a key: operations of one key map it once. */
  readonly keyOf: (key: string) => string
  /** `backend` below the layers that only map keys. */
  readonly stored: Backend<CachedValue>
  /** The same, whose failures are not typed: single reads type them themselves, which spares hits a layer. */
  readonly chain: Backend<CachedValue>
  /** Why the store does not reply, if it knows. */
  readonly trouble: () => unknown
  /** The keys of the region's entries, if its chain can list them. */
  readonly keys: Backend['keys']
  readonly tracker: Tracker | undefined
  /** The calls that cached functions made, if the chain tracks dependencies. */
  readonly calls: CallRegistry | undefined
  readonly invalidator: RegionInvalidator | undefined
  readonly expiration: number
  /** That of calls without options of their own. */
  readonly policy: Policy
  /** Those of reads without options. */
  readonly terms: ReadTerms
  /** For hits: may stand still while only microtasks run. */
  readonly clock: Clock
  /** For stamps. */
  readonly precise: Clock
  /** The stamp of work that starts now. */
  readonly stamp: (now: number) => number
  readonly leaseMs: number
  readonly dogpile: Dogpile<Created>
  /** Stops creators while many of them fail. */
  readonly breaker: CircuitBreaker | undefined
  /** The keys whose values are not renewed ahead of their end for a while. */
  readonly ahead: Map<string, Pause>
  /** Failures that this process remembers, by key. */
  readonly errors: RememberedErrors
  /** Failures to give back the leases of values that are not stored. */
  readonly releases: FailureLog
  /** The calls under way of all regions over the same backend. */
  readonly calling: CallsUnderWay
  /** Counts the reads and creations of the caller. */
  readonly counters: Counters
  /** The promises that the backend keeps the region from making, in plain words. */
  readonly limits: readonly string[]
  /** Calls off background renewals; closes the backend if no other region uses it. */
  release(): Promise<void>
}

/** A region at the beginning of a sentence. */
export function titleOf(name: string | undefined): string {
  return name === undefined ? 'Region' : `Region '${name}'`
}

/** Gives a region's operations its present state, which a new configuration replaces. */
export interface RegionHandle {
  readonly state: RegionState | undefined
  /** @throws CorralError `ERR_NOT_CONFIGURED` or `ERR_CLOSED` */
  use(): RegionState
  /** Runs an operation. Every failure of it is a rejection. */
  operation<R>(work: (state: RegionState) => MaybePromise<R>): Promise<R>
  /** Runs work that calls the region's operations itself: they find the given state, should the region be closed meanwhile. */
  outlive<R>(region: RegionState, work: () => Promise<R>): Promise<R>
  /** Replaces the state and returns the former one. Without a next one the region is closed. */
  replace(next?: RegionState): RegionState | undefined
}

/** Work that began before its region was closed. */
interface Outliving extends ContextFrame<Outliving> {
  readonly of: object
  readonly region: RegionState
}

const outliving = asyncContext<Outliving>('outliving')

/** The state that a region had when work around the caller began; absent if the caller is in no such work. */
function outlivedState(of: object): RegionState | undefined {
  let frame = outliving.current()
  while (frame !== undefined && frame.of !== of) frame = innermostActive(frame.parent)
  return frame?.region
}

export function regionHandle(name: string | undefined): RegionHandle {
  const title = titleOf(name)
  let state: RegionState | undefined
  let closed = false

  const use = (): RegionState => {
    const region = state ?? outlivedState(self)
    if (region !== undefined) return region
    if (closed) throw new CorralError('ERR_CLOSED', `${title} was closed. Configure it again to use it.`)
    throw new CorralError(
      'ERR_NOT_CONFIGURED',
      `${title} is used before it is configured. Call region.configure({ backend }) at start-up.`,
    )
  }
  const self: RegionHandle = {
    get state() {
      return state
    },
    use,
    operation: (work) =>
      attempt(() => {
        const region = use()
        return region.calling.count(work(region))
      }),
    outlive: (region, work) =>
      outliving.during({ parent: outliving.current(), over: false, of: self, region }, work),
    replace(next) {
      const former = state
      state = next
      closed = next === undefined
      return former
    },
  }
  return self
}

/** The same region for the cached functions of a namespace, whose calls are counted apart. */
export function countingApart(handle: RegionHandle, counters: Counters): RegionHandle {
  let base: RegionState | undefined
  let own: RegionState | undefined
  const use = (): RegionState => {
    const state = handle.use()
    if (state === base && own !== undefined) return own
    base = state
    return (own = { ...state, counters })
  }
  return {
    get state() {
      return handle.state
    },
    use,
    operation: (work) => handle.operation(() => work(use())),
    outlive: handle.outlive,
    replace: handle.replace,
  }
}

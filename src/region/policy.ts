import { untilAborted } from '../base/aborts.js'
import { report } from '../base/diagnostics.js'
import { milliseconds } from '../base/duration.js'
import { expectSync } from '../base/expect-sync.js'
import { isPromise, type MaybePromise } from '../base/maybe-promise.js'
import { rejectOptions } from '../base/options.js'
import { processGlobal } from '../base/process-global.js'
import { clearTimeout, performance, setImmediate, setTimeout } from '../base/timers.js'
import { SERVING_CHECKS, servingOptions } from '../creation/create-options.js'
import type { ServingOptions } from '../creation/types.js'
import { ALLOWANCE, creationTimeout } from '../dogpile/flight.js'
import type { Deadlines } from '../dogpile/types.js'
import { type Counted, originOf } from './stats.js'

/** `ServingOptions` in numbers. */
export interface Policy {
  /** The options as they were given, for calls that add some. */
  readonly given: ServingOptions
  /** ms; `undefined`: as long as the entry is fresh, at least a minute. */
  readonly grace: number | undefined
  /** ms; 0: off. */
  readonly retryAfter: number
  /** ms; 0: errors are not remembered. */
  readonly errorsFor: number
  readonly jitter: number
  /** `undefined`: off. */
  readonly refreshAhead: ServingOptions['refreshAhead']
  /** ms; Infinity: none. */
  readonly softTimeout: number
  readonly hardTimeout: number
  readonly abandonAfter: number
}

const NAMES = Object.keys(SERVING_CHECKS) as readonly (keyof ServingOptions)[]

/** The policy of a region, or of one call. @throws CorralError `ERR_OPTION` for options that contradict each other. */
export function policyOf(given: ServingOptions): Policy {
  const { jitter = 0, refreshAhead } = given
  const grace = orZero(given, 'grace')
  const retryAfter = orZero(given, 'retryAfter')
  if (grace === 0 && retryAfter)
    rejectOptions(
      'Expected no `retryAfter` with `grace: 0`, got both. Nothing is served stale, so every caller has to try: leave out one of them.',
    )
  const softTimeout = orZero(given, 'softTimeout') ?? Number.POSITIVE_INFINITY
  const hard = orZero(given, 'hardTimeout')
  const abandonAfter = orZero(given, 'abandonAfter') ?? Math.max(5 * 60_000, hard ?? 0)
  if (hard !== undefined && given.softTimeout !== undefined && softTimeout >= hard)
    rejectOptions(
      `Expected \`softTimeout\` to be shorter than \`hardTimeout\`, got ${softTimeout} and ${hard} ms. Make it shorter, or leave out one of them.`,
    )
  if (abandonAfter < (hard ?? 0))
    rejectOptions(
      `Expected \`abandonAfter\` to be at least \`hardTimeout\`, got ${abandonAfter} and ${hard} ms. Callers would wait for a creation that was given up: make it longer.`,
    )
  return {
    given,
    softTimeout,
    hardTimeout: hard ?? Number.POSITIVE_INFINITY,
    abandonAfter,
    grace,
    retryAfter: retryAfter ?? (grace === 0 ? 0 : 5_000),
    errorsFor: orZero(given, 'errorExpirationTime') ?? 0,
    jitter,
    refreshAhead,
  }
}

type Durations =
  | 'grace'
  | 'retryAfter'
  | 'errorExpirationTime'
  | 'softTimeout'
  | 'hardTimeout'
  | 'abandonAfter'

function orZero(given: ServingOptions, name: Durations): number | undefined {
  const value = given[name]
  return value === undefined || value === 0 ? value : milliseconds(value, name)
}

/** ms; `undefined`: not said. */
export function graceOf(options: Pick<ServingOptions, 'grace'>): number | undefined {
  return orZero(options, 'grace')
}

/** The policies of cached functions, by their options, which never change. */
const known = new WeakMap<ServingOptions, { readonly base: Policy; readonly policy: Policy }>()

/**
 * The policy of a call: its options stand before those of the region. Most calls have none.
 * @param isKept - the options are those of a cached function, for many calls
 */
export function policyFor(
  { policy: base }: { readonly policy: Policy },
  options: ServingOptions,
  isKept = false,
): Policy {
  if (!hasAny(options)) return base
  const found = isKept ? known.get(options) : undefined
  if (found?.base === base) return found.policy
  const policy = policyOf({ ...base.given, ...servingOptions(options) })
  if (isKept) known.set(options, { base, policy })
  return policy
}

/** Not some(): most misses come here, and have none. */
function hasAny(options: ServingOptions): boolean {
  for (const name of NAMES) if (options[name] !== undefined) return true
  return false
}

const ofRegions = processGlobal('policies', () => new WeakMap<object, () => Policy | undefined>())

/** Makes the policy of a region known to functions that wrap its calls. */
export function tellPolicy(region: object, policy: () => Policy | undefined): void {
  ofRegions.set(region, policy)
}

/** ms; `undefined`: none. */
export function hardTimeoutOf(region: object): number | undefined {
  const ms = ofRegions.get(region)?.()?.hardTimeout
  return ms === Number.POSITIVE_INFINITY ? undefined : ms
}

/** The deadlines of a call that starts now, or has started at a moment before. */
export function deadlinesOf(
  { softTimeout, hardTimeout }: Policy,
  since?: number,
  trouble?: Deadlines['trouble'],
): Deadlines | undefined {
  if (softTimeout === Number.POSITIVE_INFINITY && hardTimeout === Number.POSITIVE_INFINITY) return undefined
  const now = since ?? performance.now()
  return { softAt: now + softTimeout, hardAt: now + hardTimeout, hardTimeout, trouble }
}

/** The limits of a caller's own. */
interface CallerLimits {
  readonly deadlines?: Deadlines | undefined
  readonly signal?: AbortSignal | undefined
}

/** The result of a call, within its limits also if the store hangs. Callers without limits pay nothing. */
export function withinLimits<T>(
  key: string,
  { deadlines, signal }: CallerLimits,
  result: MaybePromise<T>,
): MaybePromise<T> {
  return untilAborted(signal, withinDeadline(key, deadlines, result))
}

function withinDeadline<T>(
  key: string,
  deadlines: Deadlines | undefined,
  result: MaybePromise<T>,
): MaybePromise<T> {
  if (deadlines === undefined || !isPromise(result)) return result
  const { hardAt, hardTimeout, trouble } = deadlines
  if (hardAt === Number.POSITIVE_INFINITY) return result
  return new Promise((resolve, reject) => {
    const late = () => setImmediate(() => reject(creationTimeout(key, hardTimeout, trouble)))
    const expire = () => {
      const left = hardAt - performance.now()
      // A timer cannot be as long as a deadline may be. And a process that was busy looks now for the value that stands.
      timer = left > 0 ? setTimeout(expire, left) : setTimeout(late, ALLOWANCE)
    }
    let timer = setTimeout(expire, hardAt - performance.now())
    result.then(resolve, reject).finally(() => clearTimeout(timer))
  })
}

/** The answer of a call's `serveStaleIf` to the failure that it was last asked about. */
export interface Verdict {
  readonly error: unknown
  readonly may: boolean
}

/** A call asks its `serveStaleIf` once about each failure. */
interface Asking {
  readonly policy: Policy
  verdict?: Verdict | undefined
}

/** Whether a failure of a creator may be answered with a stale value that stands. */
export function mayFallBack(region: Counted, call: Asking, error: unknown): boolean {
  const { serveStaleIf } = call.policy.given
  if (serveStaleIf === undefined) return true
  let { verdict } = call
  if (verdict === undefined || verdict.error !== error) {
    let may = false
    try {
      may = Boolean(expectSync('`serveStaleIf`', serveStaleIf(error)))
    } catch (failure) {
      report('failure', () => ({ where: 'serveStaleIf', ...originOf(region), error: failure }))
    }
    verdict = call.verdict = { error, may }
  }
  return verdict.may
}

/**
 * A miss that is the lease, for hosts that read, compute and then write, and have no creator to pass on. A reservation is a
 * creation whose creator waits for the host's value, so that one caller at a time computes, and an invalidation between the
 * read and the write keeps the value out.
 */
import type { Outcome } from '../backend/backend.js'
import type { CachedValue, Metadata } from '../backend/cached-value.js'
import { followed } from '../base/aborts.js'
import { milliseconds } from '../base/duration.js'
import { CorralError } from '../base/errors.js'
import { andThen, ignoreRejection, type MaybePromise, orElse } from '../base/maybe-promise.js'
import { checkOptions, rejectUnknownOptions } from '../base/options.js'
import { clearTimeout, setTimeout } from '../base/timers.js'
import { keepForCaller } from '../creation/own-result.js'
import { currentTransaction } from '../creation/transaction.js'
import type { Creation } from '../creation/types.js'
import { creationTimeout } from '../dogpile/flight.js'
import type { DogpileDriver, Lookup } from '../dogpile/types.js'
import { checkKey } from '../functions/keys.js'
import { checkValue, dependenciesOf, limitOf, RESERVE_OPTIONS } from './checks.js'
import { planOf } from './create.js'
import { driverOf } from './driver.js'
import { callFailures } from './handing-up.js'
import { deadlinesOf, policyOf, withinLimits } from './policy.js'
import {
  countRead,
  MISSING,
  matchesSession,
  newest,
  readOne,
  recordRead,
  serveHit,
  sharedPayload,
  toLookup,
  whenRead,
} from './serve.js'
import type { Created, CreationPlan, RegionHandle, RegionState } from './state.js'
import type { FillOptions, Region, Reservation, ReserveOptions } from './types.js'

/** The reservations of a region. */
export function regionReservations<V>({ operation }: RegionHandle): Pick<Region<V>, 'reserve'> {
  return {
    reserve: (key, given = {}) =>
      operation((region) => {
        checkKey(key)
        checkOptions(given, 'reserve()', RESERVE_OPTIONS)
        const options = { ...given }
        const expiration = limitOf(options.expirationTime)
        const terms = { expiration, policy: region.policy }
        const stored = region.keyOf(key)
        const newestOf = (one: CachedValue | undefined) => newest(region, key, stored, one, terms)
        const reserved = andThen(whenRead(region, readOne(region, stored), newestOf), (entry) =>
          andThen(toLookup(region, key, entry, terms), (found): Promise<Reservation<V>> => {
            if (found.state === 'fresh')
              return Promise.resolve({ value: serveHit<V>(region, key, found.value.entry, expiration) })
            countRead(region, key, 'invalid')
            return reserve<V>(region, key, expiration, options)
          }),
        )
        return inTime(key, options, reserved)
      }),
  }
}

/** A reservation within its caller's limits, also if the store hangs. One that comes too late goes to the next caller. */
function inTime<V>(
  key: string,
  { hardTimeout, signal }: ReserveOptions,
  reserved: MaybePromise<Reservation<V>>,
): MaybePromise<Reservation<V>> {
  if (hardTimeout === undefined && signal === undefined) return reserved
  return orElse(
    () => withinLimits(key, { deadlines: deadlinesOf(policyOf({ hardTimeout })), signal }, reserved),
    (error) => {
      void ignoreRejection(andThen(reserved, (found) => ('release' in found ? found.release() : undefined)))
      throw error
    },
  )
}

/** The value that the host brings, with its options; absent if it brings none. */
type Brought = readonly [value: unknown, options: FillOptions] | undefined

function reserve<V>(
  region: RegionState,
  key: string,
  expiration: number | undefined,
  { hold, hardTimeout, signal: given }: ReserveOptions,
): Promise<Reservation<V>> {
  const inside = currentTransaction()
  const { brought, end } = waitForHost()
  const { signal, stay } = followed(given)
  const filling: Filling = {}
  const received = (one: Created) => {
    recordRead(region, key, one.entry, { expiration, policy: region.policy }, undefined, inside)
    return sharedPayload<V>(region, one)
  }
  return new Promise((resolve, reject) => {
    const create = (creation: Creation): Promise<unknown> => {
      const timer = endLater(hold, () => end(undefined))
      resolve({
        async fill(value, options = {}) {
          const { draft, checked } = atTheCall(region, key, value, options)
          if (!end([draft.payload, checked])) return 'lost'
          filling.draft = draft
          stay()
          received(await created)
          return filling.outcome ?? 'lost'
        },
        async release() {
          end(undefined)
          await ignoreRejection(created.then(() => {}))
        },
      })
      return brought.then((given) => {
        clearTimeout(timer)
        return given === undefined ? keepForCaller(creation, RELEASED, false) : deliver(creation, given)
      })
    }
    const wait = hardTimeout === undefined ? undefined : milliseconds(hardTimeout, 'hardTimeout')
    const driver = driverFor(filling, driverOf(region, planOfReservation(region, create, expiration)))
    // Begun in a later step: a creator that runs at once hands out functions that wait for this very creation.
    const created = Promise.resolve().then(() =>
      region.dogpile.run(key, driver, {
        // Only the wait for the reservation has a deadline.
        ...{ wait, signal, accept: matchesSession, alone: !!inside, seen: [MISSING] },
        ...{ onJoin: region.counters.onJoin, onFailed: callFailures(region)?.onFailed },
      }),
    )
    created
      .then((one) => {
        // The creator has not run, or the host has its reservation already.
        if (end(undefined)) resolve({ value: received(one) })
      })
      // Also of the copy that the host would get: a store that clones may fail to.
      .catch((error: unknown) => {
        end(undefined)
        const isLate = wait !== undefined && CorralError.is(error, 'ERR_WAIT_TIMEOUT')
        reject(isLate ? creationTimeout(key, wait) : error)
      })
      .finally(stay)
  })
}

/** Ends a reservation that its host leaves. Who waits for a time of its own must not see the process end first. */
function endLater(hold: ReserveOptions['hold'], end: () => unknown): NodeJS.Timeout {
  const timer = setTimeout(end, milliseconds(hold ?? '10s', 'hold'))
  return hold === undefined ? timer.unref() : timer
}

/** It lasts as long as its host holds it: the region's timeouts are about creators. */
function planOfReservation(
  region: RegionState,
  create: CreationPlan['create'],
  expiration: number | undefined,
): CreationPlan {
  const policy = { ...region.policy, abandonAfter: Number.POSITIVE_INFINITY }
  return { ...planOf(region, create, {}, true), breaker: undefined, expiration, policy }
}

const RELEASED = 'its reservation was released'

/** A promise that the first call of `end` resolves. Later calls return false. */
function waitForHost() {
  let over = false
  let resolve: (brought: Brought) => void
  const brought = new Promise<Brought>((resolves) => (resolve = resolves))
  return {
    brought,
    end(one: Brought): boolean {
      if (over) return false
      resolve(one)
      return (over = true)
    },
  }
}

/** The options of a fill, as they are at the call. A value that is refused leaves the reservation as it was. */
function checkFill(region: RegionState, key: string, value: unknown, options: FillOptions): FillOptions {
  checkValue(key, value)
  rejectUnknownOptions(options, ['expirationTime', 'dependencies'], 'fill()')
  const { expirationTime } = options
  limitOf(expirationTime)
  return { expirationTime, dependencies: dependenciesOf(region, { ...options, asOf: 'now' }) }
}

/** What a fill brings, as it is at the call. */
function atTheCall(region: RegionState, key: string, value: unknown, options: FillOptions) {
  const checked = checkFill(region, key, value, options)
  return { draft: captured(region, key, value), checked }
}

function deliver(
  creation: Creation,
  [value, { expirationTime, dependencies = [] }]: NonNullable<Brought>,
): unknown {
  if (dependencies.length > 0) creation.dependsOn(creation.key, dependencies)
  if (expirationTime !== undefined) creation.expireIn(expirationTime)
  return value
}

/** An entry that gets its metadata later. By this object the chain knows the payload that it captured. */
type Draft = Pick<CachedValue, 'payload'> & { metadata?: Metadata }

/** The fill of a reservation. */
interface Filling {
  draft?: Draft
  outcome?: Outcome
}

/** The value as it is at the call: it is encoded or copied in a later step, and the host may use it again. */
function captured({ backend }: RegionState, key: string, payload: unknown): Draft {
  const { capture, copyOut } = backend
  if (capture === undefined && copyOut !== undefined)
    return { payload: copyOut({ payload, metadata }).payload }
  const draft: Draft = { payload }
  capture?.(draft as CachedValue, () => key)
  return draft
}

/** Of a value that has none yet. */
const metadata: Metadata = { startedAt: 1, createdAt: 1 }

/** The same driver, which stores the draft and keeps the outcome. A stale value is a miss to it. */
function driverFor(filling: Filling, driver: DogpileDriver<Created>): DogpileDriver<Created> {
  const { read, fill } = driver
  const orMissing = (found: Lookup<Created>) => (found.state === 'stale' ? MISSING : found)
  driver.read = (keys) => andThen(read.call(driver, keys), (found) => found.map(orMissing))
  driver.fill = (fills) =>
    andThen(fill?.call(driver, fills.map(drafted(filling.draft))) ?? [], (results) => {
      const [result] = results
      filling.outcome = result === 'stored' || result === 'lost' ? result : 'refused'
      return results
    })
  return driver
}

type Fill = Parameters<NonNullable<DogpileDriver<Created>['fill']>>[0][number]

/** A fill with the draft in place of the entry that was created from it. */
function drafted(draft: Draft | undefined): (fill: Fill) => Fill {
  return ([key, created, ...rest]) => {
    const { payload, metadata } = created.entry
    if (draft === undefined || !Object.is(payload, draft.payload)) return [key, created, ...rest]
    return [key, { ...created, entry: Object.assign(draft, { metadata }) as CachedValue }, ...rest]
  }
}

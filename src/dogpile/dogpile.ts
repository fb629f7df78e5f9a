import type { Acquired } from '../backend/lease.js'
import { milliseconds } from '../base/duration.js'
import { CorralError } from '../base/errors.js'
import { andThen, ignoreRejection, isPromise, type MaybePromise } from '../base/maybe-promise.js'
import { rejectUnknownOptions } from '../base/options.js'
import type { CreationNode } from '../creation/scope.js'
import {
  addWait,
  creationNode,
  isCreating,
  isCreatingUnshared,
  wouldDeadlock,
} from '../creation/wait-graph.js'
import type { LedgerTime } from '../ledger/snapshot.js'
import { renewInBackground } from './background-renewal.js'
import { create, type HeldLease, leasedCreations, releaseLease } from './create-and-fill.js'
import { type Flight, type FlightResult, type Limits, startFlight } from './flight.js'
import type { Dogpile, DogpileDriver, DogpileOptions, Lookup, Renewed, RunOptions } from './types.js'

/** After so many flights that ended in an invalidation a caller makes its value for itself alone. */
const ROUNDS = 3

/**
 * Makes a dogpile, usable without any cache: hand it how to look and how to create.
 *
 * The algorithm is dogpile.cache's, with three things added. Creations are fenced by a token, so that what an
 * invalidation overtook is not stored. The callers of this process share a flight, which takes no joiners once its fill
 * is sent. And nobody waits in a cycle: a creator that would wait for itself creates alone, without storing.
 * @throws CorralError `ERR_OPTION` on an unknown or invalid option.
 */
export function dogpile<V>(options: DogpileOptions = {}): Dogpile<V> {
  rejectUnknownOptions(options, ['wait', 'renewEvery', 'runner', 'signal'], 'dogpile()')
  const defaultWait = milliseconds(options.wait ?? '60s', 'wait')
  const renewEvery = milliseconds(options.renewEvery ?? '3s', 'renewEvery')
  const { runner, signal: closing = never } = options
  const flights = new Map<string, Flight<V>>()

  const limitsOf = ({ wait = defaultWait, signal }: RunOptions<V>): Limits => ({
    wait,
    // One deadline for all that a call waits for, however often it has to start over.
    deadline: wait === Number.POSITIVE_INFINITY ? wait : performance.now() + wait,
    signal,
  })
  const launch = (key: string, work: CreationNode): Flight<V> => {
    const former = flights.get(key)
    if (former !== undefined) former.open = false
    const flight = startFlight<V>(work)
    flights.set(key, flight)
    return flight
  }
  const closeFlight = (key: string, flight: Flight<V>) => {
    flight.open = false
    if (flights.get(key) === flight) flights.delete(key)
  }

  const maker = leasedCreations<V>(renewEvery, closeFlight)
  const { createAndFill, idle } = maker

  /** Sees a missing key through to a landing: waits for its lease, looks again, creates. Never rejects. */
  const awaitLease = async (
    key: string,
    flight: Flight<V>,
    steps: DogpileDriver<V>,
    denied: Acquired<Lookup<V>>,
  ): Promise<void> => {
    let token: string | undefined
    let asOf: LedgerTime | undefined
    try {
      let acquired = denied
      // Nothing has looked since that lease was asked for.
      let asked = flight.readCount
      const abandoned = whenAborted(flight.abandoned)
      while (acquired.token === undefined) {
        const told = await Promise.race([acquired.settled, abandoned])
        if (flight.abandoned.aborted) throw flight.abandoned.reason
        // Who came after the lease was asked for may have come after an invalidation of what was told, and starts over: the
        // leader is gone then, perhaps with the transaction that its creator works in.
        if (told?.state === 'fresh') {
          closeFlight(key, flight)
          return flight.complete({ kind: 'value', value: told.value, filled: 'lost', readCount: asked })
        }
        if (await completeIfFresh(key, flight, steps)) return
        asked = ++flight.readCount
        acquired = await acquire(steps, key, false)
      }
      token = acquired.token
      asOf = acquired.asOf
      if (acquired.found?.state === 'fresh') {
        await releaseLease(key, token, steps)
        closeFlight(key, flight)
        flight.complete({ kind: 'value', value: acquired.found.value, filled: 'lost', readCount: asked })
        return
      }
    } catch (error) {
      closeFlight(key, flight)
      if (token !== undefined) await releaseLease(key, token, steps)
      flight.fail(error)
      return
    }
    await createAndFill([{ key, flight, token, asOf }], flight.node, steps)
  }

  /** Looks again; whoever joined before this look may have what it finds. */
  const completeIfFresh = async (
    key: string,
    flight: Flight<V>,
    steps: DogpileDriver<V>,
    token?: string,
  ): Promise<boolean> => {
    const readCount = ++flight.readCount
    const [found] = await steps.read([key])
    if (found?.state !== 'fresh') return false
    if (token !== undefined) await releaseLease(key, token, steps)
    closeFlight(key, flight)
    flight.complete({ kind: 'value', value: found.value, filled: 'lost', readCount })
    return true
  }

  /** For a caller that may not wait, or has waited often enough: makes the value for itself. */
  const createUnshared = async (
    keys: readonly string[],
    steps: DogpileDriver<V>,
    options: RunOptions<V>,
  ): Promise<readonly V[]> => {
    const key = keys.find((one) => isCreatingUnshared(flights, one))
    if (key !== undefined) throw creationCycle(key)
    const work = creationNode(flights, keys, true)
    const endWait = addWait(work)
    const { signal } = options
    const over = new AbortController()
    try {
      const created = ignoreRejection(create(steps, keys, work, signal ?? never))
      // A creator that does not listen to its signal must not keep a caller who has gone.
      return signal === undefined
        ? await created
        : await Promise.race([created, calledOff(signal, over.signal)])
    } finally {
      over.abort()
      endWait?.()
    }
  }

  /** Whether leases are granted later: then those who have waited for the same reply get a turn to join before one is asked for. */
  let later = false

  /** Asks for the leases of keys that nobody in this process works on, and makes what was granted in one creation. */
  const createLeased = async (
    mine: readonly Mine<V>[],
    work: CreationNode,
    steps: DogpileDriver<V>,
  ): Promise<void> => {
    const answers = await Promise.allSettled(
      mine.map(async ({ key, flight }) => {
        if (later) await undefined
        flight.readCount++
        const answer = acquire(steps, key, false)
        later = isPromise(answer)
        return answer
      }),
    )
    const claims: {
      readonly lease: HeldLease<V>
      readonly found: Lookup<V> | undefined
      readonly stale: boolean
    }[] = []
    answers.forEach((answer, i) => {
      const { key, flight, stale } = mine[i] as Mine<V>
      if (answer.status === 'rejected') {
        closeFlight(key, flight)
        flight.fail(answer.reason)
      } else if (answer.value.token !== undefined) {
        const { token, asOf, found } = answer.value
        claims.push({ lease: { key, flight, token, asOf }, found, stale })
      } else if (stale) {
        flight.open = false
        flight.complete({ kind: 'retry' })
        // Until that lease is over the old value is had without asking for it each time.
        const over = () => closeFlight(key, flight)
        answer.value.settled.then(over, over)
        setTimeout(over, Math.min(answer.value.remaining, 2 ** 31 - 1)).unref()
      } else void awaitLease(key, flight, steps, answer.value)
    })
    if (claims.length === 0) return
    const free: HeldLease<V>[] = []
    const renewals: HeldLease<V>[] = []
    for (const { lease, found, stale } of claims)
      if (found?.state === 'fresh') {
        await releaseLease(lease.key, lease.token, steps)
        closeFlight(lease.key, lease.flight)
        const { readCount } = lease.flight
        lease.flight.complete({ kind: 'value', value: found.value, filled: 'lost', readCount })
      } else if (found?.state === 'stale' && runner !== undefined && stale) renewals.push(lease)
      else free.push(lease)
    if (runner !== undefined && renewals.length > 0) {
      for (const { key, flight } of renewals) {
        closeFlight(key, flight)
        flight.complete({ kind: 'retry' })
      }
      renewInBackground({ owner: flights, runner, maker, closing }, renewals, steps)
    }
    if (free.length > 0) await createAndFill(free, work, steps)
  }

  const resolveKeys = async (
    keys: readonly string[],
    steps: DogpileDriver<V>,
    options: RunOptions<V>,
    limits: Limits,
  ): Promise<Map<string, V>> => {
    const results = new Map<string, V>()
    let pending = keys
    for (let round = 1; pending.length > 0; round++) {
      const founds = round === 1 && options.seen !== undefined ? options.seen : await steps.read(pending)
      if (founds.some(({ state }) => state !== 'fresh')) options.signal?.throwIfAborted()
      const waits: Wait<V>[] = []
      const mine: Mine<V>[] = []
      const own: string[] = []
      const work = creationNode(flights, pending)
      // No await from here to the launch of the last flight: a key has one flight at a time.
      pending.forEach((key, i) => {
        const found = founds[i] as Lookup<V>
        const current = flights.get(key)
        if (found.state === 'fresh' || (found.state === 'stale' && current !== undefined))
          results.set(key, found.value)
        else if (options.alone || round > ROUNDS || (current?.open && wouldDeadlock(current.node)))
          own.push(key)
        else if (current?.open) waits.push({ key, flight: current, leads: false })
        else {
          const flight = launch(key, work)
          mine.push({ key, flight, stale: found.state === 'stale' })
          waits.push({
            key,
            flight,
            leads: true,
            ...(found.state === 'stale' && { instead: found.value }),
          })
        }
      })
      const landings = waits.map(({ flight, leads }) => ignoreRejection(flight.wait(limits, leads)))
      if (mine.length > 0) void createLeased(mine, work, steps)
      if (own.length > 0) {
        const values = await createUnshared(own, steps, options)
        own.forEach((key, i) => results.set(key, values[i] as V))
      }
      const landed = await Promise.all(landings)
      const joined = waits.some(({ leads }) => !leads)
      const suits =
        joined && options.accept !== undefined
          ? await acceptedResults(waits, landed, options.accept)
          : undefined
      pending = waits.flatMap((wait, i) => {
        const landing = landed[i] as Awaited<(typeof landings)[number]>
        if (landing.kind === 'value' && suits?.[i] !== false) results.set(wait.key, landing.value)
        else if ('instead' in wait) results.set(wait.key, wait.instead as V)
        else return [wait.key]
        return []
      })
    }
    return results
  }

  const runOne = async (
    key: string,
    steps: DogpileDriver<V>,
    options: RunOptions<V>,
    limits: Limits,
  ): Promise<V> => (await resolveKeys([key], steps, options, limits)).get(key) as V

  const renewMulti = async (
    keys: readonly string[],
    steps: DogpileDriver<V>,
    options: RunOptions<V> = {},
  ): Promise<Map<string, Renewed<V>>> => {
    const repeated = keys.find((key) => isCreating(flights, key))
    if (repeated !== undefined) throw creationCycle(repeated)
    options.signal?.throwIfAborted()
    const work = creationNode(flights, keys)
    const limits = limitsOf(options)
    const mine = keys.map((key) => ({ key, flight: launch(key, work) }))
    const landings = mine.map(({ flight }) => {
      const landing = flight.wait(limits, true)
      landing.catch(() => {})
      return landing
    })
    void (async () => {
      // Every lease first, then one creation: what an invalidation voids must have been begun after it was fenced.
      const answers = await Promise.allSettled(mine.map(async ({ key }) => acquire(steps, key, true)))
      const claims: HeldLease<V>[] = []
      let failure: unknown
      answers.forEach((answer, i) => {
        const { key, flight } = mine[i] as (typeof mine)[number]
        flight.readCount++
        if (answer.status === 'rejected') failure ??= answer.reason
        else if (answer.value.token !== undefined)
          claims.push({ key, flight, token: answer.value.token, asOf: answer.value.asOf })
        else
          failure ??= new CorralError('ERR_BACKEND', `The store refused to hand over the lease of '${key}'.`)
      })
      if (claims.length === mine.length) return createAndFill(claims, work, steps)
      await Promise.all(claims.map(({ key, token }) => releaseLease(key, token, steps)))
      for (const { key, flight } of mine) {
        closeFlight(key, flight)
        flight.fail(failure)
      }
    })()
    const landed = await Promise.all(landings)
    return new Map(
      landed.map((landing, i) => {
        const key = keys[i] as string
        if (landing.kind !== 'value')
          throw new CorralError('ERR_BACKEND', `The renewal of '${key}' ended without a value.`)
        return [key, { value: landing.value, filled: landing.filled }]
      }),
    )
  }

  return {
    detach(keys) {
      for (const key of keys) {
        const flight = flights.get(key)
        if (flight !== undefined) closeFlight(key, flight)
      }
    },
    isCreating: (key) => isCreating(flights, key),
    idle,
    runMulti: async (keys, steps, options = {}) => resolveKeys(keys, steps, options, limitsOf(options)),
    run(key, steps, options = {}) {
      const limits = limitsOf(options)
      const current = options.alone ? undefined : flights.get(key)
      // What a stampede mostly consists of, without the book-keeping of many keys.
      if (options.seen?.[0]?.state === 'missing' && current?.open && !wouldDeadlock(current.node)) {
        const { signal, accept } = options
        const again = () => runOne(key, handed(steps), { signal, accept }, limits)
        return current.wait(limits, false).then((landing) => {
          if (landing.kind !== 'value') return again()
          const suits = accept?.(landing.value) ?? true
          if (!isPromise(suits)) return suits ? landing.value : again()
          return suits.then((later) => (later ? landing.value : again()))
        })
      }
      return runOne(key, handed(steps), options, limits)
    },
    renewMulti,
    async renew(key, steps, options) {
      const renewed = await renewMulti([key], steps, options)
      return renewed.get(key) as Renewed<V>
    },
  }
}

interface Mine<V> {
  readonly key: string
  readonly flight: Flight<V>
  readonly stale: boolean
}

interface Wait<V> {
  readonly key: string
  readonly flight: Flight<V>
  readonly leads: boolean
  readonly instead?: V
}

/** For those who cannot be called off. */
const never = new AbortController().signal

function handed<V>(steps: DogpileDriver<V> | (() => DogpileDriver<V>)): DogpileDriver<V> {
  return typeof steps === 'function' ? steps() : steps
}

/** Which landings suit callers that joined; who leads takes what it made or found itself. */
function acceptedResults<V>(
  waits: readonly Wait<V>[],
  landed: readonly FlightResult<V>[],
  accept: (value: V) => MaybePromise<boolean>,
): Promise<readonly boolean[]> {
  return Promise.all(
    waits.map(({ leads }, i) => {
      const landing = landed[i]
      return leads || landing?.kind !== 'value' || accept(landing.value)
    }),
  )
}

function creationCycle(key: string): CorralError {
  return new CorralError(
    'ERR_CREATION_CYCLE',
    `The creator of '${key}' asks for '${key}' again, endlessly. Break the recursion, or use other keys.`,
  )
}

function acquire<V>(steps: DogpileDriver<V>, key: string, steal: boolean): MaybePromise<Acquired<Lookup<V>>> {
  if (steps.acquire === undefined)
    return andThen(steal ? [] : steps.read([key]), ([found]) => ({ token: '', found }))
  return andThen(steps.acquire(key, steal), (acquired) => {
    // It may fail before anybody listens: while the other leases of a batch are asked for.
    if (acquired.token === undefined) void ignoreRejection(acquired.settled)
    return acquired
  })
}

/** Rejects when the signal is aborted, unless `over` was first. */
function calledOff(signal: AbortSignal, over: AbortSignal): Promise<never> {
  return new Promise((_, reject) => {
    if (signal.aborted) reject(signal.reason)
    else signal.addEventListener('abort', () => reject(signal.reason), { once: true, signal: over })
  })
}

function whenAborted(signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) resolve()
    else signal.addEventListener('abort', () => resolve(), { once: true })
  })
}

import { report } from './diagnostics.js'
import { type Duration, milliseconds } from './duration.js'
import { CorralError, refuseUnknown } from './errors.js'
import { type Filled, type Flight, type Landing, type Limits, takeOff } from './flight.js'
import type { Acquired } from './lease.js'
import { handled, isPromise, type MaybePromise } from './maybe-promise.js'
import type { AsyncCreationRunner } from './runner.js'
import {
  beginSpan,
  closesCycle,
  currentScope,
  endSpan,
  enterScope,
  leaveScope,
  makesAlready,
  noteWait,
  repeatsItself,
  type Work,
} from './scope.js'

/** What a look at the store finds: serve it · serve it while one caller renews · nothing of use. */
export type Found<V> =
  | { readonly state: 'fresh' | 'stale'; readonly value: V }
  | { readonly state: 'missing'; readonly value?: undefined }

/** What the dogpile is handed. It knows no backend, no clock and no meaning of a key. */
export interface Steps<V> {
  /** Looks at the store; never waits for a creation. */
  look(keys: readonly string[]): MaybePromise<readonly Found<V>[]>
  /** Does the expensive work for all of the keys, in their order. */
  create(keys: readonly string[], signal: AbortSignal): MaybePromise<readonly V[]>
  /** Asks for the lease of a key; never waits. Without leases there is only this process. */
  acquire?(key: string, steal: boolean): MaybePromise<Acquired>
  /** Stores what was made, each under its token. The first thing it does must be to send it. */
  fill?(fills: readonly (readonly [key: string, value: V, token: string])[]): MaybePromise<readonly Filled[]>
  renew?(key: string, token: string): MaybePromise<boolean>
  release?(key: string, token: string): MaybePromise<boolean>
}

export interface PileOptions {
  /** How long a caller waits for another one's creation. @default '60s' */
  readonly wait?: Duration
  /** How often leases are renewed while a creator runs. @default '3s' */
  readonly renewEvery?: Duration
  /** Takes renewals off the caller's hands when a stale value can be served. */
  readonly runner?: AsyncCreationRunner | undefined
  /** Passed on to the runner's jobs: aborted when nobody wants them any more. */
  readonly signal?: AbortSignal
}

export interface RunOptions<V> {
  /** ms. @default the pile's */
  readonly wait?: number | undefined
  readonly signal?: AbortSignal | undefined
  /** What the caller has found already, to spare the first look; one for each key. */
  readonly seen?: readonly Found<V>[]
}

/** One creator at a time for each key; the others are served the previous value, or wait for the new one. */
export interface Dogpile<V> {
  /** `steps` may be a function that makes them: whoever joins another caller's creation does not need them. */
  run(key: string, steps: Steps<V> | (() => Steps<V>), options?: RunOptions<V>): Promise<V>
  /** The same for many keys: one creation for all that nobody else is making. Never holds one lease while waiting for another. */
  runMulti(keys: readonly string[], steps: Steps<V>, options?: RunOptions<V>): Promise<Map<string, V>>
  /** Creates anew whatever is there, voiding a creation under way. Tells what became of the fill. */
  renew(key: string, steps: Steps<V>, options?: RunOptions<V>): Promise<Renewed<V>>
  /** The same for many keys, in one creation. */
  renewMulti(
    keys: readonly string[],
    steps: Steps<V>,
    options?: RunOptions<V>,
  ): Promise<Map<string, Renewed<V>>>
  /**
   * Lets nobody join the creations of these keys any more: what they make was voided. Their tokens keep it out of the
   * store in any case; this spares newcomers the wait.
   */
  detach(keys: readonly string[]): void
  /** Resolves when no creation is under way. */
  idle(): Promise<void>
}

export interface Renewed<V> {
  readonly value: V
  readonly filled: Filled
}

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
export function dogpile<V>(options: PileOptions = {}): Dogpile<V> {
  refuseUnknown(options, ['wait', 'renewEvery', 'runner', 'signal'], 'dogpile()')
  const defaultWait = milliseconds(options.wait ?? '60s', 'wait')
  const renewEvery = milliseconds(options.renewEvery ?? '3s', 'renewEvery')
  const { runner, signal: closing = never } = options
  const flights = new Map<string, Flight<V>>()
  const pile = flights

  const limitsOf = ({ wait = defaultWait, signal }: RunOptions<V>): Limits => ({
    wait,
    // One deadline for all that a call waits for, however often it has to start over.
    deadline: wait === Number.POSITIVE_INFINITY ? wait : performance.now() + wait,
    signal,
  })
  const workFor = (keys: readonly string[], alone = false): Work => ({
    pile,
    keys,
    alone,
    waits: new Set(),
  })

  const launch = (key: string, work: Work): Flight<V> => {
    const former = flights.get(key)
    if (former !== undefined) former.open = false
    const flight = takeOff<V>(work)
    flights.set(key, flight)
    return flight
  }
  const ground = (key: string, flight: Flight<V>) => {
    flight.open = false
    if (flights.get(key) === flight) flights.delete(key)
  }

  let busy = 0
  let whenIdle: (() => void)[] = []

  /** Keeps the leases of a creation alive until it is called off. */
  const hold = (held: readonly Claim<V>[], steps: Steps<V>): (() => void) => {
    if (steps.renew === undefined) return () => {}
    const timer = setInterval(
      () => {
        for (const { key, token } of held)
          void (async () => {
            try {
              if (!(await steps.renew?.(key, token)))
                report('notice', () => ({
                  where: 'dogpile',
                  key,
                  message: 'the lease was lost while the creator ran',
                }))
            } catch (error) {
              report('failure', () => ({ where: 'renew', key, error }))
            }
          })()
      },
      Math.min(renewEvery, 2 ** 31 - 1),
    )
    timer.unref()
    return () => clearInterval(timer)
  }

  /** Gives a lease back after a failure, which is then the failure that counts. */
  const giveBack = async (key: string, token: string, steps: Steps<V>): Promise<void> => {
    try {
      await steps.release?.(key, token)
    } catch (error) {
      report('failure', () => ({ where: 'release', key, error }))
    }
  }

  /** Creates and fills under leases that are held; lands every flight of the batch. Never rejects. */
  const makeAndLand = async (claims: readonly Claim<V>[], work: Work, steps: Steps<V>): Promise<void> => {
    const stop = hold(claims, steps)
    busy++
    try {
      const keys = claims.map(({ key }) => key)
      for (const { flight } of claims) flight.creating = true
      const values = await create(steps, keys, work, whenAllAbandoned(claims))
      for (const { flight } of claims) flight.open = false
      const fills = claims.map(({ key, token }, i) => [key, values[i] as V, token] as const)
      const outcomes = (await steps.fill?.(fills)) ?? claims.map(() => 'stored' as const)
      claims.forEach(({ key, flight }, i) => {
        ground(key, flight)
        flight.land({
          kind: 'value',
          value: values[i] as V,
          filled: outcomes[i] as Filled,
          look: flight.looks,
        })
      })
    } catch (error) {
      for (const { key, flight } of claims) ground(key, flight)
      await Promise.all(claims.map(({ key, token }) => giveBack(key, token, steps)))
      for (const { flight } of claims) flight.fail(error)
    } finally {
      stop()
      if (--busy === 0) {
        for (const resolve of whenIdle) resolve()
        whenIdle = []
      }
    }
  }

  /** Hands stale keys to the runner. Its job holds the leases on its own: flights are for callers who wait. */
  const handOver = (run: AsyncCreationRunner, claims: readonly Claim<V>[], steps: Steps<V>): void => {
    for (const { key, flight } of claims) {
      ground(key, flight)
      flight.land({ kind: 'again' })
    }
    const keys = claims.map(({ key }) => key)
    const background = async (): Promise<void> => {
      // A job may have waited in a queue for longer than its leases lived.
      const still = await Promise.all(claims.map(({ key, token }) => steps.renew?.(key, token) ?? true))
      const live = claims.filter((_, i) => still[i])
      if (live.length === 0) return
      if (closing.aborted) {
        await Promise.all(live.map(({ key, token }) => giveBack(key, token, steps)))
        return
      }
      const work = workFor(live.map(({ key }) => key))
      const jobs = live.map((claim) => ({ ...claim, flight: takeOff<V>(work) }))
      await leaveScope(async () => {
        const limits = limitsOf({ wait: Number.POSITIVE_INFINITY, signal: closing })
        const landings = jobs.map(({ flight }) => silent(flight.wait(limits, true)))
        await makeAndLand(jobs, work, steps)
        await Promise.all(landings)
      })
    }
    const failed = async (error: unknown): Promise<void> => {
      report('failure', () => ({ where: 'asyncCreationRunner', key: keys[0], error }))
      await Promise.all(claims.map(({ key, token }) => giveBack(key, token, steps)))
    }
    let running: Promise<void> | undefined
    try {
      const left: unknown = run({
        key: keys[0] as string,
        keys,
        signal: closing,
        run: () => (running ??= background().catch(failed)),
      })
      // A runner may be an async function, whose failure would otherwise be nobody's.
      if (isPromise(left)) left.catch(failed)
    } catch (error) {
      void failed(error)
    }
  }

  /** Sees a missing key through to a landing: waits for its lease, looks again, creates. Never rejects. */
  const drive = async (key: string, flight: Flight<V>, steps: Steps<V>, busy?: Acquired): Promise<void> => {
    let token: string | undefined
    try {
      let acquired = busy ?? (await acquire(steps, key, false))
      const abandoned = acquired.token === undefined ? whenAborted(flight.abandoned) : undefined
      while (acquired.token === undefined) {
        void handled(acquired.settled)
        await Promise.race([acquired.settled, abandoned])
        if (flight.abandoned.aborted) throw flight.abandoned.reason
        if (await landIfFresh(key, flight, steps)) return
        acquired = await acquire(steps, key, false)
      }
      token = acquired.token
      if (await landIfFresh(key, flight, steps, token)) return
    } catch (error) {
      ground(key, flight)
      if (token !== undefined) await giveBack(key, token, steps)
      flight.fail(error)
      return
    }
    await makeAndLand([{ key, flight, token }], flight.work, steps)
  }

  /** Looks again; whoever joined before this look may have what it finds. */
  const landIfFresh = async (
    key: string,
    flight: Flight<V>,
    steps: Steps<V>,
    token?: string,
  ): Promise<boolean> => {
    const look = ++flight.looks
    const [found] = await steps.look([key])
    if (found?.state !== 'fresh') return false
    if (token !== undefined) await giveBack(key, token, steps)
    ground(key, flight)
    flight.land({ kind: 'value', value: found.value, filled: 'lost', look })
    return true
  }

  /** For a caller that may not wait, or has waited often enough: makes the value for itself. */
  const alone = async (
    keys: readonly string[],
    steps: Steps<V>,
    options: RunOptions<V>,
  ): Promise<readonly V[]> => {
    const key = keys.find((one) => repeatsItself(pile, one))
    if (key !== undefined) throw endless(key)
    const work = workFor(keys, true)
    const endWait = noteWait(work)
    try {
      return await create(steps, keys, work, options.signal ?? never)
    } finally {
      endWait?.()
    }
  }

  /** Asks for the leases of keys that nobody in this process works on, and makes what was granted in one creation. */
  const makeWhatIsFree = async (mine: readonly Mine<V>[], work: Work, steps: Steps<V>): Promise<void> => {
    const answers = await Promise.allSettled(mine.map(async ({ key }) => acquire(steps, key, false)))
    const claims: Claim<V>[] = []
    answers.forEach((answer, i) => {
      const { key, flight, stale } = mine[i] as Mine<V>
      if (answer.status === 'rejected') {
        ground(key, flight)
        flight.fail(answer.reason)
      } else if (answer.value.token !== undefined) claims.push({ key, flight, token: answer.value.token })
      else if (stale) {
        void handled(answer.value.settled)
        ground(key, flight)
        flight.land({ kind: 'again' })
      } else void drive(key, flight, steps, answer.value)
    })
    if (claims.length === 0) return
    const free: Claim<V>[] = []
    const renewals: Claim<V>[] = []
    try {
      const looks = claims.map(({ flight }) => ++flight.looks)
      const founds = await steps.look(claims.map(({ key }) => key))
      for (const [i, claim] of claims.entries()) {
        const found = founds[i] as Found<V>
        if (found.state === 'fresh') {
          await giveBack(claim.key, claim.token, steps)
          ground(claim.key, claim.flight)
          claim.flight.land({ kind: 'value', value: found.value, filled: 'lost', look: looks[i] as number })
        } else if (
          found.state === 'stale' &&
          runner !== undefined &&
          mine.some((m) => m.key === claim.key && m.stale)
        )
          renewals.push(claim)
        else free.push(claim)
      }
    } catch (error) {
      await Promise.all(claims.map(({ key, token }) => giveBack(key, token, steps)))
      for (const { key, flight } of claims) {
        ground(key, flight)
        flight.fail(error)
      }
      return
    }
    if (runner !== undefined && renewals.length > 0) handOver(runner, renewals, steps)
    if (free.length > 0) await makeAndLand(free, work, steps)
  }

  const runMulti = async (
    keys: readonly string[],
    steps: Steps<V>,
    options: RunOptions<V> = {},
  ): Promise<Map<string, V>> => {
    const limits = limitsOf(options)
    const results = new Map<string, V>()
    let pending = keys
    for (let round = 1; pending.length > 0; round++) {
      const founds = round === 1 && options.seen !== undefined ? options.seen : await steps.look(pending)
      if (founds.some(({ state }) => state !== 'fresh')) options.signal?.throwIfAborted()
      const waits: Wait<V>[] = []
      const mine: Mine<V>[] = []
      const own: string[] = []
      const work = workFor(pending)
      // No await from here to the launch of the last flight: a key has one flight at a time.
      pending.forEach((key, i) => {
        const found = founds[i] as Found<V>
        const current = flights.get(key)
        if (found.state === 'fresh' || (found.state === 'stale' && current !== undefined))
          results.set(key, found.value)
        else if (round > ROUNDS || (current?.open && closesCycle(current.work))) own.push(key)
        else if (current?.open) waits.push({ key, flight: current, joined: current.looks, leads: false })
        else {
          const flight = launch(key, work)
          mine.push({ key, flight, stale: found.state === 'stale' })
          waits.push({
            key,
            flight,
            joined: 0,
            leads: true,
            ...(found.state === 'stale' && { instead: found.value }),
          })
        }
      })
      const landings = waits.map(({ flight, leads }) => silent(flight.wait(limits, leads)))
      if (mine.length > 0) void makeWhatIsFree(mine, work, steps)
      if (own.length > 0) {
        const values = await alone(own, steps, options)
        own.forEach((key, i) => results.set(key, values[i] as V))
      }
      const landed = await Promise.all(landings)
      pending = waits.flatMap((wait, i) => {
        const landing = landed[i] as Awaited<(typeof landings)[number]>
        if (mayHave(landing, wait.joined)) results.set(wait.key, landing.value)
        else if ('instead' in wait) results.set(wait.key, wait.instead as V)
        else return [wait.key]
        return []
      })
    }
    return results
  }

  const run = async (key: string, steps: Steps<V>, options: RunOptions<V>): Promise<V> =>
    (await runMulti([key], steps, options)).get(key) as V

  const renewMulti = async (
    keys: readonly string[],
    steps: Steps<V>,
    options: RunOptions<V> = {},
  ): Promise<Map<string, Renewed<V>>> => {
    const repeated = keys.find((key) => makesAlready(pile, key))
    if (repeated !== undefined) throw endless(repeated)
    options.signal?.throwIfAborted()
    const work = workFor(keys)
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
      const claims: Claim<V>[] = []
      let failure: unknown
      answers.forEach((answer, i) => {
        const { key, flight } = mine[i] as (typeof mine)[number]
        flight.looks++
        if (answer.status === 'rejected') failure ??= answer.reason
        else if (answer.value.token !== undefined) claims.push({ key, flight, token: answer.value.token })
        else
          failure ??= new CorralError('ERR_BACKEND', `The store refused to hand over the lease of '${key}'.`)
      })
      if (claims.length === mine.length) return makeAndLand(claims, work, steps)
      await Promise.all(claims.map(({ key, token }) => giveBack(key, token, steps)))
      for (const { key, flight } of mine) {
        ground(key, flight)
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
        if (flight !== undefined) ground(key, flight)
      }
    },
    idle: () => (busy === 0 ? Promise.resolve() : new Promise((resolve) => whenIdle.push(resolve))),
    runMulti,
    run(key, steps, options = {}) {
      const current = flights.get(key)
      // What a stampede mostly consists of, without the book-keeping of many keys.
      if (options.seen?.[0]?.state === 'missing' && current?.open && !closesCycle(current.work)) {
        const joined = current.looks
        return current
          .wait(limitsOf(options), false)
          .then((landing) =>
            mayHave(landing, joined)
              ? landing.value
              : run(key, handed(steps), { wait: options.wait, signal: options.signal }),
          )
      }
      return run(key, handed(steps), options)
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

interface Claim<V> {
  readonly key: string
  readonly flight: Flight<V>
  readonly token: string
}

interface Wait<V> {
  readonly key: string
  readonly flight: Flight<V>
  readonly joined: number
  readonly leads: boolean
  readonly instead?: V
}

/** For those who cannot be called off. */
const never = new AbortController().signal

async function create<V>(
  steps: Steps<V>,
  keys: readonly string[],
  work: Work,
  signal: AbortSignal,
): Promise<readonly V[]> {
  const span = beginSpan()
  try {
    return await enterScope({ parent: currentScope(), work, gathering: undefined, span }, () =>
      steps.create(keys, signal),
    )
  } finally {
    endSpan(span)
  }
}

/** Aborted when nobody waits for any of the keys any more. */
function whenAllAbandoned<V>(claims: readonly Claim<V>[]): AbortSignal {
  const [first] = claims
  if (claims.length === 1 && first !== undefined) return first.flight.abandoned
  const all = new AbortController()
  let left = claims.length
  for (const { flight } of claims) {
    const { abandoned } = flight
    const one = () => {
      if (--left === 0) all.abort(abandoned.reason)
    }
    if (abandoned.aborted) one()
    else abandoned.addEventListener('abort', one, { once: true })
  }
  return all.signal
}

function handed<V>(steps: Steps<V> | (() => Steps<V>)): Steps<V> {
  return typeof steps === 'function' ? steps() : steps
}

function shareable(filled: Filled): boolean {
  return filled === 'stored' || filled === 'kept'
}

/** Whether a landing's value is new enough for who joined after so many looks. */
function mayHave<V>(landing: Landing<V>, joined: number): landing is Landing<V> & { readonly kind: 'value' } {
  return landing.kind === 'value' && (shareable(landing.filled) || joined < landing.look)
}

/** Will be awaited, but maybe only after something else has failed. */
function silent<T>(promise: Promise<T>): Promise<T> {
  promise.catch(() => {})
  return promise
}

function endless(key: string): CorralError {
  return new CorralError(
    'ERR_CREATION_CYCLE',
    `The creator of '${key}' asks for '${key}' again, endlessly. Break the recursion, or use other keys.`,
  )
}

function acquire<V>(steps: Steps<V>, key: string, steal: boolean): MaybePromise<Acquired> {
  return steps.acquire?.(key, steal) ?? { token: '' }
}

function whenAborted(signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) resolve()
    else signal.addEventListener('abort', () => resolve(), { once: true })
  })
}

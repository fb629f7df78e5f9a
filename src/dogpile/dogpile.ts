import type { Acquired, Denied } from '../backend/lease.js'
import { milliseconds } from '../base/duration.js'
import { CorralError } from '../base/errors.js'
import { andThen, ignoreRejection, isPromise, type MaybePromise } from '../base/maybe-promise.js'
import { rejectUnknownOptions } from '../base/options.js'
import { MAX_DELAY } from '../base/timers.js'
import type { CreationNode } from '../creation/scope.js'
import {
  addWait,
  creationNode,
  isCreating,
  isCreatingUnshared,
  wouldDeadlock,
} from '../creation/wait-graph.js'
import { renewInBackground } from './background-renewal.js'
import { create, type HeldLease, LeasedCreations, releaseLease } from './create-and-fill.js'
import { Flight, type FlightResult, type Limits } from './flight.js'
import type { AsyncCreationRunner } from './runner.js'
import type { Dogpile, DogpileDriver, DogpileOptions, Lookup, Renewed, RunOptions } from './types.js'

/** After so many flights that ended in an invalidation a caller creates its value for itself alone. */
const ROUNDS = 3

/**
 * One creator at a time for each key, usable without a cache: the driver says how to read and how to create.
 *
 * The algorithm is dogpile.cache's, with three additions. A token fences each creation, so that a value that an
 * invalidation overtook is not stored. The callers of this process share a flight, which takes no joiners once its fill
 * is sent. And callers never wait in a cycle: a creator that would wait for itself creates alone, without storing.
 * @example
 * ```ts
 * import { dogpile } from 'corral/dogpile'
 *
 * const shared = dogpile<string>()
 * const text = await shared.run('page', {
 *   read: (keys) => keys.map(() => ({ state: 'missing' })),
 *   create: async (keys) => keys.map((key) => `created for ${key}`),
 * })
 * console.log(text)
 * ```
 * @throws CorralError `ERR_OPTION` on an unknown or invalid option.
 */
export function dogpile<V>(options: DogpileOptions = {}): Dogpile<V> {
  rejectUnknownOptions(options, ['wait', 'renewEvery', 'runner', 'signal'], 'dogpile()')
  return new SharedCreations<V>(options)
}

/** A key that this caller leads: it found nothing fresh, and no other caller of this process works on the key. */
interface Lead<V> {
  readonly key: string
  readonly flight: Flight<V>
  /** The value to serve if another process holds the lease. */
  readonly stale?: V
}

interface Wait<V> extends Lead<V> {
  readonly leads: boolean
}

/** One round of a call. A call takes more than one if an invalidation overtakes the flights that it waits for. */
interface Round<V> {
  readonly keys: readonly string[]
  readonly lookups: readonly Lookup<V>[]
  readonly driver: DogpileDriver<V>
  readonly options: RunOptions<V>
  readonly limits: Limits
  /** This caller creates for itself what it does not find. */
  readonly unshared: boolean
  readonly results: Map<string, V>
}

class SharedCreations<V> implements Dogpile<V> {
  /** The flight of each key. It is closed, but still listed, while another process renews a stale value. */
  readonly #flights = new Map<string, Flight<V>>()
  readonly #wait: number
  readonly #runner: AsyncCreationRunner | undefined
  readonly #closing: AbortSignal
  readonly #creations: LeasedCreations<V>
  /** Leases are granted in a later turn. Callers that waited for the same reply then get a turn to join a flight first. */
  #grantsLater = false

  constructor({ wait = '60s', renewEvery = '3s', runner, signal = never }: DogpileOptions) {
    this.#wait = milliseconds(wait, 'wait')
    this.#runner = runner
    this.#closing = signal
    this.#creations = new LeasedCreations<V>(milliseconds(renewEvery, 'renewEvery'), (key, flight) =>
      this.#closeFlight(key, flight),
    )
  }

  run(
    key: string,
    driver: DogpileDriver<V> | (() => DogpileDriver<V>),
    options: RunOptions<V> = {},
  ): Promise<V> {
    const limits = this.#limitsOf(options)
    const current = options.alone ? undefined : this.#flights.get(key)
    // Most callers of a stampede join here, without the book-keeping of many keys.
    if (options.seen?.[0]?.state === 'missing' && current?.open && !wouldDeadlock(current.node)) {
      const { signal, accept } = options
      const retry = () => this.#runOne(key, driver, { signal, accept }, limits)
      return current.wait(limits, false).then((result) => {
        if (result.kind !== 'value') return retry()
        return andThen(accept?.(result.value) ?? true, (accepted) => (accepted ? result.value : retry()))
      })
    }
    return this.#runOne(key, driver, options, limits)
  }

  async runMulti(
    keys: readonly string[],
    driver: DogpileDriver<V>,
    options: RunOptions<V> = {},
  ): Promise<Map<string, V>> {
    return this.#resolveKeys(keys, driver, options, this.#limitsOf(options))
  }

  async #runOne(
    key: string,
    driver: DogpileDriver<V> | (() => DogpileDriver<V>),
    options: RunOptions<V>,
    limits: Limits,
  ): Promise<V> {
    const built = typeof driver === 'function' ? driver() : driver
    return (await this.#resolveKeys([key], built, options, limits)).get(key) as V
  }

  /** One deadline for all waiting of a call, however often it starts over. */
  #limitsOf({ wait = this.#wait, signal }: RunOptions<V>): Limits {
    return { wait, deadline: wait === Number.POSITIVE_INFINITY ? wait : performance.now() + wait, signal }
  }

  async #resolveKeys(
    keys: readonly string[],
    driver: DogpileDriver<V>,
    options: RunOptions<V>,
    limits: Limits,
  ): Promise<Map<string, V>> {
    const results = new Map<string, V>()
    let pending = keys
    for (let round = 1; pending.length > 0; round++) {
      const lookups = round === 1 && options.seen !== undefined ? options.seen : await driver.read(pending)
      if (lookups.some(({ state }) => state !== 'fresh')) options.signal?.throwIfAborted()
      const unshared = options.alone === true || round > ROUNDS
      pending = await this.#playRound({ keys: pending, lookups, driver, options, limits, unshared, results })
    }
    return results
  }

  /** Serves what is there, starts or joins flights for the rest, and returns the keys that have to start over. */
  async #playRound(round: Round<V>): Promise<readonly string[]> {
    const { keys, driver, options, limits, results } = round
    const node = creationNode(this, keys)
    const { waits, unshared } = this.#joinOrLead(round, node)
    const pending = waits.map(({ flight, leads }) => ignoreRejection(flight.wait(limits, leads)))
    const leads = waits.filter((wait) => wait.leads)
    if (leads.length > 0) void this.#createLeased(leads, node, driver)
    if (unshared.length > 0) {
      const values = await this.#createUnshared(unshared, driver, options.signal)
      unshared.forEach((key, i) => results.set(key, values[i] as V))
    }
    const ended = await Promise.all(pending)
    const accepted = await acceptedResults(waits, ended, options.accept)
    return waits.flatMap((wait, i) => {
      const result = ended[i] as FlightResult<V>
      if (result.kind === 'value' && accepted[i] !== false) results.set(wait.key, result.value)
      else if ('stale' in wait) results.set(wait.key, wait.stale as V)
      else return [wait.key]
      return []
    })
  }

  /** Runs without a pause until the last flight is started: a key has one open flight at a time. */
  #joinOrLead(
    { keys, lookups, unshared: allUnshared, results }: Round<V>,
    node: CreationNode,
  ): { readonly waits: readonly Wait<V>[]; readonly unshared: readonly string[] } {
    const waits: Wait<V>[] = []
    const unshared: string[] = []
    keys.forEach((key, i) => {
      const found = lookups[i] as Lookup<V>
      const current = this.#flights.get(key)
      if (found.state === 'fresh' || (found.state === 'stale' && current !== undefined))
        results.set(key, found.value)
      else if (allUnshared || (current?.open && wouldDeadlock(current.node))) unshared.push(key)
      else if (current?.open) waits.push({ key, flight: current, leads: false })
      else {
        const flight = this.#startFlight(key, node)
        waits.push({ key, flight, leads: true, ...(found.state === 'stale' && { stale: found.value }) })
      }
    })
    return { waits, unshared }
  }

  #startFlight(key: string, node: CreationNode): Flight<V> {
    const former = this.#flights.get(key)
    if (former !== undefined) former.open = false
    const flight = new Flight<V>(node)
    this.#flights.set(key, flight)
    return flight
  }

  #closeFlight(key: string, flight: Flight<V>): void {
    flight.open = false
    if (this.#flights.get(key) === flight) this.#flights.delete(key)
  }

  /** Asks for the leases of the keys, and creates in one creation what is granted and not fresh by then. Never rejects. */
  async #createLeased(
    leads: readonly Lead<V>[],
    node: CreationNode,
    driver: DogpileDriver<V>,
  ): Promise<void> {
    const answers = await Promise.allSettled(leads.map((lead) => this.#ask(lead, driver)))
    const free: HeldLease<V>[] = []
    const renewals: HeldLease<V>[] = []
    for (const [i, { key, flight, ...old }] of leads.entries()) {
      const answer = answers[i] as PromiseSettledResult<Acquired<Lookup<V>>>
      if (answer.status === 'rejected') {
        this.#closeFlight(key, flight)
        flight.fail(answer.reason)
        continue
      }
      const acquired = answer.value
      if (acquired.token === undefined) {
        if ('stale' in old) this.#serveStaleUntil(key, flight, acquired)
        else void this.#awaitLease(key, flight, driver, acquired)
        continue
      }
      const { token, asOf, found } = acquired
      const lease = { key, flight, token, asOf }
      if (found?.state === 'fresh') {
        await releaseLease(lease, driver)
        this.#completeWith(lease, found.value, flight.readCount)
      } else if (found?.state === 'stale' && 'stale' in old && this.#runner !== undefined)
        renewals.push(lease)
      else free.push(lease)
    }
    if (renewals.length > 0) this.#handToRunner(renewals, driver)
    if (free.length > 0) await this.#creations.createAndFill(free, node, driver)
  }

  async #ask({ key, flight }: Lead<V>, driver: DogpileDriver<V>): Promise<Acquired<Lookup<V>>> {
    if (this.#grantsLater) await undefined
    flight.readCount++
    const acquired = acquire(driver, key)
    this.#grantsLater = isPromise(acquired)
    return acquired
  }

  /** Another process renews. Until its lease is over the old value is served without asking for the lease each time. */
  #serveStaleUntil(key: string, flight: Flight<V>, { settled, remaining }: Denied<Lookup<V>>): void {
    flight.open = false
    flight.complete({ kind: 'retry' })
    const over = () => this.#closeFlight(key, flight)
    settled.then(over, over)
    setTimeout(over, Math.min(remaining, MAX_DELAY)).unref()
  }

  /** Waits for the lease of another process, reads again, and creates if the key is still missing. Never rejects. */
  async #awaitLease(
    key: string,
    flight: Flight<V>,
    driver: DogpileDriver<V>,
    denied: Denied<Lookup<V>>,
  ): Promise<void> {
    let acquired: Acquired<Lookup<V>> = denied
    try {
      // Nothing was read since that lease was asked for.
      let asked = flight.readCount
      const abandoned = whenAborted(flight.abandoned)
      while (acquired.token === undefined) {
        const brought = await Promise.race([acquired.settled, abandoned])
        if (flight.abandoned.aborted) throw flight.abandoned.reason
        // A caller that came after the lease was asked for may have come after an invalidation of the value, and starts
        // over. The leader is gone then, perhaps with the transaction that its creator works in.
        if (brought?.state === 'fresh') return this.#completeWith({ key, flight }, brought.value, asked)
        const readCount = ++flight.readCount
        const [found] = await driver.read([key])
        if (found?.state === 'fresh') return this.#completeWith({ key, flight }, found.value, readCount)
        asked = ++flight.readCount
        acquired = await acquire(driver, key)
      }
      const { token, found } = acquired
      if (found?.state === 'fresh') {
        await releaseLease({ key, token }, driver)
        return this.#completeWith({ key, flight }, found.value, asked)
      }
    } catch (error) {
      this.#closeFlight(key, flight)
      flight.fail(error)
      return
    }
    const { token, asOf } = acquired
    await this.#creations.createAndFill([{ key, flight, token, asOf }], flight.node, driver)
  }

  /** Ends a flight with a value that another process created. A caller that joined after that read starts over. */
  #completeWith({ key, flight }: Pick<HeldLease<V>, 'key' | 'flight'>, value: V, readCount: number): void {
    this.#closeFlight(key, flight)
    flight.complete({ kind: 'value', value, filled: 'lost', readCount })
  }

  #handToRunner(renewals: readonly HeldLease<V>[], driver: DogpileDriver<V>): void {
    for (const { key, flight } of renewals) {
      this.#closeFlight(key, flight)
      flight.complete({ kind: 'retry' })
    }
    renewInBackground(
      {
        owner: this,
        runner: this.#runner as AsyncCreationRunner,
        creations: this.#creations,
        closing: this.#closing,
      },
      renewals,
      driver,
    )
  }

  /** For a caller that may not wait, or has waited often enough: creates the values for itself, and stores nothing. */
  async #createUnshared(
    keys: readonly string[],
    driver: DogpileDriver<V>,
    signal: AbortSignal | undefined,
  ): Promise<readonly V[]> {
    const repeated = keys.find((key) => isCreatingUnshared(this, key))
    if (repeated !== undefined) throw creationCycle(repeated)
    const node = creationNode(this, keys, true)
    const endWait = addWait(node)
    const over = new AbortController()
    try {
      const created = ignoreRejection(create(driver, keys, node, signal ?? never))
      // A creator that ignores its signal must not keep a caller that has gone.
      return await (signal === undefined
        ? created
        : Promise.race([created, rejectsWhenAborted(signal, over.signal)]))
    } finally {
      over.abort()
      endWait?.()
    }
  }

  async renew(key: string, driver: DogpileDriver<V>, options?: RunOptions<V>): Promise<Renewed<V>> {
    return (await this.renewMulti([key], driver, options)).get(key) as Renewed<V>
  }

  async renewMulti(
    keys: readonly string[],
    driver: DogpileDriver<V>,
    options: RunOptions<V> = {},
  ): Promise<Map<string, Renewed<V>>> {
    const repeated = keys.find((key) => isCreating(this, key))
    if (repeated !== undefined) throw creationCycle(repeated)
    options.signal?.throwIfAborted()
    const node = creationNode(this, keys)
    const limits = this.#limitsOf(options)
    const leads = keys.map((key) => ({ key, flight: this.#startFlight(key, node) }))
    const pending = leads.map(({ flight }) => ignoreRejection(flight.wait(limits, true)))
    void this.#stealAndCreate(leads, node, driver)
    const ended = await Promise.all(pending)
    return new Map(
      ended.map((result, i) => {
        const key = keys[i] as string
        if (result.kind !== 'value')
          throw new CorralError('ERR_BACKEND', `The renewal of '${key}' ended without a value.`)
        return [key, { value: result.value, filled: result.filled }]
      }),
    )
  }

  /** Takes every lease first, then creates once: a creation that an invalidation voids must begin after it was fenced. */
  async #stealAndCreate(
    leads: readonly Lead<V>[],
    node: CreationNode,
    driver: DogpileDriver<V>,
  ): Promise<void> {
    const answers = await Promise.allSettled(leads.map(async ({ key }) => acquire(driver, key, true)))
    const held: HeldLease<V>[] = []
    let failure: unknown
    for (const [i, answer] of answers.entries()) {
      const { key, flight } = leads[i] as Lead<V>
      flight.readCount++
      if (answer.status === 'rejected') failure ??= answer.reason
      else if (answer.value.token === undefined)
        failure ??= new CorralError('ERR_BACKEND', `The store refused to hand over the lease of '${key}'.`)
      else held.push({ key, flight, token: answer.value.token, asOf: answer.value.asOf })
    }
    if (held.length === leads.length) return this.#creations.createAndFill(held, node, driver)
    await Promise.all(held.map((lease) => releaseLease(lease, driver)))
    for (const { key, flight } of leads) {
      this.#closeFlight(key, flight)
      flight.fail(failure)
    }
  }

  detach(keys: readonly string[]): void {
    for (const key of keys) {
      const flight = this.#flights.get(key)
      if (flight !== undefined) this.#closeFlight(key, flight)
    }
  }

  isCreating(key: string): boolean {
    return isCreating(this, key)
  }

  idle(): Promise<void> {
    return this.#creations.idle()
  }
}

/** For callers without a signal. */
const never = new AbortController().signal

/** The lease of a key, with a read of the key after the grant. Without leases, every caller is granted one. */
function acquire<V>(driver: DogpileDriver<V>, key: string, steal = false): MaybePromise<Acquired<Lookup<V>>> {
  if (driver.acquire === undefined)
    return andThen(steal ? [] : driver.read([key]), ([found]) => ({ token: '', found }))
  return andThen(driver.acquire(key, steal), (acquired) => {
    // It may reject before a caller listens, while the other leases of a batch are asked for.
    if (acquired.token === undefined) void ignoreRejection(acquired.settled)
    return acquired
  })
}

/** Which results callers that joined may have; a leader takes the value that it created or found. */
function acceptedResults<V>(
  waits: readonly Wait<V>[],
  ended: readonly FlightResult<V>[],
  accept: ((value: V) => MaybePromise<boolean>) | undefined,
): MaybePromise<readonly boolean[]> {
  if (accept === undefined || waits.every(({ leads }) => leads)) return []
  return Promise.all(
    waits.map(({ leads }, i) => {
      const result = ended[i]
      return leads || result?.kind !== 'value' || accept(result.value)
    }),
  )
}

function creationCycle(key: string): CorralError {
  return new CorralError(
    'ERR_CREATION_CYCLE',
    `The creator of '${key}' asks for '${key}' again, endlessly. Break the recursion, or use other keys.`,
  )
}

/** Rejects when the signal is aborted, unless `over` was first. */
function rejectsWhenAborted(signal: AbortSignal, over: AbortSignal): Promise<never> {
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

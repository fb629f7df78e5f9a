import type { Acquired, Denied } from '../backend/lease.js'
import { throwIfAborted, untilAborted } from '../base/aborts.js'
import { bindContext } from '../base/async-context.js'
import { report } from '../base/diagnostics.js'
import { milliseconds } from '../base/duration.js'
import { CorralError } from '../base/errors.js'
import { frozenCopy } from '../base/frozen.js'
import { settledInBatches } from '../base/in-batches.js'
import { andThen, ignoreRejection, isPromise, type MaybePromise, native } from '../base/maybe-promise.js'
import { ownOptions, rejectUnknownOptions } from '../base/options.js'
import { performance } from '../base/timers.js'
import { waitingCreation } from '../creation/renewal.js'
import type { CreationNode } from '../creation/scope.js'
import { creationNode, isCreating, wouldDeadlock } from '../creation/wait-graph.js'
import { attendFor, type Background, renewInBackground } from './background-renewal.js'
import { type HeldLease, LeasedCreations } from './create-and-fill.js'
import { creationTimeout, Flight, isHard, type Leave, type Limits } from './flight.js'
import { acquire, acquireUnlessFailed, serveStaleUntil, steal } from './lease-requests.js'
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
  options = ownOptions(options)
  rejectUnknownOptions(options, ['wait', 'renewEvery', 'runner', 'signal'], 'dogpile()')
  return new SharedCreations<V>(options)
}

/** A flight that this caller leads: no other caller of this process works on the key. */
interface Lead<V> {
  readonly flight: Flight<V>
  /** The value to serve if another process holds the lease. */
  readonly stale?: V
  /** This caller waits for the renewal in any case, so no runner takes it over. */
  readonly patient?: boolean
  /** The request for the lease is the first read of the key. */
  readonly unread?: boolean | undefined
}

/** A flight that this caller waits for. */
interface Wait<V> extends Lead<V> {
  readonly leads: boolean
  /** The flight takes no joiners any more, so this caller starts over once it has ended. */
  readonly again?: boolean
}

class SharedCreations<V> implements Dogpile<V> {
  /** The flight of each key. It is closed, but still listed, while another process renews a stale value. */
  readonly #flights = new Map<string, Flight<V>>()
  readonly #wait: number
  readonly #background: Background<V>
  readonly #creations: LeasedCreations<V>
  /** Leases are granted in a later turn. Callers that waited for the same reply then get a turn to join a flight first. */
  #grantsLater: boolean = false

  constructor({ wait = '60s', renewEvery = '3s', runner, signal = never }: DogpileOptions) {
    this.#wait = milliseconds(wait, 'wait')
    this.#creations = new LeasedCreations<V>(milliseconds(renewEvery, 'renewEvery'))
    this.#background = { owner: this, runner, creations: this.#creations, closing: signal }
  }

  run(
    key: string,
    driver: DogpileDriver<V> | (() => DogpileDriver<V>),
    options: RunOptions<V> = {},
  ): Promise<V> {
    const limits = this.#limitsOf(options, driver)
    const current = options.alone ? undefined : this.#flights.get(key)
    if (options.alone || options.seen?.[0]?.state !== 'missing')
      return this.#runOne(key, driver, options, limits)
    // Most misses are led or joined here, without the book-keeping of many keys.
    if (current !== undefined && (!current.open || wouldDeadlock(current.node)))
      return this.#runOne(key, driver, options, limits)
    const { signal, accept, onStale, onJoin } = options
    let used = driver
    let ended: Promise<Renewed<V> | undefined>
    if (current === undefined) {
      used = typeof driver === 'function' ? driver() : driver
      ended = this.#leadOne(key, used, signal, limits)
    } else {
      onJoin?.()
      ended = join(current, limits, accept)
    }
    return ended.then((result) =>
      result ? result.value : this.#runOne(key, used, { signal, accept, onStale }, limits),
    )
  }

  lead(
    key: string,
    driver: DogpileDriver<V>,
    options: RunOptions<V>,
  ): Promise<Renewed<V> | undefined> | undefined {
    return this.#flights.has(key)
      ? undefined
      : this.#leadOne(key, driver, options.signal, this.#limitsOf(options, driver), true)
  }

  /** The key is missing or unread, and no caller of this process works on it. */
  #leadOne(
    key: string,
    driver: DogpileDriver<V>,
    signal: AbortSignal | undefined,
    limits: Limits<V>,
    unread?: boolean,
  ): Promise<Renewed<V> | undefined> {
    if (signal?.aborted) return Promise.reject(signal.reason)
    const late = tooLate(key, limits)
    if (late !== undefined) return Promise.reject(late)
    const flight = this.#startFlight(key, creationNode(this, [key]))
    const ended = flight.wait(limits, true)
    void this.#createLeasedOne({ flight, unread }, driver)
    return ended
  }

  async runMulti(
    keys: readonly string[],
    driver: DogpileDriver<V>,
    options: RunOptions<V> = {},
  ): Promise<Map<string, V>> {
    return this.#resolveKeys(frozenCopy(keys), driver, options, this.#limitsOf(options, driver))
  }

  async #runOne(
    key: string,
    driver: DogpileDriver<V> | (() => DogpileDriver<V>),
    options: RunOptions<V>,
    limits: Limits<V>,
  ): Promise<V> {
    const built = typeof driver === 'function' ? driver() : driver
    return (await this.#resolveKeys([key], built, options, limits)).get(key) as V
  }

  /** One deadline for all waiting of a call, however often it starts over. */
  #limitsOf(
    { wait: given = this.#wait, signal, fallsBack, deadlines, onFailed }: RunOptions<V>,
    driver: DogpileDriver<V> | (() => DogpileDriver<V>),
  ): Limits<V> {
    const now = performance.now()
    // The creator around this caller holds leases. Another process may wait for one of them in turn.
    const deadline = deadlines !== undefined && isHard(deadlines) ? deadlines.hardAt : now + given
    const wait = deadline - now
    const patience = waitingCreation() === undefined ? Number.POSITIVE_INFINITY : now + patienceOf(wait)
    const limits = { wait, deadline, patience, signal, fallsBack, onFailed }
    if (deadlines === undefined) return limits
    const built = () => (typeof driver === 'function' ? driver() : driver)
    const readAgain = (key: string) => andThen(native(built().read([key])), ([found]) => found)
    const leave = (flight: Flight<V>) => attendFor(flight, this.#background, built())
    // One timer serves all callers of a flight, and each of them reads as what its own session allows.
    return { ...limits, late: { ...deadlines, readAgain: bindContext(readAgain), leave } }
  }

  async #resolveKeys(
    keys: readonly string[],
    driver: DogpileDriver<V>,
    options: RunOptions<V>,
    limits: Limits<V>,
  ): Promise<Map<string, V>> {
    const { seen, signal, accept, onStale, onJoin, onHeldBack, alone = false } = options
    const results = new Map<string, V>()
    let pending = keys
    // More than one round if an invalidation overtakes the flights that this caller waits for.
    for (let round = 1; pending.length > 0; round++) {
      const lookups =
        round === 1 && seen !== undefined
          ? seen
          : await untilAborted(signal, driver.read(frozenCopy(pending)))
      if (lookups.some(({ state }) => state !== 'fresh')) throwIfAborted(signal)
      const missing = pending.find((_, i) => lookups[i]?.state === 'missing')
      const late = missing === undefined ? undefined : tooLate(missing, limits)
      if (late !== undefined) throw late
      const apart = alone || round > ROUNDS || performance.now() >= limits.patience
      const waits = this.#joinOrLead(pending, lookups, apart, results, onStale)
      const leaves: Leave[] = []
      const ends = waits.map(({ flight, leads, again }) => {
        if (!leads && round === 1) onJoin?.()
        return leads || again ? flight.wait(limits, leads, leaves) : join(flight, limits, accept, leaves)
      })
      this.#startCreations(waits, driver, alone)
      const ended = await allOrLeave(ends, leaves)
      pending = waits.flatMap(({ flight: { key, isHeldBack }, again, ...old }, i) => {
        const result = again ? undefined : ended[i]
        if (result === undefined && !('stale' in old)) return [key]
        if (result === undefined && isHeldBack) onHeldBack?.(key)
        results.set(key, result === undefined ? (old.stale as V) : result.value)
        return []
      })
    }
    return results
  }

  /**
   * Adds the values that are there to the results, and starts or joins flights for the rest. Runs without a pause until
   * the last flight is started: a key has one open flight at a time.
   * @param apart - the caller may not share flights: it is in a transaction, has started over often enough, or lost patience
   * @param onStale - see `RunOptions`
   */
  #joinOrLead(
    keys: readonly string[],
    lookups: readonly Lookup<V>[],
    apart: boolean,
    results: Map<string, V>,
    onStale: RunOptions<V>['onStale'],
  ): readonly Wait<V>[] {
    const waits: Wait<V>[] = []
    const unshared: string[] = []
    const node = creationNode(this, keys)
    // The list is complete before a creator runs, and so before the node is asked for its keys.
    const unsharedNode = creationNode(this, unshared, true)
    keys.forEach((key, i) => {
      const found = lookups[i] as Lookup<V>
      const patient = found.state === 'stale' && !apart && onStale !== undefined
      if (patient) onStale(key)
      const current = this.#flights.get(key)
      if (found.state === 'fresh') results.set(key, found.value)
      else if (found.state === 'stale' && current !== undefined) {
        if (!patient || current.ended || wouldDeadlock(current.node)) results.set(key, found.value)
        else if (current.open) waits.push({ flight: current, leads: false, stale: found.value })
        else waits.push({ flight: current, leads: false, again: true })
      } else if (apart || (current?.open && wouldDeadlock(current.node))) {
        unshared.push(key)
        waits.push({ flight: new Flight(key, unsharedNode), leads: true })
      } else if (current?.open) waits.push({ flight: current, leads: false })
      else {
        const flight = this.#startFlight(key, node)
        waits.push({ flight, leads: true, patient, ...(found.state === 'stale' && { stale: found.value }) })
      }
    })
    return waits
  }

  #startFlight(key: string, node: CreationNode): Flight<V> {
    const former = this.#flights.get(key)
    if (former !== undefined) former.open = false
    return new Flight<V>(key, node, this.#flights)
  }

  #startCreations(waits: readonly Wait<V>[], driver: DogpileDriver<V>, alone: boolean): void {
    const leads = waits.filter((wait) => wait.leads && !wait.flight.node.alone)
    if (leads.length > 0) void this.#createLeased(leads, driver)
    const unshared = waits.filter(({ flight }) => flight.node.alone)
    const cycle = this.#cycleOf(
      unshared.map(({ flight }) => flight.key),
      true,
    )
    if (cycle !== undefined) for (const { flight } of unshared) flight.fail(cycle)
    else if (unshared.length > 0) {
      // Without a lease, and stored nowhere.
      const leases = unshared.map(({ flight }) => ({ flight, token: '' }))
      const create = (keys: readonly string[], signal: AbortSignal) => driver.create(keys, signal)
      const read = (keys: readonly string[]) => driver.read(keys)
      // A transaction may see other data than the value that stands.
      const failed = alone ? undefined : () => 0
      const { abandonAfter } = driver
      void this.#creations.createAndFill(leases, {
        ...{ read, create, ...(failed && { failed }), ...(abandonAfter !== undefined && { abandonAfter }) },
      })
    }
  }

  /** Asks for the lease of a missing key, and creates if it is granted and the key still missing. Never rejects. */
  async #createLeasedOne(lead: Lead<V>, driver: DogpileDriver<V>): Promise<void> {
    const free: HeldLease<V>[] = []
    try {
      // Callers of the same turn join before the creator runs.
      const acquired = await this.#ask(lead, driver)
      const unused = this.#sort(lead, acquired, driver, free, free)
      if (isPromise(unused)) await unused
    } catch (error) {
      lead.flight.fail(error)
      return
    }
    await this.#creations.createAndFill(free, driver)
  }

  /** Asks for the leases of the keys, and creates in one creation what is granted and not fresh by then. Never rejects. */
  async #createLeased(leads: readonly Lead<V>[], driver: DogpileDriver<V>): Promise<void> {
    const answers = await settledInBatches(leads, async (lead) => this.#ask(lead, driver))
    const free: HeldLease<V>[] = []
    const renewals: HeldLease<V>[] = []
    for (const [i, lead] of leads.entries()) {
      const answer = answers[i] as PromiseSettledResult<Acquired<Lookup<V>>>
      if (answer.status === 'rejected') lead.flight.fail(answer.reason)
      else await this.#sort(lead, answer.value, driver, free, renewals)
    }
    if (renewals.length > 0) renewInBackground(this.#background, renewals, driver)
    await this.#creations.createAndFill(free, driver)
  }

  /** A lease that was granted is for a creation now, or for a renewal in the background; a denied one is waited for. */
  #sort(
    { flight, unread, ...old }: Lead<V>,
    acquired: Acquired<Lookup<V>>,
    driver: DogpileDriver<V>,
    free: HeldLease<V>[],
    renewals: HeldLease<V>[],
  ): MaybePromise<void> {
    if (acquired.token === undefined) {
      if ('stale' in old) serveStaleUntil(flight, acquired)
      else void this.#awaitLease(flight, driver, acquired)
      return
    }
    const { token, asOf, found } = acquired
    if (unread && token === '') {
      // The store brought an entry instead of a lease: the caller that asked has it, and those that joined read it.
      flight.close()
      return flight.retry()
    }
    const lease = { flight, token, asOf, found }
    if (flight.wasAbandoned) return this.#giveBack(lease, driver)
    if (found?.state === 'fresh') return this.#completeUnused(lease, driver, found.value, flight.readCount)
    const later =
      found?.state === 'stale' && 'stale' in old && !old.patient && this.#background.runner !== undefined
    ;(later ? renewals : free).push(lease)
  }

  #ask({ flight, unread, ...old }: Lead<V>, driver: DogpileDriver<V>): MaybePromise<Acquired<Lookup<V>>> {
    const ask = () => {
      flight.readCount++
      const acquired =
        'stale' in old
          ? acquireUnlessFailed(driver, flight.key, old.stale as V)
          : acquire(driver, flight.key, Number.POSITIVE_INFINITY)
      this.#grantsLater = isPromise(acquired)
      if (this.#grantsLater) flight.watch()
      return acquired
    }
    // A caller may share the read of another one only if that is still to be sent.
    return unread || this.#grantsLater ? Promise.resolve().then(ask) : ask()
  }

  /** Waits for the lease of another process, reads again, and creates if the key is still missing. Never rejects. */
  async #awaitLease(flight: Flight<V>, driver: DogpileDriver<V>, denied: Denied<Lookup<V>>): Promise<void> {
    const { key } = flight
    flight.watch()
    let acquired: Acquired<Lookup<V>> = denied
    try {
      // Nothing was read since that lease was asked for.
      let asked = flight.readCount
      const abandoned = whenAborted(flight.abandoned)
      while (acquired.token === undefined) {
        const brought = await Promise.race([acquired.settled, abandoned])
        if (flight.abandoned.aborted) {
          acquired.leave?.()
          throw flight.abandoned.reason
        }
        // A caller that came after the lease was asked for may have come after an invalidation of the value, and starts
        // over. The leader is gone then, perhaps with the transaction that its creator works in.
        if (brought?.state === 'fresh') return flight.complete(brought.value, 'lost', asked)
        const readCount = ++flight.readCount
        const [found] = await driver.read([key])
        if (found?.state === 'fresh') return flight.complete(found.value, 'lost', readCount)
        asked = ++flight.readCount
        acquired = await acquire(driver, key, Number.POSITIVE_INFINITY)
      }
      const { token, asOf, found } = acquired
      const held = { flight, token, asOf, found }
      if (flight.wasAbandoned) await this.#giveBack(held, driver)
      else if (found?.state === 'fresh') await this.#completeUnused(held, driver, found.value, asked)
      else await this.#creations.createAndFill([held], driver)
    } catch (error) {
      flight.fail(error)
    }
  }

  /** Gives a lease back that a slow store granted after every caller had left: a herd of them must not reach the source. */
  async #giveBack(lease: HeldLease<V>, driver: DogpileDriver<V>): Promise<void> {
    lease.flight.close()
    await this.#creations.release([lease], driver)
  }

  /** Ends a flight with a value that another process created. A caller that joined after that read starts over. */
  async #completeUnused(
    lease: HeldLease<V>,
    driver: DogpileDriver<V>,
    value: V,
    readCount: number,
  ): Promise<void> {
    await this.#creations.release([lease], driver)
    lease.flight.complete(value, 'lost', readCount)
  }

  async renew(key: string, driver: DogpileDriver<V>, options?: RunOptions<V>): Promise<Renewed<V>> {
    return (await this.renewMulti([key], driver, options)).get(key) as Renewed<V>
  }

  async renewMulti(
    given: readonly string[],
    driver: DogpileDriver<V>,
    options: RunOptions<V> = {},
  ): Promise<Map<string, Renewed<V>>> {
    const keys = frozenCopy(given)
    const cycle = this.#cycleOf(keys)
    if (cycle !== undefined) throw cycle
    throwIfAborted(options.signal)
    const node = creationNode(this, keys)
    const limits = this.#limitsOf(options, driver)
    const flights = keys.map((key) => this.#startFlight(key, node))
    const leaves: Leave[] = []
    const ends = flights.map((flight) => flight.wait(limits, true, leaves))
    void this.#stealAndCreate(flights, driver)
    // A renewal never starts over: its flights have joined before the creator starts.
    const ended = (await allOrLeave(ends, leaves)) as readonly Renewed<V>[]
    return new Map(ended.map((renewed, i) => [keys[i] as string, renewed]))
  }

  async renewAhead(
    keys: readonly string[],
    driver: DogpileDriver<V>,
    isDue: (key: string, value: V) => boolean,
  ): Promise<number> {
    const node = creationNode(this, keys)
    const acquired = await settledInBatches(keys, async (key) => acquire(driver, key))
    const renewals: HeldLease<V>[] = []
    const unused: HeldLease<V>[] = []
    let denied = 0
    for (const [i, answer] of acquired.entries()) {
      const key = keys[i] as string
      if (answer.status === 'rejected')
        report('failure', () => ({ where: 'acquire', ...driver.origin, key, error: answer.reason }))
      else if (answer.value.token === undefined) denied = Math.max(denied, answer.value.remaining)
      else {
        const { token, asOf, found } = answer.value
        const isStanding = found?.value !== undefined && isDue(key, found.value)
        ;(isStanding ? renewals : unused).push({ flight: new Flight<V>(key, node), token, asOf, found })
      }
    }
    await this.#creations.release(unused, driver)
    if (renewals.length > 0) renewInBackground(this.#background, renewals, driver)
    return denied
  }

  /** Takes every lease first, then creates once: a creation that an invalidation voids must begin after it was fenced. */
  async #stealAndCreate(flights: readonly Flight<V>[], driver: DogpileDriver<V>): Promise<void> {
    const answers = await settledInBatches(flights, (flight) => steal(driver, flight))
    const held: HeldLease<V>[] = []
    let failure: unknown
    for (const answer of answers) {
      if (answer.status === 'rejected') failure ??= answer.reason
      else held.push(answer.value)
    }
    if (held.length === flights.length) return this.#creations.createAndFill(held, driver)
    await this.#creations.release(held, driver)
    for (const flight of flights) flight.fail(failure)
  }

  /** The error of a caller whose own creator asks for one of the keys again. */
  #cycleOf(keys: readonly string[], unshared = false): CorralError | undefined {
    const key = keys.find((one) => isCreating(this, one, unshared))
    if (key === undefined) return undefined
    return new CorralError(
      'ERR_CREATION_CYCLE',
      `The creator of '${key}' asks for '${key}' again, endlessly. Break the recursion, or use other keys.`,
    )
  }

  detach(keys: readonly string[]): void {
    for (const key of keys) this.#flights.get(key)?.close()
  }

  momentOf(key: string): object | undefined {
    return this.#flights.get(key)?.moment(performance.now() - this.#wait * SHORTER)
  }

  isCreating(key: string): boolean {
    return isCreating(this, key)
  }

  idle(): Promise<void> {
    return this.#creations.idle()
  }
}

/** ms. The longest time for which a creator waits for another process. */
const PATIENCE = 15_000

/** ms for which a caller inside a creation waits for another process. The rest of its time is for its own creation. */
function patienceOf(wait: number): number {
  return Math.min(wait / 4, PATIENCE)
}

/** The error of a caller whose own deadline is over, so that no creation is started for it. */
function tooLate<V>(key: string, { late }: Limits<V>): CorralError | undefined {
  return late !== undefined && isHard(late) && performance.now() >= late.hardAt
    ? creationTimeout(key, late.hardTimeout, late.trouble)
    : undefined
}

/** The part of its longest wait that a caller may lose by sharing the deadline of an earlier one. */
const SHORTER = 0.01

/** For callers without a signal. */
const never = new AbortController().signal

/** All results. At the first failure the call is over: it waits for nothing more, and keeps no creation going. */
async function allOrLeave<R>(
  ends: readonly MaybePromise<R>[],
  leaves: readonly Leave[],
): Promise<readonly R[]> {
  for (const end of ends) void ignoreRejection(end)
  try {
    return await Promise.all(ends)
  } catch (error) {
    for (const leave of leaves) leave(error)
    throw error
  }
}

/** Joins the flight of another caller. `undefined`: the value is not for this caller, so that it starts over. */
function join<V>(
  flight: Flight<V>,
  limits: Limits<V>,
  accept: RunOptions<V>['accept'],
  leaves?: Leave[],
): Promise<Renewed<V> | undefined> {
  return flight.wait(limits, false, leaves).then((result) => {
    if (result === undefined || accept === undefined) return result
    const accepted = untilAborted(limits.signal, native(accept(result.value)))
    return andThen(accepted, (one) => (one ? result : undefined))
  })
}

function whenAborted(signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) resolve()
    else signal.addEventListener('abort', () => resolve(), { once: true })
  })
}

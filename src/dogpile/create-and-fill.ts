import type { Granted } from '../backend/lease.js'
import { inNoContext } from '../base/async-context.js'
import { failureLog, report } from '../base/diagnostics.js'
import { inBatches } from '../base/in-batches.js'
import { isPromise, type MaybePromise } from '../base/maybe-promise.js'
import { clearInterval, performance, setInterval } from '../base/timers.js'
import { beginScope, type CreationNode, endScope } from '../creation/scope.js'
import { scopeOf } from '../creation/wait-graph.js'
import { creationTimeout, type Flight } from './flight.js'
import type { DogpileDriver, LeasedKey, Lookup } from './types.js'

/** The lease of a key, which this process holds, and the flight of the callers that wait for the key. */
export interface HeldLease<V> extends Pick<Granted, 'token'>, LeasedKey<V> {
  readonly flight: Flight<V>
  /** It could not be renewed, which was told. */
  isLost?: boolean
}

/** A creation under leases that have to be renewed while it runs. */
interface Running<V> {
  readonly leases: readonly HeldLease<V>[]
  readonly driver: DogpileDriver<V>
  /** The ticks of the timer that it has seen, and those since its last caller gave up. */
  ticks: number
  forsaken: number
  readonly since: number
  isFilling?: boolean
}

/** Ticks between renewals, and in the time of a lease, of which renewals are a third. */
const TICKS = { renewal: 2, lease: 6 } as const

/** Runs creators under leases: the one place where values are created and filled. */
export class LeasedCreations<V> {
  readonly #running = new Set<Running<V>>()
  /** The callers of `idle`. */
  #whenIdle: (() => void)[] = []
  readonly #renewEvery: number
  /** A store that is away fails the renewals and releases of many creations. */
  readonly #failures = { renew: failureLog(), release: failureLog(), creator: failureLog() }
  /** One timer for all creations, which stops when it finds none: most are over before it fires. */
  #timer: NodeJS.Timeout | undefined

  /** @param renewEvery - ms */
  constructor(renewEvery: number) {
    this.#renewEvery = renewEvery
  }

  /** Creates and fills under leases that are held; completes every flight of the batch. Never rejects. */
  async createAndFill(leases: readonly HeldLease<V>[], driver: DogpileDriver<V>): Promise<void> {
    const node = leases[0]?.flight.node
    if (node === undefined) return
    const running = this.#begin(leases, driver)
    try {
      for (const { flight } of leases) {
        flight.creating = true
        // A caller that joined before the creator starts may have its value, stored or not.
        flight.readCount++
      }
      const values = await this.#create(leases, driver, node)
      if (values === undefined) return
      for (const { flight } of leases) flight.open = false
      running.isFilling = true
      const filled = driver.fill?.(leases.map(({ flight, token }, i) => [flight.key, values[i] as V, token]))
      const outcomes = isPromise(filled) ? await filled : filled
      leases.forEach(({ flight }, i) => flight.complete(values[i] as V, outcomes?.[i] ?? 'stored'))
    } catch (error) {
      await this.#fail(leases, driver, error)
    } finally {
      this.#end(running)
    }
  }

  /** Runs the creator. If it fails, all flights end with what stands by then, and there are no values. */
  async #create(
    leases: readonly HeldLease<V>[],
    driver: DogpileDriver<V>,
    node: CreationNode,
  ): Promise<readonly V[] | undefined> {
    // Frozen: a driver hands the list to user code, and the results are matched with the order of the leases.
    const keys = Object.freeze(leases.map(({ flight }) => flight.key))
    try {
      return await createInScope(driver, keys, leases, node)
    } catch (error) {
      await this.#fail(leases, driver, error, keys)
      return undefined
    }
  }

  /**
   * Ends the flights of a creation that failed.
   * @param keys - read again if there are any: a value that an invalidation reached meanwhile must not be served
   */
  async #fail(
    leases: readonly HeldLease<V>[],
    driver: DogpileDriver<V>,
    error: unknown,
    keys: readonly string[] = [],
    isGivenUp = false,
  ): Promise<void> {
    for (const { flight } of leases) flight.close()
    const found = await this.#readAgain(keys, driver)
    const kept = leases.map(({ flight }, i) => {
      const lookup = found[i]
      if (lookup === undefined || flight.wasAbandoned) return 0
      return this.#keptFor(driver, lookup, error, flight, isGivenUp)
    })
    await this.release(leases, driver, kept)
    leases.forEach(({ flight }, i) => {
      if (isGivenUp) flight.abandon(error, found[i])
      else if (!flight.fail(error, found[i]) && !flight.wasAbandoned) this.unheard(flight.key, error, driver)
    })
  }

  /** A failure that no caller gets, because a value stands. */
  unheard(key: string, error: unknown, { origin }: DogpileDriver<V>): void {
    this.#failures.creator.failed(() => ({ where: 'creator', ...origin, key, error }))
  }

  /** ms. The driver is the caller's own with `corral/dogpile`: its failure must not leave callers waiting. */
  #keptFor(
    driver: DogpileDriver<V>,
    found: Lookup<V>,
    error: unknown,
    { key, scope }: Flight<V>,
    isGivenUp: boolean,
  ): number {
    try {
      return driver.failed?.(found, error, key, isGivenUp, scope?.handUp) ?? 0
    } catch (failure) {
      this.#failures.release.failed(() => ({ where: 'failed', ...driver.origin, key, error: failure }))
      return 0
    }
  }

  async #readAgain(keys: readonly string[], driver: DogpileDriver<V>): Promise<readonly Lookup<V>[]> {
    if (keys.length === 0 || driver.failed === undefined) return []
    try {
      return await driver.read(keys)
    } catch (error) {
      this.#failures.release.failed(() => ({ where: 'read', ...driver.origin, key: keys[0], error }))
      return []
    }
  }

  /** Resolves when no creation runs. */
  idle(): Promise<void> {
    return this.#running.size === 0
      ? Promise.resolve()
      : new Promise((resolve) => this.#whenIdle.push(resolve))
  }

  #begin(leases: readonly HeldLease<V>[], driver: DogpileDriver<V>): Running<V> {
    const running = { leases, driver, ticks: 0, forsaken: 0, since: performance.now() }
    this.#running.add(running)
    if (driver.renew !== undefined || driver.abandonAfter !== undefined) this.#timer ??= this.#startTimer()
    return running
  }

  /** It runs for all creations, and so in the context of none of their callers. */
  #startTimer(): NodeJS.Timeout {
    return inNoContext(() => setInterval(() => this.#tick(), this.#renewEvery / TICKS.renewal).unref())
  }

  /** At every other tick of a creation, so that its leases are renewed for the first time before `renewEvery` is over. */
  #tick(): void {
    if (this.#running.size === 0) {
      clearInterval(this.#timer)
      this.#timer = undefined
    }
    for (const running of this.#running) {
      const { leases, driver } = running
      if (leases.every(({ flight }) => flight.wasAbandoned)) running.forsaken++
      if (
        running.forsaken > TICKS.lease ||
        this.#age(running) >= (driver.abandonAfter ?? Number.POSITIVE_INFINITY)
      )
        void this.#giveUp(running)
      else if (++running.ticks % TICKS.renewal === 0)
        void inBatches(leases, (lease) => this.#renewOne(lease, running))
    }
  }

  #age({ since }: Running<V>): number {
    return performance.now() - since
  }

  /** A creation that does not end loses its leases: no late result of it is stored. */
  async #giveUp(running: Running<V>): Promise<void> {
    const { leases, driver } = running
    this.#end(running)
    driver.abandoned?.()
    const ms = Math.round(this.#age(running))
    const keys = leases.map(({ flight }) => flight.key)
    report('notice', () => ({
      where: 'dogpile',
      ...driver.origin,
      key: keys[0],
      message: `a creation was given up after ${ms} ms, and its late value will not be stored. Pass its \`signal\` to the work that it does.`,
    }))
    const error = creationTimeout(keys.join("', '"), ms)
    await this.#fail(leases, driver, error, keys, true)
  }

  /** The creation is over, or nothing waits for it any longer. */
  #end(running: Running<V>): void {
    if (this.#running.delete(running) && this.#running.size === 0)
      for (const resolve of this.#whenIdle.splice(0)) resolve()
  }

  async #renewOne(lease: HeldLease<V>, running: Running<V>): Promise<void> {
    const { flight, token } = lease
    const { driver } = running
    const { key } = flight
    try {
      if (lease.isLost || driver.renew === undefined || (await driver.renew(key, token))) return
      lease.isLost = true
      // Its value is for its own callers. A later one must not wait for it, which may take for ever.
      flight.close()
      // The fill ends the lease, and its outcome tells what became of the value.
      if (running.isFilling === true) return
      const message = 'the lease was lost while the creator ran'
      report('notice', () => ({ where: 'dogpile', ...driver.origin, key, message }))
    } catch (error) {
      this.#failures.renew.failed(() => ({ where: 'renew', ...driver.origin, key, error }))
    }
  }

  /**
   * Gives leases back. A failure is only reported: the caller has a value, or an earlier failure counts.
   * @param kept - ms for which each lease stays after a failure of its creator; 0: it is free
   */
  async release(
    leases: readonly HeldLease<V>[],
    driver: DogpileDriver<V>,
    kept: readonly number[] = [],
  ): Promise<void> {
    await inBatches(leases, async ({ flight: { key }, token }, i) => {
      try {
        await driver.release?.(key, token, kept[i] || undefined)
      } catch (error) {
        this.#failures.release.failed(() => ({ where: 'release', ...driver.origin, key, error }))
      }
    })
  }
}

/** Runs the creator in a scope that is over when it has settled. */
async function createInScope<V>(
  driver: DogpileDriver<V>,
  keys: readonly string[],
  leases: readonly HeldLease<V>[],
  node: CreationNode,
): Promise<readonly V[]> {
  const scope = scopeOf(node)
  for (const { flight } of leases) flight.scope = scope
  try {
    return await beginScope(scope, () => create(driver, keys, leases))
  } finally {
    endScope(scope)
  }
}

/** Calls the creator. Its signal is aborted when no caller waits for any of the keys. */
function create<V>(
  driver: DogpileDriver<V>,
  keys: readonly string[],
  leases: readonly HeldLease<V>[],
): MaybePromise<readonly V[]> {
  if (driver.createLazily === undefined) return driver.create(keys, whenAllAbandoned(leases), leases)
  let signal: AbortSignal | undefined
  return driver.createLazily(keys, () => (signal ??= whenAllAbandoned(leases)), leases)
}

/** Aborted when no caller waits for any of the keys. */
function whenAllAbandoned<V>(leases: readonly HeldLease<V>[]): AbortSignal {
  const [first] = leases
  if (leases.length === 1 && first !== undefined) return first.flight.abandoned
  const all = new AbortController()
  let left = leases.length
  for (const { flight } of leases) {
    const { abandoned } = flight
    const one = () => {
      if (--left === 0) all.abort(abandoned.reason)
    }
    if (abandoned.aborted) one()
    else abandoned.addEventListener('abort', one, { once: true })
  }
  return all.signal
}

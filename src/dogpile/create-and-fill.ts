import type { Granted } from '../backend/lease.js'
import { report } from '../base/diagnostics.js'
import { inBatches } from '../base/in-batches.js'
import { clearInterval, setInterval } from '../base/timers.js'
import { runInScope } from '../creation/wait-graph.js'
import type { Flight } from './flight.js'
import type { DogpileDriver, FillResult } from './types.js'

/** The lease of a key, which this process holds, and the flight of the callers that wait for the key. */
export interface HeldLease<V> extends Pick<Granted, 'token' | 'asOf'> {
  readonly flight: Flight<V>
}

/** Runs creators under leases: the one place where values are created and filled. */
export class LeasedCreations<V> {
  /** How many creations run. */
  #running = 0
  /** The callers of `idle`. */
  #whenIdle: (() => void)[] = []
  readonly #renewEvery: number

  /** @param renewEvery - ms */
  constructor(renewEvery: number) {
    this.#renewEvery = renewEvery
  }

  /** Creates and fills under leases that are held; completes every flight of the batch. Never rejects. */
  async createAndFill(leases: readonly HeldLease<V>[], driver: DogpileDriver<V>): Promise<void> {
    const node = leases[0]?.flight.node
    if (node === undefined) return
    const stop = keepAlive(leases, driver, this.#renewEvery)
    this.#running++
    try {
      for (const { flight } of leases) {
        flight.creating = true
        // A caller that joined before the creator starts may have its value, stored or not.
        flight.readCount++
      }
      // Frozen: a driver hands the list to user code, and the results are matched with the order of the leases.
      const keys = Object.freeze(leases.map(({ flight }) => flight.key))
      const signal = whenAllAbandoned(leases)
      const values = await runInScope(node, () => driver.create(keys, signal, leases))
      for (const { flight } of leases) flight.open = false
      const fills = leases.map(({ flight, token }, i) => [flight.key, values[i] as V, token] as const)
      const outcomes = (await driver.fill?.(fills)) ?? leases.map(() => 'stored' as const)
      leases.forEach(({ flight }, i) => flight.complete(values[i] as V, outcomes[i] as FillResult))
    } catch (error) {
      for (const { flight } of leases) flight.close()
      await releaseLeases(leases, driver)
      for (const { flight } of leases) flight.fail(error)
    } finally {
      stop()
      if (--this.#running === 0) for (const resolve of this.#whenIdle.splice(0)) resolve()
    }
  }

  /** Resolves when no creation runs. */
  idle(): Promise<void> {
    return this.#running === 0 ? Promise.resolve() : new Promise((resolve) => this.#whenIdle.push(resolve))
  }
}

/** Keeps the leases of a creation alive until the returned function is called. */
function keepAlive<V>(leases: readonly HeldLease<V>[], driver: DogpileDriver<V>, every: number): () => void {
  if (driver.renew === undefined) return () => {}
  const renew = async ({ flight: { key }, token }: HeldLease<V>): Promise<void> => {
    try {
      if (await driver.renew?.(key, token)) return
      const message = 'the lease was lost while the creator ran'
      report('notice', () => ({ where: 'dogpile', key, message }))
    } catch (error) {
      report('failure', () => ({ where: 'renew', key, error }))
    }
  }
  const timer = setInterval(() => void inBatches(leases, renew), every)
  timer.unref()
  return () => clearInterval(timer)
}

/** Gives leases back. A failure is only reported: the caller has a value, or an earlier failure counts. */
export async function releaseLeases<V>(
  leases: readonly HeldLease<V>[],
  driver: DogpileDriver<V>,
): Promise<void> {
  const release = async ({ flight: { key }, token }: HeldLease<V>): Promise<void> => {
    try {
      await driver.release?.(key, token)
    } catch (error) {
      report('failure', () => ({ where: 'release', key, error }))
    }
  }
  await inBatches(leases, release)
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

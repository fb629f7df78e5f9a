import type { Granted } from '../backend/lease.js'
import { report } from '../base/diagnostics.js'
import { MAX_DELAY } from '../base/timers.js'
import type { CreationNode } from '../creation/scope.js'
import { runInScope } from '../creation/wait-graph.js'
import type { FillResult, Flight } from './flight.js'
import type { DogpileDriver } from './types.js'

/** A key whose lease this process holds, and the flight of the callers that wait for it. */
export interface HeldLease<V> extends Pick<Granted, 'token' | 'asOf'> {
  readonly key: string
  readonly flight: Flight<V>
}

/** Runs creators under leases: the one place where values are created and filled. */
export class LeasedCreations<V> {
  /** How many creations run. */
  #running = 0
  /** The callers of `idle`. */
  #whenIdle: (() => void)[] = []
  readonly #renewEvery: number
  readonly #closeFlight: (key: string, flight: Flight<V>) => void

  /** @param renewEvery - ms */
  constructor(renewEvery: number, closeFlight: (key: string, flight: Flight<V>) => void) {
    this.#renewEvery = renewEvery
    this.#closeFlight = closeFlight
  }

  /** Creates and fills under leases that are held; completes every flight of the batch. Never rejects. */
  async createAndFill(
    leases: readonly HeldLease<V>[],
    node: CreationNode,
    driver: DogpileDriver<V>,
  ): Promise<void> {
    const stop = keepAlive(leases, driver, this.#renewEvery)
    this.#running++
    try {
      for (const { flight } of leases) {
        flight.creating = true
        // A caller that joined before the creator starts may have its value, stored or not.
        flight.readCount++
      }
      const keys = leases.map(({ key }) => key)
      const values = await create(driver, keys, node, whenAllAbandoned(leases), leases)
      for (const { flight } of leases) flight.open = false
      const fills = leases.map(({ key, token }, i) => [key, values[i] as V, token] as const)
      const outcomes = (await driver.fill?.(fills)) ?? leases.map(() => 'stored' as const)
      leases.forEach(({ key, flight }, i) => {
        this.#closeFlight(key, flight)
        const { readCount } = flight
        flight.complete({
          kind: 'value',
          value: values[i] as V,
          filled: outcomes[i] as FillResult,
          readCount,
        })
      })
    } catch (error) {
      for (const { key, flight } of leases) this.#closeFlight(key, flight)
      await Promise.all(leases.map((lease) => releaseLease(lease, driver)))
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
  const renew = async ({ key, token }: HeldLease<V>): Promise<void> => {
    try {
      if (await driver.renew?.(key, token)) return
      report('notice', () => ({
        where: 'dogpile',
        key,
        message: 'the lease was lost while the creator ran',
      }))
    } catch (error) {
      report('failure', () => ({ where: 'renew', key, error }))
    }
  }
  const timer = setInterval(
    () => {
      for (const lease of leases) void renew(lease)
    },
    Math.min(every, MAX_DELAY),
  )
  timer.unref()
  return () => clearInterval(timer)
}

/** Gives a lease back. Another failure came first, and that one counts. */
export async function releaseLease<V>(
  { key, token }: Pick<HeldLease<V>, 'key' | 'token'>,
  driver: DogpileDriver<V>,
): Promise<void> {
  try {
    await driver.release?.(key, token)
  } catch (error) {
    report('failure', () => ({ where: 'release', key, error }))
  }
}

/** Runs a creator in a new scope. */
export function create<V>(
  driver: DogpileDriver<V>,
  keys: readonly string[],
  node: CreationNode,
  signal: AbortSignal,
  leases?: readonly Pick<Granted, 'asOf'>[],
): Promise<readonly V[]> {
  return runInScope(node, () => driver.create(keys, signal, leases))
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

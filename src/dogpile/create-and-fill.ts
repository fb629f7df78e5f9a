import type { Granted } from '../backend/lease.js'
import { report } from '../base/diagnostics.js'
import type { CreationNode } from '../creation/scope.js'
import { runInScope } from '../creation/wait-graph.js'
import type { LedgerTime } from '../ledger/snapshot.js'
import type { FillResult, Flight } from './flight.js'
import type { DogpileDriver } from './types.js'

/** A key whose lease was granted, and who waits for it. */
export interface HeldLease<V> {
  readonly key: string
  readonly flight: Flight<V>
  readonly token: string
  /** The ledger's time that came with the grant, if the creation starts right after it. */
  readonly asOf?: LedgerTime | undefined
}

export interface LeasedCreations<V> {
  /** Creates and fills under leases that are held; lands every flight of the batch. Never rejects. */
  createAndFill(claims: readonly HeldLease<V>[], work: CreationNode, steps: DogpileDriver<V>): Promise<void>
  /** Resolves when nothing is being made. */
  idle(): Promise<void>
}

/**
 * The one place where creators run under leases.
 * @param renewEvery - ms
 * @param closeFlight - closes a flight to newcomers and takes it off the list
 */
export function leasedCreations<V>(
  renewEvery: number,
  closeFlight: (key: string, flight: Flight<V>) => void,
): LeasedCreations<V> {
  let busy = 0
  let whenIdle: (() => void)[] = []

  const createAndFill = async (
    claims: readonly HeldLease<V>[],
    work: CreationNode,
    steps: DogpileDriver<V>,
  ): Promise<void> => {
    const stop = keepAlive(claims, steps, renewEvery)
    busy++
    try {
      const keys = claims.map(({ key }) => key)
      for (const { flight } of claims) {
        flight.creating = true
        // Whoever joined before the creator starts may have its value, stored or not.
        flight.readCount++
      }
      const values = await create(steps, keys, work, whenAllAbandoned(claims), claims)
      for (const { flight } of claims) flight.open = false
      const fills = claims.map(({ key, token }, i) => [key, values[i] as V, token] as const)
      const outcomes = (await steps.fill?.(fills)) ?? claims.map(() => 'stored' as const)
      claims.forEach(({ key, flight }, i) => {
        closeFlight(key, flight)
        flight.complete({
          kind: 'value',
          value: values[i] as V,
          filled: outcomes[i] as FillResult,
          readCount: flight.readCount,
        })
      })
    } catch (error) {
      for (const { key, flight } of claims) closeFlight(key, flight)
      await Promise.all(claims.map(({ key, token }) => releaseLease(key, token, steps)))
      for (const { flight } of claims) flight.fail(error)
    } finally {
      stop()
      if (--busy === 0) {
        for (const resolve of whenIdle) resolve()
        whenIdle = []
      }
    }
  }

  return {
    createAndFill,
    idle: () => (busy === 0 ? Promise.resolve() : new Promise((resolve) => whenIdle.push(resolve))),
  }
}

/** Keeps the leases of a creation alive until it is called off. */
function keepAlive<V>(held: readonly HeldLease<V>[], steps: DogpileDriver<V>, every: number): () => void {
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
    Math.min(every, 2 ** 31 - 1),
  )
  timer.unref()
  return () => clearInterval(timer)
}

/** Gives a lease back after a failure, which is then the failure that counts. */
export async function releaseLease<V>(key: string, token: string, steps: DogpileDriver<V>): Promise<void> {
  try {
    await steps.release?.(key, token)
  } catch (error) {
    report('failure', () => ({ where: 'release', key, error }))
  }
}

/** Runs a creator in a scope of its own. */
export function create<V>(
  steps: DogpileDriver<V>,
  keys: readonly string[],
  work: CreationNode,
  signal: AbortSignal,
  leases: readonly Pick<Granted, 'asOf'>[] = [],
): Promise<readonly V[]> {
  return runInScope(work, () => steps.create(keys, signal, leases))
}

/** Aborted when nobody waits for any of the keys any more. */
function whenAllAbandoned<V>(claims: readonly HeldLease<V>[]): AbortSignal {
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

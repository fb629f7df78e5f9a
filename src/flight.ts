import { CorralError } from './errors.js'
import { noteWait, type Work } from './scope.js'

/**
 * How a creation ended for those who wait for it. A value that was stored is for everybody who joined. Any other is only
 * for those who joined before the flight last looked at the store: what was made after that look is new enough for them,
 * while for a later joiner an invalidation may have come in between.
 */
export type Landing<V> =
  | { readonly kind: 'value'; readonly value: V; readonly stored: boolean; readonly look: number }
  | { readonly kind: 'again' }

/** A creation that the callers of this process share. */
export interface Flight<V> {
  readonly work: Work
  readonly landed: Promise<Landing<V>>
  /** Takes joiners: until its fill is sent. After that an invalidation could be acknowledged unseen. */
  open: boolean
  /** Its creator runs. */
  creating: boolean
  /** How often it has looked at the store. */
  looks: number
  /** Aborted when nobody waits any more. */
  readonly abandoned: AbortSignal
  land(landing: Landing<V>): void
  fail(error: unknown): void
  /** Resolves with the landing, within the caller's limits; the deadline does not run against the caller's own creator. */
  wait(limits: Limits, leads: boolean): Promise<Landing<V>>
}

/** How long a caller waits for what somebody else is making. */
export interface Limits {
  /** ms; Infinity: as long as it takes. */
  readonly wait: number
  readonly signal?: AbortSignal | undefined
}

export function takeOff<V>(work: Work): Flight<V> {
  let land!: (landing: Landing<V>) => void
  let fail!: (error: unknown) => void
  const landed = new Promise<Landing<V>>((resolve, reject) => {
    land = resolve
    fail = reject
  })
  // Its leader may have gone: a failure then has nobody to tell, which is not an unhandled one.
  landed.catch(() => {})
  const abandoned = new AbortController()
  let waiting = 0
  const flight: Flight<V> = {
    work,
    landed,
    open: true,
    creating: false,
    looks: 0,
    abandoned: abandoned.signal,
    land,
    fail,
    async wait(limits, leads) {
      waiting++
      const endWait = noteWait(work)
      try {
        return await within(limits, landed, work.keys[0] ?? '', () => leads && flight.creating)
      } catch (error) {
        if (waiting === 1) abandoned.abort(error)
        throw error
      } finally {
        waiting--
        endWait()
      }
    },
  }
  return flight
}

/**
 * Waits for a promise within the caller's limits.
 * @throws CorralError `ERR_WAIT_TIMEOUT` at the deadline; the signal's reason when it is aborted.
 */
export function within<T>(
  limits: Limits,
  promise: Promise<T>,
  key: string,
  exempt = () => false,
): Promise<T> {
  const { wait, signal } = limits
  if (wait === Number.POSITIVE_INFINITY && signal === undefined) return promise
  return new Promise((resolve, reject) => {
    const done = () => {
      clearTimeout(timer)
      signal?.removeEventListener('abort', abort)
    }
    const abort = () => {
      done()
      reject(signal?.reason)
    }
    const late = () => {
      if (exempt()) return
      done()
      reject(
        new CorralError(
          'ERR_WAIT_TIMEOUT',
          `Waited ${wait} ms for another caller to create '${key}'. Raise \`wait\`, or look why its creator takes so long.`,
        ),
      )
    }
    // Longer delays than a timer can hold are as good as none.
    const timer = wait < 2 ** 31 ? setTimeout(late, wait) : undefined
    if (signal?.aborted) return abort()
    signal?.addEventListener('abort', abort, { once: true })
    promise.then(
      (value) => {
        done()
        resolve(value)
      },
      (error) => {
        done()
        reject(error)
      },
    )
  })
}

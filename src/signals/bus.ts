import type { MaybePromise } from '../base/maybe-promise.js'
import { expectMethods, expectNoOptions } from '../base/options.js'

/**
 * The messages that a bus kept.
 * @example
 * ```ts
 * import type { BusResumption } from 'corral/signals'
 *
 * export const isComplete = ({ messages }: BusResumption) => messages !== undefined
 * ```
 */
export interface BusResumption {
  /** The place after all messages so far. */
  readonly position: string
  /** Those after the position that was asked about, in their order. `undefined`: some of them are gone. */
  readonly messages: readonly string[] | undefined
}

/**
 * Carries short texts between processes: Redis pub/sub, or a transport of yours. It need not keep messages for absent
 * receivers or repeat lost ones, but it must announce that messages may have been lost. One that keeps the latest messages
 * may say so by `since`: a listener then makes up for those that it missed, instead of dropping everything.
 * @example
 * ```ts
 * import { EventEmitter } from 'node:events'
 * import type { Bus } from 'corral/signals'
 *
 * const emitter = new EventEmitter()
 * // Never loses a message, so it is up from the first moment.
 * export const emitting: Bus = {
 *   publish: (message) => void emitter.emit('message', message),
 *   subscribe(listener) {
 *     emitter.on('message', listener.heard)
 *     listener.up()
 *     return { live: () => true, close: () => void emitter.off('message', listener.heard) }
 *   },
 * }
 * ```
 */
export interface Bus {
  /** Sends a message to all subscribers. Rejects unless the message is known to be on its way. */
  publish(message: string): MaybePromise<void>
  subscribe(listener: BusListener): Subscription
  /**
   * The messages after a position, all of those that had been acknowledged when it was called. Asked after `up`. Without a
   * position only the present one is wanted.
   */
  since?(position: string | undefined): MaybePromise<BusResumption>
}

/**
 * The receiver of the messages of a bus.
 * @example
 * ```ts
 * import type { BusListener } from 'corral/signals'
 *
 * export const logging = (name: string): BusListener => ({
 *   heard: (message) => console.log(name, message),
 *   up: () => console.log(name, 'receives messages'),
 *   down: () => console.warn(name, 'may miss messages'),
 * })
 * ```
 */
export interface BusListener {
  /** @param position - the place after the message, where the bus has `since` */
  heard(message: string, position?: string): void
  /** Messages arrive from now on. Earlier messages may have been lost, also when `down` was never called. */
  up(): void
  /** Messages may be lost from now on. */
  down(): void
}

/**
 * The subscription of one listener to a bus.
 * @example
 * ```ts
 * import type { Bus, Subscription } from 'corral/signals'
 *
 * export function count(bus: Bus): { readonly subscription: Subscription; readonly seen: () => number } {
 *   let seen = 0
 *   const subscription = bus.subscribe({ heard: () => void seen++, up: () => {}, down: () => {} })
 *   return { subscription, seen: () => seen }
 * }
 * ```
 */
export interface Subscription {
  /** Whether all that was sent until a moment ago has been heard; how long a moment is, is for the bus to say. Asked at every read. */
  live(): boolean
  close(): MaybePromise<void>
}

/**
 * A bus within this process, whose subscription can be cut: for tests, and for parts of one process.
 * @example
 * ```ts
 * import type { LocalBus } from 'corral/signals'
 *
 * export async function without(bus: LocalBus, work: () => Promise<void>): Promise<void> {
 *   bus.cut()
 *   await work().finally(() => bus.mend())
 * }
 * ```
 */
export interface LocalBus extends Bus {
  /** From now on messages are lost. */
  cut(): void
  mend(): void
}

/**
 * Makes a bus within this process.
 * @example
 * ```ts
 * import { makeRegion, wrap } from 'corral'
 * import { memory } from 'corral/backends/memory'
 * import { broadcast } from 'corral/proxies/broadcast'
 * import { localBus } from 'corral/signals'
 *
 * const bus = localBus()
 * const open = () => makeRegion<string>({ backend: wrap(memory(), broadcast(bus, { name: 'texts' })) })
 * const [one, other] = [open(), open()]
 * await other.set('greeting', 'hello')
 * await one.delete('greeting') // the other one drops it too
 * ```
 * @throws CorralError `ERR_OPTION` for an option: it takes none.
 */
export function localBus(...options: readonly []): LocalBus {
  expectNoOptions(options, 'localBus()')
  const listeners = new Set<BusListener>()
  let whole = true
  return {
    publish(message) {
      if (!whole) throw new Error('the bus is cut')
      for (const listener of [...listeners]) listener.heard(message)
    },
    subscribe(listener) {
      listeners.add(listener)
      if (whole) listener.up()
      return {
        live: () => whole && listeners.has(listener),
        close() {
          listeners.delete(listener)
        },
      }
    },
    cut() {
      if (!whole) return
      whole = false
      for (const listener of [...listeners]) listener.down()
    },
    mend() {
      if (whole) return
      whole = true
      for (const listener of [...listeners]) listener.up()
    },
  }
}

/** @throws CorralError `ERR_OPTION` unless it can publish and subscribe. */
export function expectBus(bus: unknown, where: string): asserts bus is Bus {
  expectMethods(bus, ['publish', 'subscribe'], `${where} to receive a bus, such as redisBus()`)
}

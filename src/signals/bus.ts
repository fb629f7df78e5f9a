import type { MaybePromise } from '../base/maybe-promise.js'
import { expectMethods } from '../base/options.js'

/**
 * Carries short texts between processes: Redis pub/sub, or a transport of yours. It need not keep messages for absent
 * receivers or repeat lost ones, but it must announce that messages may have been lost.
 */
export interface Bus {
  /** Sends a message to all subscribers. Rejects unless the message is known to be on its way. */
  publish(message: string): MaybePromise<void>
  subscribe(listener: BusListener): Subscription
}

export interface BusListener {
  heard(message: string): void
  /** Messages arrive from now on. Earlier messages may have been lost, also when `down` was never called. */
  up(): void
  /** Messages may be lost from now on. */
  down(): void
}

export interface Subscription {
  /** Whether all that was sent until a moment ago has been heard; how long a moment is, is for the bus to say. Asked at every read. */
  live(): boolean
  close(): MaybePromise<void>
}

/** A bus within this process, whose subscription can be cut: for tests, and for parts of one process. */
export interface LocalBus extends Bus {
  /** From now on messages are lost. */
  cut(): void
  mend(): void
}

export function localBus(): LocalBus {
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

import type { Backend, CachedValue } from '../../src/index.js'

/** Changes that a simulated journal keeps. */
export const RING = 2

/** The store of simulated processes with near caches. Its commands are steps of a schedule; its own state changes at once. */
export interface SimulatedStore {
  /** The version of a key's value, unless that is invalidated. */
  current(key: string): number | undefined
  /** A creation, in one step: the store's own fences are tested elsewhere. */
  put(key: string, version: number): void
  backUp(): void
  /** A server is replaced by one that may lack the latest changes. */
  failOver(): void
  lose(): void
  connect(wire: Wire): StoreClient
}

/** The way of a process to its store. */
export interface Wire {
  readonly clock: { now(): number }
  /** Sends a command to a node. Its execution and its reply are steps; those of one node keep their order. */
  send<R>(node: string, execute: () => R): Promise<R>
  /** A message for the process, whose arrival is a step. */
  deliver(arrive: () => void): void
  /** Waits for a step in which a layer passes a reply on. */
  pass(): Promise<void>
  /** Asks for the latest changes. */
  beat(): void
}

/** A process's side of the store. */
export interface StoreClient {
  readonly far: Backend<CachedValue>
  prove(): unknown
  disconnected(): void
}

/** Changes of a process that failed: each hides its key until it is repeated, as the backends do. */
export class FailedChanges {
  readonly #keys = new Map<string, number>()

  hides(key: string): boolean {
    return (this.#keys.get(key) ?? 0) > 0
  }

  /** @param failed - tells the near caches, since the outcome is unknown */
  async attempt(key: string, change: () => Promise<unknown>, failed: () => void): Promise<void> {
    try {
      await change()
    } catch (error) {
      failed()
      this.#keys.set(key, (this.#keys.get(key) ?? 0) + 1)
      void this.#repeat(key, change)
      throw error
    }
  }

  #repeat(key: string, change: () => Promise<unknown>): Promise<void> {
    return change().then(
      () => void this.#keys.set(key, (this.#keys.get(key) ?? 1) - 1),
      () => this.#repeat(key, change),
    )
  }
}

/** A value as the store has it, which may have been invalidated by its name. */
export function simulatedEntry(key: string, version: number, epoch: string, asOf: number): CachedValue {
  const snapshot = { epoch, groups: [{ asOf, names: [key] }] }
  return { payload: version, metadata: { startedAt: 1, createdAt: 1, snapshot } }
}

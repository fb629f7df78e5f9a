import { describe } from 'vitest'
import { memory } from '../../backends/memory/index.js'
import {
  type Backend,
  type CachedValue,
  type Clock,
  defineBackend,
  delegate,
  localInvalidation,
  makeRegion,
  type Region,
  type RegionOptions,
  type TransparentProxy,
  wrap,
} from '../../src/index.js'
import { withOperations } from './ledgers.js'
import { threeMethods } from './three-methods.js'
import { deferred, turn } from './waiting.js'

export interface ManualClock extends Clock {
  tick(ms: number): void
}

/** A clock that stands still until it is moved. */
export function manualClock(start = 1_000_000): ManualClock {
  let at = start
  return {
    now: () => at,
    tick(ms) {
      at += ms
    },
  }
}

export interface HeldCreator<T> {
  readonly create: () => Promise<T>
  /** Resolves when the creator was called. */
  readonly started: Promise<void>
  readonly runs: number
  resolve(value: T): void
  reject(error: unknown): void
}

/** A creator that is held in the middle until the test resolves or rejects it. */
export function held<T>(): HeldCreator<T> {
  const started = deferred()
  const result = deferred<T>()
  let runs = 0
  return {
    create() {
      runs++
      started.resolve()
      return result.promise
    },
    started: started.promise,
    get runs() {
      return runs
    },
    resolve: result.resolve,
    reject: result.reject,
  }
}

/** A creator that answers 1, 2, 3 … */
export function counting(): { readonly next: () => number; readonly runs: number } {
  let runs = 0
  return {
    next: () => ++runs,
    get runs() {
      return runs
    },
  }
}

/** A layer that answers everything in a later turn of the event loop. */
export const later: TransparentProxy = (next) => {
  const { ledger } = next
  return delegate(next, {
    get: async (key) => (await turn(), next.get(key)),
    set: async (key, value, options) => (await turn(), next.set(key, value, options)),
    delete: async (key) => (await turn(), next.delete(key)),
    getMulti: async (keys) => (await turn(), next.getMulti(keys)),
    setMulti: async (writes) => (await turn(), next.setMulti(writes)),
    deleteMulti: async (keys) => (await turn(), next.deleteMulti(keys)),
    acquire: async (key, ms, options) => (await turn(), next.acquire(key, ms, options)),
    renew: async (key, token, ms) => (await turn(), next.renew(key, token, ms)),
    release: async (key, token, failure) => (await turn(), next.release(key, token, failure)),
    held: async (key) => (await turn(), next.held(key)),
    ledger:
      ledger &&
      withOperations(ledger, (opened) => ({
        read: async (names) => (await turn(), opened.read(names)),
        now: async (names) => (await turn(), opened.now(names)),
        invalidate: async (...change) => (await turn(), opened.invalidate(...change)),
      })),
  })
}

export interface Stage<V> {
  readonly region: Region<V>
  readonly clock: ManualClock
  readonly backend: Backend<CachedValue>
}

export type Open = <V = unknown>(options?: RegionOptions) => Stage<V>

const setting =
  (make: (clock: Clock) => Backend<CachedValue>, more: () => RegionOptions = () => ({})): Open =>
  <V>(options: RegionOptions = {}) => {
    const clock = manualClock()
    const backend = make(clock)
    return { clock, backend, region: makeRegion<V>({ backend, clock, ...more(), ...options }) }
  }

/** Opens a region over a memory backend that share a clock. */
export const open: Open = setting((clock) => memory({ clock }))

const SETTINGS: Readonly<Record<string, Open>> = {
  'over memory': open,
  'through a proxy that does nothing': setting((clock) =>
    wrap(memory({ clock }), (next: Backend<CachedValue>) => delegate(next, {})),
  ),
  'with an invalidation strategy of its own': setting(
    (clock) => memory({ clock }),
    () => ({ regionInvalidator: localInvalidation() }),
  ),
  'over a store that answers later': setting((clock) => wrap(memory({ clock }), later)),
  'over three methods': setting(() => defineBackend<CachedValue>(threeMethods())),
}

/** Runs tests in regions of every kind. */
export function inEveryRegion(subject: string, tests: (open: Open) => void): void {
  for (const [name, opener] of Object.entries(SETTINGS)) describe(`${subject}, ${name}`, () => tests(opener))
}

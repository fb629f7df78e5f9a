import type { Backend } from '../backend/backend.js'
import { layerOver, type Overrides } from '../backend/delegate.js'
import type { Tracker } from '../backend/tracker.js'
import { reportOnce } from '../base/diagnostics.js'
import { CorralError, formatValue } from '../base/errors.js'
import { expectFunction } from '../base/options.js'
import { bindLedger, type Ledger, type OpenLedger } from '../ledger/ledger.js'
import { mapTail } from '../ledger/tail.js'
import type { TransparentProxy } from './proxy.js'

/**
 * Turns a key into the key under which the next layer knows it.
 * @example
 * ```ts
 * import type { KeyMangler } from 'corral'
 *
 * export const lowerCase: KeyMangler = (key) => key.toLowerCase()
 * ```
 */
export type KeyMangler = (key: string) => string

/**
 * The way back from a key of the next layer; `undefined` for one that the mangler did not make.
 * @example
 * ```ts
 * import type { KeyInverse } from 'corral'
 *
 * export const withoutShop: KeyInverse = (key) => (key.startsWith('shop:') ? key.slice(5) : undefined)
 * ```
 */
export type KeyInverse = (key: string) => string | undefined

/**
 * Changes every key on its way down: keys of entries and leases, and the clocks and names of a ledger below.
 * @example
 * ```ts
 * import { mapKeys, wrap } from 'corral'
 * import { memory } from 'corral/backends/memory'
 *
 * export const backend = wrap(memory(), mapKeys((key) => `shop:${key}`))
 * ```
 * @param inverse - the way back, so that `region.keys()` can list keys
 * @throws CorralError `ERR_OPTION` unless `mangler` is a function; operations throw `ERR_KEY` if it returns no string.
 */
export function mapKeys(mangler: KeyMangler, inverse?: KeyInverse): TransparentProxy {
  expectFunction(mangler, 'the mangler of mapKeys()', 'a function from key to key')
  const mangle = (key: string): string => {
    const mangled: unknown = mangler(key)
    if (typeof mangled === 'string') return mangled
    // Any other value would be the same key for different keys.
    throw new CorralError(
      'ERR_KEY',
      `Expected a key mangler to return a string for '${key}', got ${formatValue(mangled)}.`,
    )
  }
  if (inverse !== undefined) {
    expectFunction(inverse, '`inverse` of mapKeys()', 'a function of a key')
    inverses.set(mangle, inverse)
  }
  return (next) => {
    const text = isShared(next) ? prefixOf(mangler) : ''
    if (text !== '') noticeAbove('mapKeys', text, 'mapKeys(mangler)')
    return withKeys(next, mangle)
  }
}

/** The text that a mangler puts before a key. Such a one seems to keep applications apart, as `prefix()` does. */
function prefixOf(mangler: KeyMangler): string {
  const key = 'key'
  try {
    const mapped: unknown = mangler(key)
    return typeof mapped === 'string' && mapped.endsWith(key) ? mapped.slice(0, -key.length) : ''
  } catch {
    // A mangler of the application may refuse the key.
    return ''
  }
}

/** Whether other applications may share the names of `dependencies()` below. */
export function isShared({ tracker }: { readonly tracker?: Tracker | undefined }): boolean {
  return tracker?.shared === true && tracker.tracksDependencies
}

/** Reports a layer that puts a text before keys only, where it seems to do so before names too. */
export function noticeAbove(proxy: string, text: string, call: string): void {
  reportOnce('notice', `${proxy} ${text}`, () => ({
    where: `${proxy}()`,
    message: `${call} stands above dependencies(), so it maps no names: an application with another prefix invalidates the regions and names of this one. Put it below: wrap(backend, ${call}, dependencies()).`,
  }))
}

/** A text is put before each key. */
export type KeyMap = KeyMangler | string

/** A layer that maps keys and nothing else. */
interface KeyLayer<T> {
  readonly below: Backend<T>
  readonly map: KeyMap
}

const layers = new WeakMap<object, unknown>()

/** Takes a layer apart that maps keys and nothing else. `undefined`: the backend is none. */
export function keyLayerOf<T>(backend: Backend<T>): KeyLayer<T> | undefined {
  return layers.get(backend) as KeyLayer<T> | undefined
}

/** The function of a map of keys. */
export function manglerOf(map: KeyMap): KeyMangler {
  return typeof map === 'string' ? (key) => map + key : map
}

/**
 * A layer that changes keys on their way down, and no name of a ledger that is opened above it. Adjacent ones become one:
 * a key passes one layer, and a list of names is copied once.
 */
export function withKeys<T>(around: Backend<T>, map: KeyMap): Backend<T> {
  const lower = keyLayerOf(around)
  return lower === undefined ? keyLayer(around, map) : keyLayer(lower.below, joined(lower.map, map))
}

function joined(lower: KeyMap, upper: KeyMap): KeyMap {
  if (typeof lower === 'string' && typeof upper === 'string') return lower + upper
  const [last, first] = [manglerOf(lower), manglerOf(upper)]
  const both: KeyMangler = (key) => last(first(key))
  const [back, further] = [inverseOf(lower), inverseOf(upper)]
  if (back !== undefined && further !== undefined)
    inverses.set(both, (key) => {
      const between = back(key)
      return between === undefined ? undefined : further(between)
    })
  return both
}

const inverses = new WeakMap<KeyMangler, KeyInverse>()

function inverseOf(map: KeyMap): KeyInverse | undefined {
  if (typeof map !== 'string') return inverses.get(map)
  return (key) => (key.startsWith(map) ? key.slice(map.length) : undefined)
}

/** The keys of a store, as the layer above a map of keys knows them. */
function keysThrough({ keys }: Pick<Backend, 'keys'>, map: KeyMap): Backend['keys'] {
  const inverse = inverseOf(map)
  if (keys === undefined || inverse === undefined) return undefined
  return async function* (prefix) {
    // Only a text that stands before keys maps the beginning of a key to the beginning of another.
    for await (const below of keys(typeof map === 'string' ? map + prefix : '')) {
      const key = inverse(below)
      if (key?.startsWith(prefix)) yield key
    }
  }
}

function keyLayer<T>(next: Backend<T>, map: KeyMap): Backend<T> {
  const { tracker, storeKey, capture, near } = next
  const mangle = manglerOf(map)
  const layer: Overrides<T> = {
    get: (key) => next.get(mangle(key)),
    set: (key, value, options) => next.set(mangle(key), value, options),
    delete: (key) => next.delete(mangle(key)),
    getMulti: (keys) => next.getMulti(Object.freeze(keys.map(mangle))),
    setMulti: (writes) =>
      next.setMulti(Object.freeze(writes.map(([key, ...rest]) => [mangle(key), ...rest] as const))),
    deleteMulti: (keys) => next.deleteMulti(Object.freeze(keys.map(mangle))),
    acquire: (key, ms, options) => next.acquire(mangle(key), ms, options),
    renew: (key, token, ms) => next.renew(mangle(key), token, ms),
    release: (key, token, failure) => next.release(mangle(key), token, failure),
    held: (key) => next.held(mangle(key)),
    ledger: next.ledger && mapLedger(next.ledger, mangle),
    tracker: tracker && { ...tracker, inspect: (key) => tracker.inspect(mangle(key)) },
    near: near && {
      ...near,
      proved: (keys, read, within) => near.proved(keys.map(mangle), read, within),
    },
    capture: capture && ((entry, keyOf) => capture(entry, () => mangle(keyOf()))),
    keys: keysThrough(next, map),
    storeKey: storeKey === undefined ? mangle : (key) => storeKey(mangle(key)),
  }
  const keyed = layerOver(next, layer, true)
  layers.set(keyed, { below: next, map })
  return keyed
}

/** A ledger seen through a key mangler. A list of names that comes again and again is mapped once. */
function mapLedger(ledger: Ledger, mangle: (key: string) => string): Ledger {
  const lists = new WeakMap<readonly string[], readonly string[]>()
  const mapNames = (names: readonly string[]): readonly string[] => {
    let mapped = lists.get(names)
    if (mapped === undefined) lists.set(names, (mapped = Object.freeze(names.map(mangle))))
    return mapped
  }
  return {
    shared: ledger.shared,
    open(clock) {
      const below = bindLedger(ledger.open(mangle(clock)))
      const { storeNames, restore, pending, tail } = below
      return {
        ...below,
        storeNames: (names) => storeNames?.(mapNames(names)) ?? mapNames(names),
        read: (names) => below.read(mapNames(names)),
        now: (names) => below.now(mapNames(names)),
        invalidate: (names, ...rest) => below.invalidate(mapNames(names), ...rest),
        ...(pending && { pending: (names, ...rest) => pending(mapNames(names), ...rest) }),
        ...(restore && {
          restore: ({ epoch, groups }) =>
            restore({ epoch, groups: groups.map(({ asOf, names }) => ({ asOf, names: mapNames(names) })) }),
        }),
        ...(tail && { tail: () => mapTail(tail(), mangle, mapNames) }),
      } satisfies OpenLedger
    },
  }
}

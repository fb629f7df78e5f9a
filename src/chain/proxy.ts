import type { Backend, Outcome, Representation, Write, WriteOptions } from '../backend/backend.js'
import type { DependencySnapshot } from '../backend/cached-value.js'
import { arriving } from '../backend/lease.js'
import { reportUndecodable } from '../base/diagnostics.js'
import { CorralError, formatValue } from '../base/errors.js'
import { all, andThen, isPromise, type MaybePromise, mapEach, mapLazily } from '../base/maybe-promise.js'
import type { Ledger, Tracker } from '../ledger/ledger.js'

/** A layer around a backend. `wrap` applies them from the backend outwards. */
export type BackendProxy<Outer, Inner = Outer> = (next: Backend<Inner>) => Backend<Outer>

/** A layer that does not look at values, and so fits above and below an encoding. */
export type TransparentProxy = <T>(next: Backend<T>) => Backend<T>

export type KeyMangler = (key: string) => string

/** Both directions of a change of representation. The key comes along so that a layer can bind a value to it. */
export interface Codec<Outer, Inner> {
  /** Names the layer in reports. @default 'codec' */
  readonly name?: string
  /** What stands below and above this layer; checked when the chain is built, for callers without types. */
  readonly inner?: Representation
  readonly outer?: Representation
  /** May throw: a value that cannot be kept is refused before anything is stored. */
  encode(value: Outer, key: string): MaybePromise<NoInfer<Inner>>
  /** `undefined`, or a throw: the stored value is of no use, which is a miss and is reported. */
  decode(stored: Inner, key: string): MaybePromise<NoInfer<Outer> | undefined>
}

export type OperationName =
  | 'get'
  | 'set'
  | 'delete'
  | 'getMulti'
  | 'setMulti'
  | 'deleteMulti'
  | 'acquire'
  | 'renew'
  | 'release'
  | 'held'

export interface Operation {
  readonly name: OperationName
  readonly keys: readonly string[]
}

/** The members that a proxy may replace. Replacing a single form also governs its multi form. */
export type Overrides<T> = Partial<
  Omit<Backend<T>, '~stores: put an encoding such as msgpack() around a backend of bytes' | 'actual'>
>

/**
 * A backend that does what `next` does but for the overrides. A multi form that is not overridden itself follows the
 * overridden single form, so that no operation goes past a proxy. Nor does what a lease brings when it is over: where reads,
 * or the ledger that judges them, are overridden, its waiters read.
 * @param brings - the overridden `acquire` treats what a lease brings as `get` treats what it reads. @default false
 */
export function delegate<T>(next: Backend<T>, overrides: Overrides<T>, brings = false): Backend<T> {
  const get = overrides.get ?? ((key) => next.get(key))
  const set = overrides.set ?? ((key, value, options) => next.set(key, value, options))
  const remove = overrides.delete ?? ((key) => next.delete(key))
  const acquire = overrides.acquire ?? ((key, ms, options) => next.acquire(key, ms, options))
  return {
    name: overrides.name ?? next.name,
    get,
    set,
    delete: remove,
    getMulti:
      overrides.getMulti ??
      (overrides.get ? (keys) => mapEach(keys, (key) => get(key)) : (keys) => next.getMulti(keys)),
    setMulti:
      overrides.setMulti ??
      (overrides.set
        ? (writes) => mapEach(writes, ([key, value, options]) => set(key, value, options))
        : (writes) => next.setMulti(writes)),
    deleteMulti:
      overrides.deleteMulti ??
      (overrides.delete
        ? (keys) =>
            andThen(
              mapEach(keys, (key) => remove(key)),
              () => undefined,
            )
        : (keys) => next.deleteMulti(keys)),
    acquire: !brings && READS.some((name) => name in overrides) ? reading(acquire) : acquire,
    renew: overrides.renew ?? ((key, token, ms) => next.renew(key, token, ms)),
    release: overrides.release ?? ((key, token) => next.release(key, token)),
    held: overrides.held ?? ((key) => next.held(key)),
    close: overrides.close ?? (() => next.close()),
    ledger: 'ledger' in overrides ? overrides.ledger : next.ledger,
    tracker: 'tracker' in overrides ? overrides.tracker : next.tracker,
    reach: overrides.reach ?? next.reach,
    stores: 'stores' in overrides ? overrides.stores : next.stores,
    limits: overrides.limits ?? next.limits,
    actual: next.actual,
  }
}

/** What a value that is read goes through: a ledger may know more than the store that the value is true no longer. */
const READS = ['get', 'getMulti', 'ledger', 'tracker'] as const

/**
 * A layer that was spread over its next by hand, `{ ...next, get }`, with what `delegate` does for others: what a lease
 * brings does not go past the reads that it replaces.
 */
export function seeingReads<T>(layer: Backend<T>, next: Backend<T>): Backend<T> {
  if (layer.acquire !== next.acquire || READS.every((name) => layer[name] === next[name])) return layer
  return delegate(layer, { acquire: reading((key, ms, options) => layer.acquire(key, ms, options)) }, true)
}

function reading<T>(acquire: Backend<T>['acquire']): Backend<T>['acquire'] {
  return (key, ms, options) =>
    andThen(acquire(key, ms, options), (acquired) => arriving(acquired, () => undefined))
}

/**
 * Changes every key on its way down: of entries, leases, and the names and clocks of a ledger that is still exposed.
 * Takes a function such as `sha256` or `whenLongerThan(200, sha1)`. Different keys must stay different.
 * @throws CorralError `ERR_OPTION` unless `mangler` is a function.
 */
export function mapKeys(mangler: KeyMangler): TransparentProxy {
  if (typeof mangler !== 'function')
    throw new CorralError(
      'ERR_OPTION',
      `Expected mapKeys() to receive a function from key to key, got ${formatValue(mangler)}.`,
    )
  const mangle = (key: string): string => {
    const mangled: unknown = mangler(key)
    if (typeof mangled === 'string') return mangled
    // Whatever else it is, different keys would meet in it.
    throw new CorralError(
      'ERR_KEY',
      `Expected a key mangler to return a string for '${key}', got ${formatValue(mangled)}.`,
    )
  }
  return <T>(next: Backend<T>) => {
    const ledger = next.ledger && mapNames(next.ledger, mangle)
    const down = (options: WriteOptions): WriteOptions =>
      ledger === undefined || options.ifCurrent === undefined
        ? options
        : { ...options, ifCurrent: ledger.down(options.ifCurrent.clock, options.ifCurrent.snapshot) }
    const layer: Overrides<T> = {
      get: (key) => next.get(mangle(key)),
      set: (key, value, options) => next.set(mangle(key), value, down(options)),
      delete: (key) => next.delete(mangle(key)),
      getMulti: (keys) => next.getMulti(keys.map((key) => mangle(key))),
      setMulti: (writes) =>
        next.setMulti(writes.map(([key, value, options]) => [mangle(key), value, down(options)])),
      deleteMulti: (keys) => next.deleteMulti(keys.map((key) => mangle(key))),
      acquire: (key, ms, options) => next.acquire(mangle(key), ms, options),
      renew: (key, token, ms) => next.renew(mangle(key), token, ms),
      release: (key, token) => next.release(mangle(key), token),
      held: (key) => next.held(mangle(key)),
      ledger: ledger?.ledger,
      tracker: next.tracker && {
        ...next.tracker,
        inspect: (key) => (next.tracker as Tracker).inspect(mangle(key)),
      },
    }
    return delegate(next, layer, true)
  }
}

/** A ledger seen through a key mangler. What is asked again and again is mapped once, by identity. */
function mapNames(ledger: Ledger, mangle: KeyMangler) {
  const lists = new WeakMap<readonly string[], readonly string[]>()
  const names = (list: readonly string[]): readonly string[] => {
    let mapped = lists.get(list)
    if (mapped === undefined) lists.set(list, (mapped = list.map((name) => mangle(name))))
    return mapped
  }
  const snapshots = new WeakMap<DependencySnapshot, DependencySnapshot>()
  const mapSnapshot = (snapshot: DependencySnapshot): DependencySnapshot => {
    let mapped = snapshots.get(snapshot)
    if (mapped === undefined) {
      mapped = {
        epoch: snapshot.epoch,
        groups: snapshot.groups.map((group) => ({ asOf: group.asOf, names: names(group.names) })),
      }
      snapshots.set(snapshot, mapped)
    }
    return mapped
  }
  let lastClock: string | undefined
  let lastMapped = ''
  const mapClock = (clock: string): string => {
    if (clock !== lastClock) [lastClock, lastMapped] = [clock, mangle(clock)]
    return lastMapped
  }
  return {
    down: (clock: string, snapshot: DependencySnapshot) => ({
      clock: mapClock(clock),
      snapshot: mapSnapshot(snapshot),
    }),
    ledger: {
      shared: ledger.shared,
      use: (clock) => ledger.use?.(mapClock(clock)),
      read: (clock, list) => ledger.read(mapClock(clock), names(list)),
      now: (clock, list) => ledger.now(mapClock(clock), names(list)),
      ...(ledger.unmoved !== undefined && {
        unmoved: (clock: string, snapshot: DependencySnapshot) =>
          (ledger.unmoved as NonNullable<Ledger['unmoved']>)(mapClock(clock), snapshot),
      }),
      judge: (clock, snapshot) => ledger.judge(mapClock(clock), mapSnapshot(snapshot)),
      invalidate: (clock, list, mode) => ledger.invalidate(mapClock(clock), names(list), mode),
    } satisfies Ledger,
  }
}

/** Changes every value on its way down and back up. What cannot be decoded is a miss, counted and reported. */
export function mapValues<Outer, Inner>(codec: Codec<Outer, Inner>): BackendProxy<Outer, Inner> {
  if (typeof codec?.encode !== 'function' || typeof codec.decode !== 'function')
    throw new CorralError(
      'ERR_OPTION',
      `Expected mapValues() to receive { encode, decode }, got ${formatValue(codec)}.`,
    )
  const layer = codec.name ?? 'codec'
  const decode = (stored: Inner | undefined, key: string): MaybePromise<Outer | undefined> => {
    if (stored === undefined) return undefined
    try {
      const value = codec.decode(stored, key)
      if (value === undefined) return reportUndecodable(layer, key, 'not in the form that this layer writes')
      if (!isPromise(value)) return value
      return value.then(
        (later) => later ?? reportUndecodable(layer, key, 'not in the form that this layer writes'),
        (error) => reportUndecodable(layer, key, 'decoding failed', error),
      )
    } catch (error) {
      return reportUndecodable(layer, key, 'decoding failed', error)
    }
  }
  return (next) => {
    checkFit(layer, codec.inner, next.stores)
    const encode = ([key, value, options]: Write<Outer>): MaybePromise<Write<Inner>> =>
      andThen(codec.encode(value, key), (inner) => [key, inner, options])
    return {
      name: next.name,
      get(key) {
        const stored = next.get(key)
        return isPromise(stored) ? mapLazily(stored, (later) => decode(later, key)) : decode(stored, key)
      },
      set: (key, value, options) =>
        andThen(codec.encode(value, key), (inner) => next.set(key, inner, options)),
      getMulti: (keys) =>
        andThen(next.getMulti(keys), (stored) => all(stored.map((one, i) => decode(one, keys[i] as string)))),
      setMulti: (writes) => andThen(mapEach(writes, encode), (encoded) => next.setMulti(encoded)),
      delete: (key) => next.delete(key),
      deleteMulti: (keys) => next.deleteMulti(keys),
      acquire: (key, ms, options) =>
        andThen(next.acquire(key, ms, options), (acquired) =>
          arriving(acquired, (stored) => decode(stored, key)),
        ),
      renew: (key, token, ms) => next.renew(key, token, ms),
      release: (key, token) => next.release(key, token),
      held: (key) => next.held(key),
      close: () => next.close(),
      ledger: next.ledger,
      tracker: next.tracker,
      reach: next.reach,
      stores: codec.outer,
      limits: next.limits,
      actual: next.actual,
    }
  }
}

function checkFit(
  layer: string,
  expected: Representation | undefined,
  found: Representation | undefined,
): void {
  if (expected === undefined || found === undefined || expected === found) return
  throw new CorralError(
    'ERR_CHAIN',
    expected === 'values'
      ? `${layer} works on values, but below it are bytes: put an encoding such as msgpack() below it.`
      : `${layer} works on bytes, but below it are values already: move it below the encoding, or drop it.`,
  )
}

/** Goes around every operation: to time, log, count, retry or refuse it. `proceed` may be called again. */
export function intercept(
  around: <R>(operation: Operation, proceed: () => MaybePromise<R>) => MaybePromise<R>,
): TransparentProxy {
  if (typeof around !== 'function')
    throw new CorralError(
      'ERR_OPTION',
      `Expected intercept() to receive a function, got ${formatValue(around)}.`,
    )
  return (next) => {
    const one = <R>(name: OperationName, key: string, proceed: () => MaybePromise<R>) =>
      around({ name, keys: [key] }, proceed)
    return delegate(next, {
      get: (key) => one('get', key, () => next.get(key)),
      set: (key, value, options) => one<Outcome>('set', key, () => next.set(key, value, options)),
      delete: (key) => one('delete', key, () => next.delete(key)),
      getMulti: (keys) => around({ name: 'getMulti', keys }, () => next.getMulti(keys)),
      setMulti: (writes) =>
        around({ name: 'setMulti', keys: writes.map(([key]) => key) }, () => next.setMulti(writes)),
      deleteMulti: (keys) => around({ name: 'deleteMulti', keys }, () => next.deleteMulti(keys)),
      acquire: (key, ms, options) => one('acquire', key, () => next.acquire(key, ms, options)),
      renew: (key, token, ms) => one('renew', key, () => next.renew(key, token, ms)),
      release: (key, token) => one('release', key, () => next.release(key, token)),
      held: (key) => one('held', key, () => next.held(key)),
    })
  }
}

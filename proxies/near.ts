import type { Backend, Outcome, Write, WriteOptions } from '../src/backend/backend.js'
import { type CachedValue, isCachedValue, type Metadata } from '../src/backend/cached-value.js'
import { delegate } from '../src/backend/delegate.js'
import { expectBackend } from '../src/backend/expect-backend.js'
import { mapAcquired } from '../src/backend/lease.js'
import { isCopy } from '../src/backend/near-cache.js'
import { cloned } from '../src/base/cloned.js'
import { failureLog, report } from '../src/base/diagnostics.js'
import { type Duration, milliseconds } from '../src/base/duration.js'
import { CorralError } from '../src/base/errors.js'
import { frozen } from '../src/base/frozen-value.js'
import {
  andThen,
  attempt,
  ignoreRejection,
  isPromise,
  type MaybePromise,
  mapLazily,
  orElse,
} from '../src/base/maybe-promise.js'
import { expectThat, rejectUnknownOptions } from '../src/base/options.js'
import { processGlobal } from '../src/base/process-global.js'
import { staleness } from '../src/base/staleness.js'
import { checkFit } from '../src/chain/map-values.js'
import type { BackendProxy } from '../src/chain/proxy.js'
import { wrap } from '../src/chain/wrap.js'
import { physicalLifetime } from '../src/freshness/freshness.js'
import { CHAIN_CLOCK } from '../src/ledger/ledger.js'
import { type CopyMark, LEAST_PUSHED, type LedgerTail } from '../src/ledger/tail.js'

/**
 * The bound of a near cache.
 * @example
 * ```ts
 * import type { NearOptions } from 'corral/proxies/near'
 *
 * export const oneSecond: NearOptions = { maxStaleness: '1s' }
 * ```
 */
export interface NearOptions {
  /**
   * How late an invalidation of another process may be seen here. A copy is served while the process has proof that is no older.
   * `0`: never late, for one small command in each tick. A number is ms.
   */
  readonly maxStaleness: Duration
  /**
   * While the store cannot be read: how long after its last proof a copy may still be served, as stale. An invalidation by another
   * process is not seen in that time. Longer than `maxStaleness`, which then is at least 100 ms. A number is ms. @default not at all
   */
  readonly staleWhileAway?: Duration
}

/**
 * Keeps copies of decoded values in a store of this process, in front of a store that processes share. An invalidation of this
 * process is seen at once, one of another process after at most `maxStaleness`, usually by a message. If the proof is older than
 * that, because a connection was lost or the process was stopped, reads go to the shared store. Leases, the ledger and all writes
 * are those of the shared store. Copies are frozen, unless the near store clones; a value with bytes in it, which cannot be frozen, is
 * copied for each read.
 *
 * Goes around the encoding and below `dependencies()`.
 * @example
 * ```ts
 * import { makeRegion, wrap } from 'corral'
 * import { memory } from 'corral/backends/memory'
 * import { redis } from 'corral/backends/redis'
 * import { dependencies } from 'corral/proxies/dependencies'
 * import { msgpack } from 'corral/proxies/msgpack'
 * import { near } from 'corral/proxies/near'
 *
 * const copies = near(memory({ maxEntries: 10_000 }), { maxStaleness: '1s' })
 * const users = makeRegion<string>({
 *   name: 'users',
 *   backend: wrap(redis('redis://localhost:6379'), msgpack(), copies, dependencies()),
 * })
 * ```
 * @throws CorralError `ERR_OPTION`; `ERR_CHAIN` over bytes, above `dependencies()`, over another near cache, over a store that cannot
 * tell what changed in it, and for a near store that is shared, encodes, or has another near cache's copies.
 */
export function near(store: Backend<CachedValue>, options: NearOptions): BackendProxy<CachedValue> {
  const copies = expectBackend(
    store,
    'near() to receive a backend such as memory() for the copies',
  ) as Backend<CachedValue>
  rejectUnknownOptions(options, ['maxStaleness', 'staleWhileAway'], 'near()')
  expectThat(
    options.maxStaleness !== undefined,
    options.maxStaleness,
    '`maxStaleness` of near()',
    "Say how late an invalidation of another process may be seen, such as '1s'; 0 for never.",
  )
  const maxStaleness = staleness(options.maxStaleness)
  const blindFor = blindTime(options, maxStaleness)
  checkFit('near()', 'values', copies.stores)
  return (next) => {
    const tail = tailUnder(next)
    takeStore(copies)
    return nearLayer(copies, next, tail, { maxStaleness, blindFor })
  }
}

/** ms for which copies are served as stale; 0: never. An option that could change nothing is refused. */
function blindTime({ staleWhileAway }: NearOptions, maxStaleness: number): number {
  if (staleWhileAway === undefined) return 0
  expectThat(
    maxStaleness >= LEAST_PUSHED,
    maxStaleness,
    `\`maxStaleness\` of near() to be at least ${LEAST_PUSHED} ms with \`staleWhileAway\``,
    'Below that every read asks the store for its proof, and fails while the store is away.',
  )
  const ms = milliseconds(staleWhileAway, 'staleWhileAway')
  expectThat(
    ms > maxStaleness && ms < Number.POSITIVE_INFINITY,
    staleWhileAway,
    '`staleWhileAway` of near() to be finite, and longer than `maxStaleness`',
    "Say how old the last proof may be, such as '10m'.",
  )
  return ms
}

/**
 * The short form of `wrap(far, near(store, options))`: copies in front of a store that processes share.
 * @example
 * ```ts
 * import { makeRegion, wrap } from 'corral'
 * import { memory } from 'corral/backends/memory'
 * import { redis } from 'corral/backends/redis'
 * import { dependencies } from 'corral/proxies/dependencies'
 * import { msgpack } from 'corral/proxies/msgpack'
 * import { tiers } from 'corral/proxies/near'
 *
 * const far = wrap(redis('redis://localhost:6379'), msgpack())
 * const backend = wrap(tiers(memory({ maxEntries: 10_000 }), far, { maxStaleness: '1s' }), dependencies())
 * const users = makeRegion<string>({ name: 'users', backend })
 * ```
 * @throws CorralError as `near` does.
 */
export function tiers(
  store: Backend<CachedValue>,
  far: Backend<CachedValue>,
  options: NearOptions,
): Backend<CachedValue> {
  return wrap(far, near(store, options))
}

function tailUnder({ name, stores, tracker, ledger, near: other }: Backend<CachedValue>): LedgerTail {
  checkFit('near()', 'values', stores)
  if (tracker !== undefined)
    refuse(
      'near() above dependencies()',
      'It keeps copies of values that were judged already: put it below, wrap(backend, near(…), dependencies()).',
    )
  if (other !== undefined) refuse('near() over another near()', 'Drop one of them.')
  const tail = ledger?.open(CHAIN_CLOCK).tail?.()
  if (tail === undefined)
    refuse(
      `near() over '${name}'`,
      'This store cannot tell which of its values were invalidated. Use redis(), lmdb() or memory() below near().',
    )
  return tail
}

function refuse(got: string, remedy: string): never {
  throw new CorralError(
    'ERR_CHAIN',
    `Expected a chain in which copies can be kept current, got ${got}. ${remedy}`,
  )
}

/** The stores of near caches, for all copies of the package. */
const taken = processGlobal('near stores', () => new WeakSet<object>())

/** Copies are judged by the changes of one chain, in one process. */
function takeStore({ name, actual, ledger, capture }: Backend<CachedValue>): void {
  if (ledger?.shared === true)
    refuse(
      `copies in '${name}', which processes share`,
      'Give near() a store of this process, such as memory().',
    )
  if (capture !== undefined)
    refuse(
      `copies in an encoded '${name}'`,
      'Each hit would decode its value, and the encoding loses the mark by which a copy is judged. Give near() a store of values, such as memory().',
    )
  if (taken.has(actual))
    refuse(
      `copies of two chains in one '${name}'`,
      'They would be mixed up: give each near() a store of its own.',
    )
  taken.add(actual)
}

/** ms. A copy whose own lifetime is unknown is read again from time to time, so that it leaves the near store some day. */
const COPY_LIFE = 3_600_000

/** The way in which the reads that run at present treat copies. */
interface Scope {
  readonly trusts: boolean
  /** The reads that it is for; absent: all. */
  readonly keys?: KeyList
  /** Those of them that have not come to this layer. */
  readonly missing?: Set<string>
}

/** A few keys are looked through; a set of them costs more. */
type KeyList = Pick<ReadonlySet<string>, 'has'>
const FEW = 8

function listOf(keys: readonly string[]): KeyList {
  return keys.length > FEW ? new Set(keys) : { has: (key) => keys.includes(key) }
}

interface FarRead {
  readonly key: string
  /** Its place among the changes. */
  readonly since: number
  /** Its place among the reads of this layer. */
  readonly order: number
}

/** Keys whose latest answered read is remembered, unless one call reads more of them. */
const ANSWERED = 8_192

/**
 * Which reads of the store came with which outcome last, so that no copy is older than a value that a caller got. A key may have
 * a newer value without a recorded change: it was renewed. The latest value is known to be that of the read that was sent last,
 * if it was answered last too.
 */
class ReadOrder {
  #latest = 0
  /** Reads that were sent up to here are no longer remembered. */
  #floor = 0
  /** Of each key, the order of the latest read that was answered, or from which on reads may be compared again. */
  readonly #answered = new Map<string, number>()
  #most = ANSWERED

  /** For reads of one call, which are all answered before any of them is judged. */
  makeRoom(reads: number): void {
    this.#most = Math.max(this.#most, 2 * reads)
  }

  next(): number {
    return ++this.#latest
  }

  answered({ key, order }: FarRead): void {
    const answered = this.#answered
    const last = answered.get(key) ?? this.#floor
    answered.delete(key)
    // Overtaken by a later read: layers below may pass replies on in another order, and it is unknown which value is newer.
    answered.set(key, order > last ? order : this.next())
    if (answered.size <= this.#most) return
    let excess = this.#most / 2
    for (const [other, at] of answered) {
      if (excess-- <= 0) break
      answered.delete(other)
      this.#floor = Math.max(this.#floor, at)
    }
  }

  /** Whether no caller can have got a newer value of the key than the one of this read. */
  isLatest({ key, order }: FarRead): boolean {
    return this.#answered.get(key) === order
  }
}

/** In ms. */
interface Bounds {
  readonly maxStaleness: number
  /** 0: never. */
  readonly blindFor: number
}

function nearLayer(
  store: Backend<CachedValue>,
  next: Backend<CachedValue>,
  tail: LedgerTail,
  bounds: Bounds,
): Backend<CachedValue> {
  const { maxStaleness, blindFor } = bounds
  const layer = new NearLayer(store, next, tail, bounds)
  return delegate(
    next,
    {
      get: (key) => layer.get(key),
      getMulti: (keys) => layer.getMulti(keys),
      set: (key, value, options) => layer.set(key, value, options),
      setMulti: (writes) => layer.setMulti(writes),
      acquire(key, ms, options) {
        const brought = (value: CachedValue | undefined) => layer.brought(key, value)
        return andThen(next.acquire(key, ms, options), (acquired) =>
          mapAcquired(acquired, ({ found }) => brought(found), brought),
        )
      },
      delete(key) {
        layer.drop(key)
        return next.delete(key)
      },
      deleteMulti(keys) {
        for (const key of keys) layer.drop(key)
        return next.deleteMulti(keys)
      },
      // The near cache looks for a copy first, which costs less than any step of the store.
      ifAbsentFrom: undefined,
      near: {
        maxStaleness,
        proved: (keys, read, within = maxStaleness) => layer.proved(keys, read, within),
        keep: (entry) => layer.keep(entry),
        proofAge: () => tail.proofAge(),
        beyond: (read) => layer.within({ trusts: false }, read),
      },
      limits: [
        ...(next.limits ?? []),
        ...(maxStaleness > 0
          ? [
              `Processes keep copies of values: an invalidation by another process is seen after at most ${maxStaleness} ms, usually at once.`,
            ]
          : []),
        ...(blindFor > 0
          ? [
              `While the store is away, copies are served as stale up to ${blindFor} ms after their last proof.`,
            ]
          : []),
        'Copies do not see changes that another program makes in the store, past Corral.',
      ],
      close() {
        layer.close()
        return andThen(store.close(), () => next.close())
      },
    },
    true,
  )
}

class NearLayer {
  readonly #failures = failureLog()
  readonly #order = new ReadOrder()
  /** Entries that came from the store, until they are judged. */
  readonly #unjudged = new WeakMap<CachedValue, FarRead>()
  /** Whether callers get the very payloads that the near store has. */
  readonly #shares: boolean
  #scope: Scope | undefined
  /** Leaves the tail. Set by the first read that can bring a copy, since to join opens a connection. */
  #leave: (() => void) | undefined
  #closed = false
  #toldOfWaiting = false

  constructor(
    private readonly store: Backend<CachedValue>,
    private readonly next: Backend<CachedValue>,
    private readonly tail: LedgerTail,
    private readonly bounds: Bounds,
  ) {
    const probe: CachedValue = { payload: {}, metadata: { startedAt: 0, createdAt: 0 } }
    this.#shares = store.copyOut === undefined || store.copyOut(probe).payload === probe.payload
  }

  close(): void {
    this.#closed = true
    this.#leave?.()
  }

  get(key: string): MaybePromise<CachedValue | undefined> {
    if (!this.#mayServe(key)) return this.#far(key)
    const copy = this.#copyOf(key)
    if (isPromise(copy))
      return copy.then((later) => (this.#stands(later, key) ? forCaller(later) : this.#far(key)))
    return this.#stands(copy, key) ? forCaller(copy) : this.#far(key)
  }

  getMulti(keys: readonly string[]): MaybePromise<readonly (CachedValue | undefined)[]> {
    const mayServe = keys.map((key) => this.#mayServe(key))
    const copies = mayServe.includes(true) ? this.#copiesOf(keys) : []
    return andThen(copies, (found) => {
      const results = keys.map((key, i) => {
        const copy = found[i]
        return mayServe[i] && this.#stands(copy, key) ? forCaller(copy) : undefined
      })
      const missing = [...keys.keys()].filter((i) => results[i] === undefined)
      if (missing.length === 0) return results
      this.#order.makeRoom(missing.length)
      const reads = missing.map((i) => this.#begin(keys[i] as string))
      const wanted = Object.freeze(reads.map(({ key }) => key))
      const far = () =>
        andThen(this.next.getMulti(wanted), (values) =>
          values.map((value, at) => this.#note(value, reads[at] as FarRead)),
        )
      return andThen(this.#orBlind(wanted, far), (values) => {
        missing.forEach((i, at) => {
          results[i] = values[at]
        })
        return results
      })
    })
  }

  #copiesOf(keys: readonly string[]): MaybePromise<readonly (CachedValue | undefined)[]> {
    return orElse(
      () => this.store.getMulti(keys),
      (error) => {
        this.#failed(keys[0] as string, error)
        return []
      },
    )
  }

  set(...[key, value, options]: Write<CachedValue>): MaybePromise<Outcome> {
    this.drop(key)
    return andThen(this.next.set(key, value, options), (outcome) => this.#written(key, options, outcome))
  }

  setMulti(writes: readonly Write<CachedValue>[]): MaybePromise<readonly Outcome[]> {
    for (const [key] of writes) this.drop(key)
    return andThen(this.next.setMulti(writes), (outcomes) => {
      for (const [i, [key, , options]] of writes.entries())
        this.#written(key, options, outcomes[i] as Outcome)
      return outcomes
    })
  }

  drop(key: string): void {
    void ignoreRejection(attempt(() => this.store.delete(key)))
  }

  proved<R>(keys: readonly string[], read: () => MaybePromise<R>, within: number): MaybePromise<R> {
    if (this.#isSettled(keys) || this.tail.isProven(within)) return read()
    // A read that no copy can serve needs no proof. Without keys the proof itself is wanted.
    if (keys.length > 0 && !keys.some((key) => this.#mayHold(key))) return this.#passingBy(keys, read)
    return andThen(this.tail.prove(), (isProven) =>
      isProven ? this.#trusting(keys, read) : this.#passingBy(keys, read),
    )
  }

  /** Whether a call around this one has said how these keys are read: with its proof, or past all copies. */
  #isSettled(keys: readonly string[]): boolean {
    const scope = this.#scope
    if (scope === undefined || scope.trusts) return scope !== undefined
    return keys.length > 0 && keys.every((key) => scope.keys?.has(key) !== false)
  }

  /** Whether the near store has something for a key, or says it later. */
  #mayHold(key: string): boolean {
    const copy = this.#copyOf(key)
    void ignoreRejection(copy)
    return copy !== undefined
  }

  /** A near store that fails has no copy. */
  #copyOf(key: string): MaybePromise<CachedValue | undefined> {
    try {
      const copy = this.store.get(key)
      // Without a function for nearly every hit.
      return isPromise(copy) ? copy.catch((error: unknown) => this.#failed(key, error)) : copy
    } catch (error) {
      return this.#failed(key, error)
    }
  }

  within<R>(scope: Scope, read: () => R): R {
    const before = this.#scope
    this.#scope = scope
    try {
      return read()
    } finally {
      this.#scope = before
    }
  }

  #trusting<R>(keys: readonly string[], read: () => R): R {
    return this.within({ trusts: true, keys: listOf(keys) }, read)
  }

  /** A layer that waits before it passes the read of a key on loses the scope. The read is then repeated under a proof. */
  #passingBy<R>(keys: readonly string[], read: () => MaybePromise<R>): MaybePromise<R> {
    const missing = new Set(keys)
    const result = this.within({ trusts: false, keys: listOf(keys), missing }, read)
    if (missing.size === 0) return result
    if (isPromise(result)) this.#tellOfWaiting()
    void ignoreRejection(result)
    return andThen(this.tail.prove(), (isProven) => {
      if (isProven) return this.#trusting(keys, read)
      // Without a proof no copy is an answer, also not one that the chain's own bound would let pass.
      for (const key of keys) this.drop(key)
      return read()
    })
  }

  /** Such a layer costs each strong read one more round trip, and no copy serves it. */
  #tellOfWaiting(): void {
    if (this.#toldOfWaiting) return
    this.#toldOfWaiting = true
    report('notice', () => ({
      where: 'near()',
      message:
        'A layer above near() waits before it passes reads on, so that no copy serves a read with `maxStaleness: 0`. Put that layer below near().',
    }))
  }

  /** Whether a copy may serve the present read. */
  #mayServe(key: string): boolean {
    const scope = this.#scope
    if (scope !== undefined && (scope.keys === undefined || scope.keys.has(key))) {
      scope.missing?.delete(key)
      return scope.trusts
    }
    const { maxStaleness } = this.bounds
    if (this.tail.isProven(maxStaleness)) return true
    // This read goes to the store. The proof is for later ones.
    if (maxStaleness > 0) this.tail.catchUp()
    return false
  }

  #stands(copy: CachedValue | undefined, key: string): copy is CachedValue {
    if (copy === undefined) return false
    if (isCopy(copy)) return this.tail.keyStands(key, copy.metadata.near as CopyMark)
    const got = `Expected the copy of '${key}' as it was stored, got one without its mark from the near store '${this.store.name}'.`
    this.#failed(
      key,
      new CorralError('ERR_CHAIN', `${got} Give near() a store of objects, such as memory().`),
    )
    return false
  }

  #begin(key: string): FarRead {
    if (!this.#closed) this.#leave ??= this.tail.join(this.bounds.maxStaleness)
    return { key, since: this.tail.place(key), order: this.#order.next() }
  }

  #far(key: string): MaybePromise<CachedValue | undefined> {
    // The place is taken before the read is sent: changes that become known meanwhile keep its reply from becoming a copy.
    const read = this.#begin(key)
    const far = () => mapLazily(this.next.get(key), (found, about) => this.#note(found, about), read)
    return this.bounds.blindFor === 0
      ? far()
      : andThen(
          this.#orBlind([key], () => andThen(far(), (found) => [found])),
          ([found]) => found,
        )
  }

  /** Serves copies as stale where the store fails, if there is one of each key. A read that wants a proof gets none of them. */
  #orBlind(
    keys: readonly string[],
    read: () => MaybePromise<readonly (CachedValue | undefined)[]>,
  ): MaybePromise<readonly (CachedValue | undefined)[]> {
    if (this.bounds.blindFor === 0 || this.#scope !== undefined) return read()
    return orElse(read, (error) =>
      andThen(this.#copiesOf(keys), (copies) =>
        keys.map((key, i) => {
          const copy = copies[i]
          if (this.tail.proofAge() > this.bounds.blindFor || !this.#stands(copy, key)) throw error
          const { payload, metadata } = forCaller(copy)
          return { payload, metadata: { ...metadata, stale: true, blind: true } }
        }),
      ),
    )
  }

  /** Drops the copy, so that reads never go back: the value that was read may be stale, and then becomes no copy. */
  #note(found: CachedValue | undefined, read: FarRead): CachedValue | undefined {
    this.#order.answered(read)
    if (isCachedValue(found)) this.#unjudged.set(found, read)
    this.drop(read.key)
    return found
  }

  keep(entry: CachedValue): void {
    const read = this.#unjudged.get(entry)
    if (read === undefined) return
    this.#unjudged.delete(entry)
    const { key, since } = read
    const { payload, metadata } = entry
    try {
      let hasBytes = false
      // A store that copies its values needs none that are frozen.
      if (this.#shares)
        frozen(payload, () => {
          hasBytes = true
        })
      if (!this.#order.isLatest(read)) return
      if (!this.tail.admits(key, since)) {
        this.drop(key)
        return
      }
      const copy = {
        payload: hasBytes ? cloned(payload) : payload,
        metadata: { ...metadata, near: new Mark(since, hasBytes) },
      }
      const done = this.store.set(key, copy, lifeOf(metadata, this.bounds.blindFor))
      if (isPromise(done)) done.catch((error: unknown) => this.#failed(key, error))
    } catch (error) {
      this.#failed(key, error)
    }
  }

  #failed(key: string, error: unknown): undefined {
    this.#failures.failed(() => ({ where: 'near()', key, error }))
    this.drop(key)
    return undefined
  }

  /** Notes that a caller gets a value with a lease, or with the message that ends it: it is newer than any copy. */
  brought(key: string, value: CachedValue | undefined): CachedValue | undefined {
    if (value !== undefined) this.tail.filled(key)
    return value
  }

  /** Reads that were under way while this process stored a value may have brought the older one. */
  #written(key: string, { token }: WriteOptions, outcome: Outcome): Outcome {
    if (token !== undefined && outcome === 'stored') this.tail.filled(key)
    return outcome
  }
}

/** Its fields are private, because a store may freeze its entries. */
class Mark implements CopyMark {
  #key: number
  #names: number

  /** @param hasBytes - whether the payload has parts that cannot be frozen */
  constructor(
    readonly place: number,
    readonly hasBytes: boolean,
  ) {
    this.#key = place
    this.#names = place
  }

  get key(): number {
    return this.#key
  }

  set key(place: number) {
    this.#key = place
  }

  get names(): number {
    return this.#names
  }

  set names(place: number) {
    this.#names = place
  }
}

/** A copy as a caller gets it, who must not be able to change it for others. */
function forCaller(copy: CachedValue): CachedValue {
  const { payload, metadata } = copy
  return (metadata.near as Partial<Mark>).hasBytes ? { payload: frozen(cloned(payload)), metadata } : copy
}

/** Longer by the time in which no read can bring a copy again. */
function lifeOf({ expiresIn }: Metadata, blindFor: number): WriteOptions {
  const { ttl } = expiresIn === undefined ? { ttl: COPY_LIFE } : physicalLifetime(expiresIn)
  return ttl === undefined ? {} : { ttl: ttl + blindFor }
}

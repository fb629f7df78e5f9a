import type { Backend, Outcome, Write, WriteOptions } from '../../src/backend/backend.js'
import { type CachedValue, isCachedValue } from '../../src/backend/cached-value.js'
import { layerOver } from '../../src/backend/delegate.js'
import { mapAcquired } from '../../src/backend/lease.js'
import { isCopy } from '../../src/backend/near-cache.js'
import { cloned } from '../../src/base/cloned.js'
import { failureLog, report } from '../../src/base/diagnostics.js'
import { CorralError } from '../../src/base/errors.js'
import { frozen } from '../../src/base/frozen-value.js'
import {
  andThen,
  attempt,
  ignoreRejection,
  isPromise,
  type MaybePromise,
  mapLazily,
  orElse,
} from '../../src/base/maybe-promise.js'
import type { CopyMark, LedgerTail } from '../../src/ledger/tail.js'
import { forCaller, lifeOf, Mark } from './copies.js'
import { type FarRead, ReadOrder } from './read-order.js'

/** In ms. */
export interface Bounds {
  readonly maxStaleness: number
  /** 0: never. */
  readonly blindFor: number
}

/** A store with copies in front of it. */
export function nearLayer(
  store: Backend<CachedValue>,
  next: Backend<CachedValue>,
  tail: LedgerTail,
  bounds: Bounds,
): Backend<CachedValue> {
  const { maxStaleness, blindFor } = bounds
  const layer = new NearLayer(store, next, tail, bounds)
  return layerOver(
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
    if (scope === undefined) return false
    return scope.trusts || (keys.length > 0 && keys.every((key) => scope.keys?.has(key) !== false))
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

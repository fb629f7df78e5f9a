import type { Backend, Outcome, WriteOptions } from '../src/backend/backend.js'
import type { CachedValue } from '../src/backend/cached-value.js'
import { layerOver } from '../src/backend/delegate.js'
import { preciseClock, stampsOf } from '../src/base/clock.js'
import { report } from '../src/base/diagnostics.js'
import { type Duration, milliseconds } from '../src/base/duration.js'
import { CorralError } from '../src/base/errors.js'
import { frozenCopy } from '../src/base/frozen.js'
import { andThen, type MaybePromise, mapEach, mapLazily, orElse } from '../src/base/maybe-promise.js'
import { expectMethods, expectText, ownOptions, rejectUnknownOptions } from '../src/base/options.js'
import { checkFit } from '../src/chain/map-values.js'
import type { BackendProxy } from '../src/chain/proxy.js'
import { bindLedger, type InvalidationMode, type Ledger, type OpenLedger } from '../src/ledger/ledger.js'
import type { DependencySnapshot, LedgerTime } from '../src/ledger/snapshot.js'
import type { Bus } from '../src/signals/bus.js'
import { type Body, isNames, link, portions } from '../src/signals/bus-link.js'

/**
 * The place of a store on its bus.
 * @example
 * ```ts
 * import type { BroadcastOptions } from 'corral/proxies/broadcast'
 *
 * export const ofUsers: BroadcastOptions = { name: 'users', timeout: '1s' }
 * ```
 */
export interface BroadcastOptions {
  /** Tells the store from others on the same bus; the same in all processes. */
  readonly name: string
  /** For a message to be taken by the bus. @default '5s' */
  readonly timeout?: Duration | undefined
}

/** Marks the tokens of stolen leases: their fills replace a value that other processes may have. */
const STOLEN = 'stolen:'

/**
 * Joins the stores that processes have of their own, such as `memory()`: if one of them deletes, sets or
 * invalidates a value, the others drop it. Goes directly around the backend or its encoding, below `dependencies()`. While messages may be lost
 * reads are misses and nothing is stored; afterwards everything older is gone.
 * @example
 * ```ts
 * import { makeRegion, wrap } from 'corral'
 * import { memory } from 'corral/backends/memory'
 * import { redisBus } from 'corral/backends/redis'
 * import { broadcast } from 'corral/proxies/broadcast'
 * import { dependencies } from 'corral/proxies/dependencies'
 *
 * const bus = redisBus('redis://localhost:6379', { channel: 'caches' })
 * const backend = wrap(memory(), broadcast(bus, { name: 'users' }), dependencies())
 * const users = makeRegion<string>({ name: 'users', backend })
 * ```
 * @throws CorralError `ERR_OPTION`; `ERR_CHAIN` over bytes, above `dependencies()`, or over a store that processes share.
 * Invalidations reject with `ERR_BUS` when they were done here but could not be told.
 */
export function broadcast(bus: Bus, options: BroadcastOptions): BackendProxy<CachedValue> {
  options = ownOptions(options)
  expectMethods(bus, ['publish', 'subscribe'], 'broadcast() to receive a bus, such as redisBus()')
  rejectUnknownOptions(options, ['name', 'timeout'], 'broadcast()')
  const { name } = options
  expectText(name, '`name` of broadcast()', 'a text, by which the same stores of other processes are known')
  const timeout = milliseconds(options.timeout ?? '5s', 'timeout')

  return (next) => {
    checkPlace(next)
    const peers = joinPeers(next, bus, name, timeout)
    const { others, epochs, drop, current } = peers

    return layerOver(next, {
      get(key) {
        if (!others.live()) return undefined
        return mapLazily(next.get(key), current)
      },
      getMulti: (keys) =>
        others.live()
          ? andThen(next.getMulti(keys), (found) => found.map(current))
          : keys.map(() => undefined),
      set: writing(next, peers),
      delete: (key) => andThen(next.delete(key), () => drop([key])),
      deleteMulti(given) {
        const keys = frozenCopy(given)
        return andThen(next.deleteMulti(keys), () => drop(keys))
      },
      acquire: (key, ms, how) =>
        andThen(next.acquire(key, ms, how), (acquired) =>
          acquired.token === undefined
            ? acquired
            : {
                ...acquired,
                ...(how?.steal === true && { token: `${STOLEN}${acquired.token}` }),
                ...(acquired.asOf !== undefined && { asOf: epochs.tag(acquired.asOf) }),
              },
        ),
      renew: (key, token, ms) => next.renew(key, token.replace(STOLEN, ''), ms),
      release: (key, token, failure) => next.release(key, token.replace(STOLEN, ''), failure),
      ledger: next.ledger && ledgerWith(next.ledger, epochs, others.live, others.send),
      limits: [
        ...(next.limits ?? []),
        `Each process has a store of its own: one creator at a time in each. An invalidation reaches the others by a message, and until it has arrived they may serve what is older.`,
      ],
      close: async () => {
        await others.close()
        await next.close()
      },
    })
  }
}

type Peers = ReturnType<typeof joinPeers>

/** Carries out the messages of the other processes, and sends them those of this one. */
function joinPeers(next: Backend<CachedValue>, bus: Bus, name: string, timeout: number) {
  const stamp = stampsOf(next.actual)
  /** Work that began before this moment is older than messages that may have been missed. */
  let floor = 0
  let period = crypto.randomUUID()
  const forgetAll = (why: string) => {
    floor = stamp(preciseClock.now())
    period = crypto.randomUUID()
    report('notice', () => ({
      where: `broadcast: ${name}`,
      message: `Everything older is dropped, because invalidations may have been missed: ${why}.`,
    }))
  }
  /** A message that cannot be carried out counts as lost. */
  const obey = (work: () => MaybePromise<unknown>) => {
    const failed = (error: unknown) => {
      report('failure', () => ({ where: `broadcast: ${name}`, error }))
      forgetAll('an invalidation of another process failed here')
    }
    void orElse(work, failed)
  }
  const others = link({
    bus,
    timeout,
    address: `broadcast:${name}`,
    onGap: forgetAll,
    onMessage(body) {
      const order = orderIn(body)
      if (order === undefined) return false
      if (order.do === 'drop') obey(() => next.deleteMulti(order.keys))
      else obey(() => next.ledger?.open(order.clock).invalidate(order.names, order.mode))
      return true
    },
  })
  const drop = (keys: readonly string[]) =>
    sendAll(keys, (portion) => others.send({ do: 'drop', keys: portion }))
  const current = (found: CachedValue | undefined): CachedValue | undefined => {
    // The region reports values that are no cached values.
    const begun = (found as CachedValue | null | undefined)?.metadata?.startedAt
    return begun !== undefined && begun <= floor ? undefined : found
  }
  const epochs = tagged(() => period)
  return { others, epochs, drop, current, floor: () => floor }
}

/** Fills are private to this process, unless they replace a value that other processes may have. */
function writing(
  next: Backend<CachedValue>,
  { others, epochs, drop, floor }: Peers,
): Backend<CachedValue>['set'] {
  return (key, value, given) => {
    const { token: marked, ifCurrent, ...rest } = given
    const token = marked?.replace(STOLEN, '')
    const tell = (outcome: Outcome) =>
      marked === undefined || (marked !== token && outcome === 'stored')
        ? andThen(drop([key]), () => outcome)
        : outcome
    const refuse = (fate: Outcome): MaybePromise<Outcome> =>
      token === undefined
        ? andThen(next.delete(key), () => tell('refused'))
        : andThen(next.release(key, token), () => fate)
    if (!others.live() || value.metadata.startedAt <= floor()) return refuse('lost')
    const snapshot = ifCurrent && epochs.without(ifCurrent.snapshot)
    if (ifCurrent !== undefined && snapshot === undefined) return refuse('refused')
    const options: WriteOptions = {
      ...rest,
      ...(token !== undefined && { token }),
      ...(snapshot && { ifCurrent: { ...ifCurrent, snapshot } }),
    }
    return andThen(next.set(key, value, options), tell)
  }
}

/** Sends names in portions. Done when the bus took all of them. */
function sendAll(
  names: readonly string[],
  send: (portion: readonly string[]) => MaybePromise<void>,
): MaybePromise<void> {
  return andThen(mapEach(portions(names), send), () => undefined)
}

function checkPlace({ name, stores, tracker, ledger }: Backend<CachedValue>): void {
  checkFit('broadcast()', 'values', stores)
  if (tracker !== undefined)
    throw new CorralError(
      'ERR_CHAIN',
      'broadcast() has to hear of what is invalidated: put it below dependencies(), wrap(memory(), broadcast(…), dependencies()).',
    )
  if (ledger?.shared === true)
    throw new CorralError(
      'ERR_CHAIN',
      `Backend '${name}' is shared by processes already. broadcast() is for stores that each process has of its own; to hear of invalidations use relay().`,
    )
}

type Order =
  | { readonly do: 'drop'; readonly keys: readonly string[] }
  | {
      readonly do: 'stamp'
      readonly clock: string
      readonly names: readonly string[]
      readonly mode: InvalidationMode
    }

function orderIn(body: Body): Order | undefined {
  if (body.do === 'drop' && isNames(body.keys)) return { do: 'drop', keys: body.keys }
  const { clock, names, mode } = body
  if (body.do !== 'stamp' || typeof clock !== 'string' || !isNames(names)) return undefined
  return mode === 'hard' || mode === 'soft' ? { do: 'stamp', clock, names, mode } : undefined
}

type Tagged = ReturnType<typeof tagged>

/** Makes the epochs of a ledger end with the period too: entries of a former epoch are invalid. */
function tagged(period: () => string) {
  const known = new WeakMap<DependencySnapshot, { readonly of: string; readonly plain: DependencySnapshot }>()
  let inner = ''
  let last: { readonly of: string; readonly plain: LedgerTime; readonly time: LedgerTime } | undefined
  const tag = (plain: LedgerTime): LedgerTime => {
    const of = period()
    // Every hit asks for the time, so the text of its epoch is kept.
    if (last?.plain === plain && last.of === of) return last.time
    inner = plain.epoch
    const time = { epoch: `${of}/${inner}`, at: plain.at }
    last = { of, plain, time }
    return time
  }
  /** The snapshot in the ledger's own terms, if it is of this period. Every hit asks, so the answer is kept. */
  const without = (snapshot: DependencySnapshot): DependencySnapshot | undefined => {
    const now = period()
    const before = known.get(snapshot)
    if (before?.of === now) return before.plain
    const { epoch } = snapshot
    if (typeof epoch !== 'string' || !epoch.startsWith(now)) return undefined
    const own = epoch.slice(now.length + 1)
    // The very text that the ledger has is compared at once.
    const plain = { ...snapshot, epoch: own === inner ? inner : own }
    known.set(snapshot, { of: now, plain })
    return plain
  }
  return { tag, without }
}

function ledgerWith(
  ledger: Ledger,
  { tag, without }: Tagged,
  live: () => boolean,
  send: (body: Body) => MaybePromise<void>,
): Ledger {
  // Other processes hear of its names, so regions need names of their own.
  return {
    shared: true,
    open(clock) {
      const below = bindLedger(ledger.open(clock))
      const { time, restore } = below
      return {
        ...below,
        // It would not know that messages may have been lost.
        tail: undefined,
        // Other processes would have to keep the marks, too.
        pending: undefined,
        // Asked about an entry that was just read, and nothing is read while messages may be lost.
        ...(time !== undefined && {
          time: () => {
            const now = live() ? time() : undefined
            return now && tag(now)
          },
        }),
        read: (names) =>
          live()
            ? andThen(below.read(names), (reading) => ({ ...reading, now: reading.now && tag(reading.now) }))
            : { now: undefined, stamps: names.map(() => undefined) },
        now: (names) => andThen(below.now(names), tag),
        ...(restore !== undefined && {
          restore: (snapshot: DependencySnapshot) => {
            const plain = live() ? without(snapshot) : undefined
            return plain === undefined ? 'invalid' : restore(plain)
          },
        }),
        invalidate(given, mode) {
          const names = frozenCopy(given)
          return andThen(below.invalidate(names, mode), () =>
            sendAll(names, (portion) => send({ do: 'stamp', clock, names: portion, mode })),
          )
        },
      } satisfies OpenLedger
    },
  }
}

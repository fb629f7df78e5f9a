/** The stores of this process and the regions over them, those of other copies of the package included. */
import type { Backend } from '../backend/backend.js'
import type { CachedValue } from '../backend/cached-value.js'
import { reportOnce } from '../base/diagnostics.js'
import { attempt, ignoreRejection, isPromise, type MaybePromise } from '../base/maybe-promise.js'
import { rejectOptions } from '../base/options.js'
import { processGlobal } from '../base/process-global.js'
import type { ServingOptions } from '../creation/types.js'
import { type CallsUnderWay, callsUnderWay } from './calls.js'
import { type InvalidationMarks, marksAfter, noMarks } from './region-invalidator.js'
import type { InvalidationCount } from './remembered-errors.js'
import { type StatsKeeper, statsKeeper } from './stats.js'

/** The parts of a region that outlive its configurations. */
export interface Identity {
  /** The name that invalidates everything in the region. */
  readonly own: string
  /** The text before each of its keys; empty for a region that is alone over its store. */
  readonly prefix: string
  readonly name: string | undefined
  /** Whether the region says that it shares its entries, and with which others. */
  readonly sharing: boolean
  /** Its invalidations in this process, for stores without a ledger. */
  marks: InvalidationMarks
  readonly stats: StatsKeeper
  /** The options of functions that were declared before the region was configured. */
  readonly declared: Set<ServingOptions>
}

const count = processGlobal('regions', () => ({ unnamed: 0 }))

/** A region's entries are its own: its keyspace, by default its name, is in front of every key. */
export function identify(name: string | undefined, shared: string | undefined): Identity {
  const keyspace = shared ?? name
  return {
    own: `region:${keyspace ?? `~${++count.unnamed}`}`,
    prefix: keyspace === undefined ? '' : `${escaped(keyspace)}:`,
    name,
    sharing: shared !== undefined,
    marks: noMarks(),
    stats: statsKeeper(),
    declared: new Set(),
  }
}

/**
 * A keyspace in which no character ends it, opens a hash tag of Redis Cluster, or begins like the bookkeeping of a store.
 * Different keyspaces stay different.
 */
function escaped(keyspace: string): string {
  return keyspace.replace(/[%:{}]|^~/g, (found) => `%${found.charCodeAt(0).toString(16)}`)
}

interface Use {
  readonly identity: Identity
  /** The text before its keys, as the store knows it. */
  readonly place: string
}

interface Store {
  readonly uses: Set<Use>
  /** Regions that share their entries share their invalidations. */
  readonly marks: Map<string, InvalidationMarks>
  readonly calling: CallsUnderWay
  readonly invalidated: InvalidationCount
}

const stores = processGlobal('stores', () => new WeakMap<object, Store>())

function newStore(): Store {
  return { uses: new Set(), marks: new Map(), calling: callsUnderWay(), invalidated: { count: 0 } }
}

export interface StoreUse {
  /** The calls under way of all regions over the store. */
  readonly calling: CallsUnderWay
  /** The invalidations of names over the store. */
  readonly invalidated: InvalidationCount
  /** Ends the region's use of the store, and tells whether it was the last. */
  leave(): boolean
}

/**
 * Adds a region to those over the store of its chain.
 * @throws CorralError `ERR_OPTION` if one of several regions over the store has no keyspace of its own.
 */
export function joinStore(chain: Backend<CachedValue>, identity: Identity): StoreUse {
  const store = stores.get(chain.actual) ?? newStore()
  const place = placeOf(chain, identity)
  const others = [...store.uses].filter((use) => use.identity !== identity)
  if (others.length > 0 && [{ identity }, ...others].some((use) => use.identity.prefix === ''))
    rejectOptions(
      `Expected a region without a name to be alone over backend '${chain.name}', got another region there: each would read the other's entries. Give every region over it a name: makeRegion({ name: 'users' }).`,
    )
  const twin = others.find((use) => use.place === place && !(use.identity.sharing && identity.sharing))
  if (twin !== undefined) reportTwins(chain.name, place, identity)
  const use: Use = { identity, place }
  stores.set(chain.actual, store)
  store.uses.add(use)
  if (identity.prefix !== '') {
    identity.marks = marksAfter(store.marks.get(place), identity.marks)
    store.marks.set(place, identity.marks)
  }
  const { calling, invalidated } = store
  return { calling, invalidated, leave: () => store.uses.delete(use) && store.uses.size === 0 }
}

function placeOf({ storeKey }: Backend<CachedValue>, { prefix }: Identity): string {
  try {
    return storeKey?.(prefix) ?? prefix
  } catch {
    // An application's mangler may refuse a key that is only the beginning of one.
    return prefix
  }
}

/** Whether a region uses the store of a chain, which therefore must stay open. */
export function isInUse(chain: Closable): boolean {
  return (stores.get(chain?.actual ?? {})?.uses.size ?? 0) > 0
}

type Closable = Partial<Pick<Backend, 'actual' | 'close'>> | undefined

/** Closes a chain that was built in vain, also one that comes later. It may stand over a store that another region uses. */
export function closeUnused(chain: MaybePromise<Closable>): void {
  if (isPromise(chain)) void ignoreRejection(Promise.resolve(chain).then(closeUnused))
  else if (!isInUse(chain)) void ignoreRejection(attempt(() => chain?.close?.()))
}

function reportTwins(backend: string, place: string, { name, prefix }: Identity): void {
  reportOnce('notice', `twins ${backend} ${place}`, () => ({
    where: `region ${name ?? prefix}`,
    message: `Two regions with the keyspace '${prefix.slice(0, -1)}' are configured over one backend '${backend}', so each reads the other's entries. Give them different names, or say that they share: \`keyspace\` in both.`,
  }))
}

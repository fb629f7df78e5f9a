import type { Granted } from '../../src/backend/lease.js'
import { frozenCopy } from '../../src/base/frozen.js'
import { inBatches } from '../../src/base/in-batches.js'
import { nextTick } from '../../src/base/timers.js'
import {
  type Freshness,
  freshnessAt,
  type InvalidationMode,
  type Ledger,
  type LedgerQuestion,
  type LedgerReading,
  type WriteCondition,
} from '../../src/ledger/ledger.js'
import { type DependencySnapshot, type LedgerTime, namesOf } from '../../src/ledger/snapshot.js'
import type { Commands, Item, Version } from './client/commands.js'
import { moveClock, parseClock } from './counter-clock.js'
import { CLOCK, STAMP, wireName } from './format.js'
import { invalidatedSince, logInvalidation } from './invalidation-log.js'
import { deadMarks, markNames } from './marks.js'
import {
  changeItem,
  encodeStampItem,
  invalidated,
  judgedStamp,
  markOf,
  PLACEHOLDER,
  parseStampItem,
  type StampItem,
} from './stamp-items.js'

export interface MemcachedLedger extends Ledger {
  /** Only an entry whose snapshot is fresh may be stored. */
  validate(condition: WriteCondition): Promise<Freshness>
  /** The part of a grant that the ledger knows, read after the grant. */
  atGrant(question: LedgerQuestion): Promise<Pick<Granted, 'stamps'> & { readonly asOf: LedgerTime }>
}

/** A reading together with the items of its stamps. */
interface ItemReading extends LedgerReading {
  readonly items: readonly (VersionedItem | undefined)[]
}

interface VersionedItem extends StampItem {
  readonly version: Version
}

/**
 * The bookkeeping of invalidations in memcached. The clock is a counter. A stamp is the time of the clock after its
 * placeholder was in place, so that no invalidation in between goes unnoticed. A hard invalidation moves the clock
 * first and then removes the stamps: every other order lets stale entries through. Each invalidation leaves its names in a
 * log, under its time: a stamp that is created late may be as old as its entry where the log proves that nothing was missed.
 * @param pendingFor - ms for which transactions mark names; 0: they do not. Marks that others have set count either way
 */
export function ledgerOf(commands: Commands, pendingFor = 0): MemcachedLedger {
  const getShared = sharedGets(commands)

  /** Marks that outlived their transactions end with the first reading that finds them, as these would have ended them. */
  const read = async (
    clock: string,
    names: readonly string[],
    get?: Commands['get'],
  ): Promise<ItemReading> => {
    const found = await readItems(commands, clock, names, get)
    const dead = await deadMarks(commands, names, found.items)
    if (dead.length === 0) return found
    for (const { names, mode, transaction } of dead)
      await invalidate(commands, clock, names, mode, transaction)
    return readItems(commands, clock, names)
  }
  /** Creates the stamps of late names, which no other step creates: entries that depend on them were never stored. */
  const validate = async ({ clock, snapshot }: WriteCondition): Promise<Freshness> => {
    const names = namesOf(snapshot)
    let found = await read(clock, names)
    if (found.now?.epoch !== snapshot.epoch) return 'invalid'
    if (found.items.some(lacksStamp)) {
      await createStamps(commands, clock, names, found, asOfNames(snapshot))
      found = await readItems(commands, clock, names)
    }
    return freshnessAt(snapshot, found)
  }
  const atGrant: MemcachedLedger['atGrant'] = async ({ clock, names, expected }) => {
    const found = await read(clock, [...names, ...expected])
    // The stamps are older than the clock then, so they are read once more where they are needed.
    if (found.now === undefined || found.items.slice(0, names.length).some(lacksStamp))
      return { asOf: await createStamps(commands, clock, names, found) }
    return { asOf: found.now, stamps: found.stamps.slice(names.length) }
  }

  return {
    shared: true,
    validate,
    atGrant,
    open: (clock) => ({
      storeClock: clock,
      read: (names) => read(clock, names, getShared),
      now: async (names) => (await atGrant({ clock, names, expected: [] })).asOf,
      invalidate: (names, mode, transaction) => invalidate(commands, clock, names, mode, transaction),
      restore: (snapshot) => validate({ clock, snapshot }),
      ...(pendingFor > 0 && {
        async pending(names, mode, transaction) {
          await markNames(commands, clock, names, { mode, transaction, ms: pendingFor })
          return pendingFor
        },
      }),
    }),
  }
}

function lacksStamp(item: StampItem | undefined): boolean {
  return item?.stamp === undefined
}

/** Reads of one turn of the event loop that ask for the same key share a command: it was not sent yet when they join. */
function sharedGets(commands: Commands): Commands['get'] {
  const turn = new Map<string, Promise<Item | undefined>>()
  return (key) => {
    let reading = turn.get(key)
    if (reading === undefined) {
      if (turn.size === 0) nextTick(() => turn.clear())
      turn.set(key, (reading = commands.get(key)))
    }
    return reading
  }
}

/** Reads a clock and stamps by one command each, sent together; many in batches. */
async function readItems(
  commands: Commands,
  clock: string,
  names: readonly string[],
  get = commands.get,
): Promise<ItemReading> {
  const [found, values] = await Promise.all([
    get(wireName(CLOCK, clock)),
    inBatches(names, (name) => get(wireName(STAMP, name))),
  ])
  const now = found && parseClock(found.value)
  const items = values.map(
    (item) => item && { ...parseStampItem(item.value, now?.epoch), version: item.version },
  )
  return { now, items, stamps: items.map((item) => item && judgedStamp(item)) }
}

/**
 * Creates the stamps that are absent, in place of placeholders or of an earlier epoch's. Returns the clock, read after that.
 * @param since - for each name the time from which on its invalidations count, if the log can prove that there were none.
 */
async function createStamps(
  commands: Commands,
  clock: string,
  names: readonly string[],
  { items }: ItemReading,
  since?: readonly number[],
): Promise<LedgerTime> {
  const absent = names
    .map((name, i) => ({ name, item: items[i], since: since?.[i] }))
    .filter(({ item }) => lacksStamp(item))
  const places = await inBatches(absent, async ({ name, item, since }) => {
    const key = wireName(STAMP, name)
    const version = item?.version ?? (await commands.set(key, PLACEHOLDER, 0, 'absent'))
    return { name, since, key, version, marks: item?.marks }
  })
  // Only now: an invalidation that this reading misses will find, and remove, the placeholders.
  const { now } = await readItems(commands, clock, [])
  // Of several that start it at once the later ones must not move it: that would refuse the others' entries.
  const at = now ?? (await moveClock(commands, clock, 0n))
  const wasInvalidated = await invalidatedSince(commands, clock, at, earliest(places))
  await inBatches(places, ({ name, since = at.at, key, version, marks }) => {
    const hard = wasInvalidated(name, since) ? at.at : since
    return version && commands.set(key, encodeStampItem(at.epoch, { hard, soft: 0 }, marks), 0, version)
  })
  return at
}

function earliest(places: readonly { readonly since: number | undefined }[]): number {
  return places.reduce((least, { since }) => Math.min(least, since ?? least), Number.POSITIVE_INFINITY)
}

/** For each name of a snapshot, in the order of `namesOf`, the time from which on its invalidations count. */
function asOfNames({ groups }: DependencySnapshot): readonly number[] {
  return groups.flatMap(({ asOf, names }) => names.map(() => asOf))
}

/** @param transaction - its marks at the names end */
async function invalidate(
  commands: Commands,
  clock: string,
  given: readonly string[],
  mode: InvalidationMode,
  transaction = '',
): Promise<void> {
  const names = frozenCopy(given)
  const keys = names.map((name) => wireName(STAMP, name))
  // The items travel with the clock, which spares a round trip: one that has changed since is read again, as is an absent one.
  const [at, seen] = await Promise.all([
    moveClock(commands, clock, 1n),
    Promise.all(keys.map((key) => commands.get(key))),
  ])
  const change = invalidated(at, mode, markOf(mode, transaction))
  await Promise.all([
    logInvalidation(commands, clock, at, names),
    ...keys.map((key, i) => changeItem(commands, key, change, { seen: seen[i] })),
  ])
}

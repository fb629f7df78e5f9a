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
import { itemChanges } from './item-changes.js'
import { markNames, marksEnding, ownerOf, seenItems } from './marks.js'
import {
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
 * @param beside - for `read`, whose time does not run
 */
export function ledgerOf(
  commands: Commands,
  pendingFor = 0,
  beside: Pick<Commands, 'get'> = commands,
): MemcachedLedger {
  const getShared = sharedGets(beside)
  const changeItem = itemChanges(commands)
  const endMarks = marksEnding(commands, changeItem)

  /** Reads names for a creation, which can be stored once the marks are over that outlived their transactions. */
  const readToCreate = async (clock: string, names: readonly string[]): Promise<ItemReading> => {
    const found = await readItems(commands, clock, names)
    const isOver = found.items.some(isMarked) && (await endMarks(clock, names, found.items))
    return isOver ? readItems(commands, clock, names) : found
  }
  /**
   * An absent stamp is no obstacle to an entry of the clock's own time. So the clock counts as it is after that was seen: the end of a
   * mark moves it, and then removes the stamp.
   */
  const proved = async (
    clock: string,
    reading: LedgerReading,
    get = commands.get,
  ): Promise<LedgerReading> => {
    if (!reading.stamps.includes(undefined)) return reading
    const { now } = await readItems(commands, clock, [], get)
    return { ...reading, now: now?.epoch === reading.now?.epoch ? now : undefined }
  }
  const read = async (clock: string, names: readonly string[]): Promise<LedgerReading> => {
    const found = await readItems(commands, clock, names, getShared)
    // No read waits for that.
    if (found.items.some(isMarked)) void endMarks(clock, names, found.items)
    return proved(clock, found, beside.get)
  }
  /** Creates the stamps of late names, which no other step creates: entries that depend on them were never stored. */
  const validate = async ({ clock, snapshot }: WriteCondition): Promise<Freshness> => {
    const names = namesOf(snapshot)
    let found = await readToCreate(clock, names)
    if (found.now?.epoch !== snapshot.epoch) return 'invalid'
    if (found.items.some(lacksStamp)) {
      await createStamps(commands, clock, names, found, asOfNames(snapshot))
      found = await readItems(commands, clock, names)
    }
    return freshnessAt(snapshot, await proved(clock, found))
  }
  const atGrant: MemcachedLedger['atGrant'] = async ({ clock, names, expected }) => {
    const found = await readToCreate(clock, [...names, ...expected])
    // The stamps are older than the clock then, so they are read once more where they are needed.
    if (found.now === undefined || found.items.slice(0, names.length).some(lacksStamp))
      return { asOf: await createStamps(commands, clock, names, found) }
    return { asOf: found.now, stamps: found.stamps.slice(names.length) }
  }

  /** @param transaction - its marks at the names end */
  const invalidate = async (
    clock: string,
    given: readonly string[],
    mode: InvalidationMode,
    transaction = '',
  ): Promise<void> => {
    const names = frozenCopy(given)
    const keys = names.map((name) => wireName(STAMP, name))
    // The items travel with the clock, which spares a round trip: one that has changed since is read again, as is an absent one.
    const [at, seen] = await Promise.all([moveClock(commands, clock, 1n), seenItems(commands, keys)])
    const change = invalidated(at, mode, markOf(mode, ownerOf(clock, transaction)))
    await Promise.all([
      logInvalidation(commands, clock, at, names),
      ...keys.map((key, i) => changeItem(key, change, seen[i])),
    ])
  }

  return {
    shared: true,
    validate,
    atGrant,
    open: (clock) => ({
      storeClock: clock,
      read: (names) => read(clock, names),
      now: async (names) => (await atGrant({ clock, names, expected: [] })).asOf,
      invalidate: (...given) => invalidate(clock, ...given),
      restore: (snapshot) => validate({ clock, snapshot }),
      ...(pendingFor > 0 && {
        async pending(names, mode, transaction) {
          await markNames({ commands, changeItem, clock }, names, { mode, transaction, ms: pendingFor })
          return pendingFor
        },
      }),
    }),
  }
}

function isMarked(item: StampItem | undefined): boolean {
  return item !== undefined && item.marks.length > 0
}

function lacksStamp(item: StampItem | undefined): boolean {
  return item?.stamp === undefined
}

/** Reads of one turn of the event loop that ask for the same key share a command: it was not sent yet when they join. */
function sharedGets(commands: Pick<Commands, 'get'>): Commands['get'] {
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

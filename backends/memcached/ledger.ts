import { createHash, randomInt } from 'node:crypto'
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
  type Stamp,
  type WriteCondition,
} from '../../src/ledger/ledger.js'
import { type DependencySnapshot, type LedgerTime, namesOf } from '../../src/ledger/snapshot.js'
import type { Commands, Item } from './client/commands.js'
import { CLOCK, LOG, STAMP, wireName } from './format.js'

export interface MemcachedLedger extends Ledger {
  /** Only an entry whose snapshot is fresh may be stored. */
  validate(condition: WriteCondition): Promise<Freshness>
  /** The part of a grant that the ledger knows, read after the grant. */
  atGrant(question: LedgerQuestion): Promise<Pick<Granted, 'stamps'> & { readonly asOf: LedgerTime }>
}

/** A reading together with the items of its stamps. */
interface ItemReading extends LedgerReading {
  readonly items: readonly (Item | undefined)[]
}

/**
 * The bookkeeping of invalidations in memcached. The clock is a counter. A stamp is the time of the clock after its
 * placeholder was in place, so that no invalidation in between goes unnoticed. A hard invalidation moves the clock
 * first and then removes the stamps: every other order lets stale entries through. Each invalidation leaves its names in a
 * log, under its time: a stamp that is created late may be as old as its entry where the log proves that nothing was missed.
 */
export function ledgerOf(commands: Commands): MemcachedLedger {
  const getShared = sharedGets(commands)

  /** Creates the stamps of late names, which no other step creates: entries that depend on them were never stored. */
  const validate = async ({ clock, snapshot }: WriteCondition): Promise<Freshness> => {
    const names = namesOf(snapshot)
    let found = await readItems(commands, clock, names)
    if (found.now?.epoch !== snapshot.epoch) return 'invalid'
    if (found.stamps.includes(undefined)) {
      await createStamps(commands, clock, names, found, asOfNames(snapshot))
      found = await readItems(commands, clock, names)
    }
    return freshnessAt(snapshot, found)
  }
  const atGrant: MemcachedLedger['atGrant'] = async ({ clock, names, expected }) => {
    const found = await readItems(commands, clock, [...names, ...expected])
    const lacksStamps = found.stamps.slice(0, names.length).includes(undefined)
    // The stamps are older than the clock then, so they are read once more where they are needed.
    if (found.now === undefined || lacksStamps)
      return { asOf: await createStamps(commands, clock, names, found) }
    return { asOf: found.now, stamps: found.stamps.slice(names.length) }
  }

  return {
    shared: true,
    validate,
    atGrant,
    open: (clock) => ({
      storeClock: clock,
      read: (names) => readItems(commands, clock, names, getShared),
      now: async (names) => (await atGrant({ clock, names, expected: [] })).asOf,
      invalidate: (names, mode) => invalidate(commands, clock, names, mode),
      restore: (snapshot) => validate({ clock, snapshot }),
    }),
  }
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
  const [found, items] = await Promise.all([
    get(wireName(CLOCK, clock)),
    inBatches(names, (name) => get(wireName(STAMP, name))),
  ])
  const now = found && parseClock(found.value)
  return { now, items, stamps: items.map((item) => now && parseStamp(item, now.epoch)) }
}

/** A stamp before the clock was read for it: it counts as absent. */
const PENDING = Buffer.from('pending')

/**
 * Creates the stamps that are absent, pending or of an earlier epoch. Returns the clock, read after that.
 * @param since - for each name the time from which on its invalidations count, if the log can prove that there were none.
 */
async function createStamps(
  commands: Commands,
  clock: string,
  names: readonly string[],
  { stamps, items }: ItemReading,
  since?: readonly number[],
): Promise<LedgerTime> {
  const lacking = names.map((name, i) => ({ name, item: items[i], stamp: stamps[i], since: since?.[i] }))
  const absent = lacking.filter(({ stamp }) => stamp === undefined)
  const places = await inBatches(absent, async ({ name, item, since }) => {
    const key = wireName(STAMP, name)
    return { name, since, key, version: item?.version ?? (await commands.set(key, PENDING, 0, 'absent')) }
  })
  // Only now: an invalidation that this reading misses will find, and remove, the placeholders.
  const { now } = await readItems(commands, clock, [])
  // Of several that start it at once the later ones must not move it: that would refuse the others' entries.
  const at = now ?? (await moveClock(commands, clock, 0n))
  const wasInvalidated = await invalidatedSince(commands, clock, at, earliest(places))
  await inBatches(places, ({ name, since = at.at, key, version }) => {
    const hard = wasInvalidated(name, since) ? at.at : since
    return version && commands.set(key, encodeStamp(at.epoch, { hard, soft: 0 }), 0, version)
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

/** Invalidations that are looked up in the log for one fill. */
const MAX_LOGGED = 256
/** Names of one invalidation in the log; one of more is not logged. */
const MAX_LOGGED_NAMES = 512
/** Seconds for which an invalidation stays in the log. */
const LOG_LIFETIME = 120

/**
 * Tells whether a name may have been invalidated after a time, up to \`at\`. Each invalidation leaves an item under its own
 * time of the clock. If one is missing, it was not written yet, or is lost: then every name counts as invalidated.
 */
async function invalidatedSince(
  commands: Commands,
  clock: string,
  { epoch, at }: LedgerTime,
  since: number,
): Promise<(name: string, since: number) => boolean> {
  const count = at - since
  if (!(count > 0 && count <= MAX_LOGGED)) return (_, from) => from !== at
  const times = Array.from({ length: count }, (_, i) => since + 1 + i)
  const items = await Promise.all(times.map((time) => commands.get(logKey(clock, time))))
  const isMentioned = (item: Item | undefined, name: Buffer) =>
    item === undefined ||
    !item.value.subarray(0, MARK).equals(markOf(epoch)) ||
    item.value.includes(name, MARK)
  return (name, from) => {
    const mark = markOf(name)
    return items.some((item, i) => (times[i] as number) > from && isMentioned(item, mark))
  }
}

/** Bytes for a name in the log. Two names of the same mark cost a fill, and never let an invalidated value through. */
const MARK = 8

function markOf(text: string): Buffer {
  return createHash('sha256').update(text, 'utf16le').digest().subarray(0, MARK)
}

/** Without the epoch, which the item has: an item of an earlier epoch proves nothing. */
function logKey(clock: string, time: number): string {
  return wireName(LOG, `${time}:${clock}`)
}

/** A part of the proof that other names were not invalidated. Without it a fill is refused, so its failure harms nothing. */
async function logInvalidation(
  commands: Commands,
  clock: string,
  { epoch, at }: LedgerTime,
  names: readonly string[],
): Promise<void> {
  if (names.length > MAX_LOGGED_NAMES) return
  const value = Buffer.concat([epoch, ...names].map(markOf))
  await commands.set(logKey(clock, at), value, LOG_LIFETIME).catch(() => undefined)
}

async function invalidate(
  commands: Commands,
  clock: string,
  given: readonly string[],
  mode: InvalidationMode,
): Promise<void> {
  const names = frozenCopy(given)
  const at = await moveClock(commands, clock, 1n)
  await Promise.all([
    logInvalidation(commands, clock, at, names),
    ...names.map((name) => {
      const key = wireName(STAMP, name)
      return mode === 'soft' ? markSoft(commands, key, at) : commands.delete(key)
    }),
  ])
}

/** How often a soft mark is tried against concurrent writers before the stamp is removed instead, which is harder. */
const MARK_ATTEMPTS = 8

async function markSoft(commands: Commands, key: string, { epoch, at }: LedgerTime): Promise<void> {
  for (let attempt = 0; attempt < MARK_ATTEMPTS; attempt++) {
    const item = await commands.get(key)
    // An entry that depends on an absent stamp is a miss already.
    if (item === undefined) return
    const stamp = parseStamp(item, epoch)
    const done =
      stamp === undefined
        ? await commands.delete(key, item.version)
        : stamp.soft >= at ||
          (await commands.set(key, encodeStamp(epoch, { hard: stamp.hard, soft: at }), 0, item.version))
    if (done) return
  }
  await commands.delete(key)
}

/**
 * The lower 34 bits of the clock's counter are its time, the upper 29 its epoch, drawn at random; an overflow begins a new
 * epoch. The highest bit stays zero: memcached (1.6.18) does not take a counter from 2^63 for a number if a minus sign
 * happens to stand behind it in memory.
 */
const EPOCHS = 2 ** 29
const TIME_BITS = 34n
const TIME = (1n << TIME_BITS) - 1n

/** Moves the clock, or starts it in a new epoch. */
async function moveClock(commands: Commands, clock: string, by: bigint): Promise<LedgerTime> {
  const start = (BigInt(randomInt(EPOCHS)) << TIME_BITS) | 1n
  return timeOf(await commands.increment(wireName(CLOCK, clock), start, by))
}

function timeOf(counter: bigint): LedgerTime {
  return { epoch: (counter >> TIME_BITS).toString(36), at: Number(counter & TIME) }
}

/** The counter that was parsed last, as its text: most readings find the clock unmoved. */
let lastText = ''
let lastTime: LedgerTime | undefined

/** memcached keeps counters as decimal text, and pads one that has become shorter with spaces. */
function parseClock(bytes: Buffer): LedgerTime | undefined {
  const text = bytes.toString('latin1')
  if (text === lastText) return lastTime
  if (!/^\d{1,20} *$/.test(text)) return undefined
  lastText = text
  lastTime = timeOf(BigInt(text.trim()))
  return lastTime
}

function encodeStamp(epoch: string, { hard, soft }: Stamp): Buffer {
  return Buffer.from(`${epoch} ${hard} ${soft}`, 'latin1')
}

/** `undefined`: absent, pending, or of another epoch, which proves nothing about this one. */
function parseStamp(item: Item | undefined, epoch: string): Stamp | undefined {
  if (item === undefined) return undefined
  const [of, hard, soft, ...more] = item.value.toString('latin1').split(' ')
  if (of !== epoch || more.length > 0 || !/^\d+$/.test(hard ?? '') || !/^\d+$/.test(soft ?? ''))
    return undefined
  return { hard: Number(hard), soft: Number(soft) }
}

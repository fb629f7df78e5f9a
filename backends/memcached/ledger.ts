import { randomInt } from 'node:crypto'
import type { Granted } from '../../src/backend/lease.js'
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
import { type LedgerTime, namesOf } from '../../src/ledger/snapshot.js'
import type { Commands, Item } from './client/commands.js'
import { CLOCK, STAMP, wireName } from './format.js'

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
 * first and then removes the stamps: every other order lets stale entries through.
 */
export function ledgerOf(commands: Commands): MemcachedLedger {
  const getShared = sharedGets(commands)

  /** Creates the stamps of late names, which no other step creates: entries that depend on them were never stored. */
  const validate = async ({ clock, snapshot }: WriteCondition): Promise<Freshness> => {
    const names = namesOf(snapshot)
    let found = await readItems(commands, clock, names)
    if (found.now?.epoch !== snapshot.epoch) return 'invalid'
    if (found.stamps.includes(undefined)) {
      await createStamps(commands, clock, names, found)
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
      if (turn.size === 0) process.nextTick(() => turn.clear())
      turn.set(key, (reading = commands.get(key)))
    }
    return reading
  }
}

/** Reads a clock and stamps by one command each, sent together. */
async function readItems(
  commands: Commands,
  clock: string,
  names: readonly string[],
  get = commands.get,
): Promise<ItemReading> {
  const [found, ...items] = await Promise.all([
    get(wireName(CLOCK, clock)),
    ...names.map((name) => get(wireName(STAMP, name))),
  ])
  const now = found && parseClock(found.value)
  return { now, items, stamps: items.map((item) => now && parseStamp(item, now.epoch)) }
}

/** A stamp before the clock was read for it: it counts as absent. */
const PENDING = Buffer.from('pending')

/** Creates the stamps that are absent, pending or of an earlier epoch. Returns the clock, read after that. */
async function createStamps(
  commands: Commands,
  clock: string,
  names: readonly string[],
  { stamps, items }: ItemReading,
): Promise<LedgerTime> {
  const lacking = names.map((name, i) => ({ key: wireName(STAMP, name), item: items[i], stamp: stamps[i] }))
  const places = await Promise.all(
    lacking
      .filter(({ stamp }) => stamp === undefined)
      .map(async ({ key, item }) => ({
        key,
        version: item?.version ?? (await commands.set(key, PENDING, 0, 'absent')),
      })),
  )
  // Only now: an invalidation that this reading misses will find, and remove, the placeholders.
  const { now } = await readItems(commands, clock, [])
  // Of several that start it at once the later ones must not move it: that would refuse the others' entries.
  const at = now ?? (await moveClock(commands, clock, 0n))
  await Promise.all(
    places.map(
      ({ key, version }) =>
        version && commands.set(key, encodeStamp(at.epoch, { hard: at.at, soft: 0 }), 0, version),
    ),
  )
  return at
}

async function invalidate(
  commands: Commands,
  clock: string,
  names: readonly string[],
  mode: InvalidationMode,
): Promise<void> {
  const at = await moveClock(commands, clock, 1n)
  await Promise.all(
    names.map((name) => {
      const key = wireName(STAMP, name)
      return mode === 'soft' ? markSoft(commands, key, at) : commands.delete(key)
    }),
  )
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

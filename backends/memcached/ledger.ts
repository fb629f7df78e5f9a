import { randomInt } from 'node:crypto'
import type { DependencySnapshot, LedgerTime } from '../../src/backend/cached-value.js'
import {
  type Freshness,
  freshnessAt,
  type Ledger,
  type LedgerReading,
  namesOf,
  type Stamp,
} from '../../src/ledger/ledger.js'
import type { Commands, Item } from './client/commands.js'
import { CLOCK, STAMP, wireName } from './format.js'

/**
 * Of the clock's counter the lower 34 bits count, the upper 29 are its epoch, drawn at random; an overflow begins a new
 * epoch. The highest bit stays zero: memcached (1.6.18) calls a counter from 2^63 on no number if a minus sign happens
 * to stand behind it in memory.
 */
const EPOCHS = 2 ** 29
const COUNTED_BITS = 34n
const COUNTED = (1n << COUNTED_BITS) - 1n

/** What a stamp is before its creator has read the clock: as good as absent. */
const PENDING = Buffer.from('pending')

/** How often a soft mark is tried against concurrent writers before the stamp is removed instead, which is harder. */
const MARKINGS = 8

export interface MemcachedLedger extends Ledger {
  /** Whether what was made from a snapshot may be stored. */
  admit(clock: string, snapshot: DependencySnapshot): Promise<boolean>
}

/** A reading together with the items that it was read from. */
interface Look {
  readonly now: LedgerTime | undefined
  readonly stamps: readonly (Stamp | undefined)[]
  readonly items: readonly (Item | undefined)[]
}

/**
 * The bookkeeping of invalidations in memcached. The clock is a counter; a stamp is the clock as it stood after its
 * placeholder was in place, so that no invalidation in between goes unnoticed. A hard invalidation moves the clock
 * first and then removes the stamps. In that order; every other one lets stale entries through.
 */
export function ledgerOf(commands: Commands): MemcachedLedger {
  const readShared = sharedReads(commands)
  const parseClock = clockParser()

  const look = async (
    clock: string,
    names: readonly string[],
    read: (key: string) => Promise<Item | undefined>,
  ): Promise<Look> => {
    const [found, ...items] = await Promise.all([
      read(wireName(CLOCK, clock)),
      ...names.map((name) => read(wireName(STAMP, name))),
    ])
    const now = found && parseClock(found.value)
    return {
      now,
      items,
      stamps: items.map((item) => (now === undefined ? undefined : parseStamp(item, now.epoch))),
    }
  }

  /** Moves the clock; starts it in a new epoch where there is none. */
  const advance = async (clock: string, by = 1n): Promise<LedgerTime> =>
    instantOf(
      await commands.increment(wireName(CLOCK, clock), (BigInt(randomInt(EPOCHS)) << COUNTED_BITS) | 1n, by),
    )

  /** Creates the stamps that a look found to be absent, pending or of an earlier epoch. Answers the clock, read after that. */
  const establish = async (
    clock: string,
    names: readonly string[],
    { stamps, items }: Look,
  ): Promise<LedgerTime> => {
    const lacking = names.map((name, i) => ({ key: wireName(STAMP, name), item: items[i], stamp: stamps[i] }))
    const places = await Promise.all(
      lacking
        .filter(({ stamp }) => stamp === undefined)
        .map(async ({ key, item }) => ({
          key,
          version: item?.version ?? (await commands.set(key, PENDING, 0, 'absent')),
        })),
    )
    // Only now: an invalidation that this reading misses will find, and remove, what is in place.
    const { now } = await look(clock, [], (key) => commands.get(key))
    // Of several who start it at once the later ones must not move it: that would refuse what the others are making.
    const at = now ?? (await advance(clock, 0n))
    await Promise.all(
      places.map(
        ({ key, version }) =>
          version && commands.set(key, stampBytes(at.epoch, { hard: at.at, soft: 0 }), 0, version),
      ),
    )
    return at
  }

  const begin = async (clock: string, names: readonly string[]): Promise<LedgerTime> => {
    const found = await look(clock, names, (key) => commands.get(key))
    const { now, stamps } = found
    return now === undefined || stamps.includes(undefined) ? establish(clock, names, found) : now
  }

  const read = async (clock: string, names: readonly string[]): Promise<LedgerReading> =>
    look(clock, names, readShared)

  /** Creates the stamps of names that were learnt late: nothing else would, and what rests on them were never stored. */
  const judge = async (clock: string, snapshot: DependencySnapshot): Promise<Freshness> => {
    const names = namesOf(snapshot)
    const fresh = (key: string) => commands.get(key)
    let found = await look(clock, names, fresh)
    if (found.now?.epoch !== snapshot.epoch) return 'invalid'
    if (found.stamps.includes(undefined)) {
      await establish(clock, names, found)
      found = await look(clock, names, fresh)
    }
    return freshnessAt(snapshot, found)
  }

  const soften = async (name: string, { epoch, at }: LedgerTime): Promise<void> => {
    const key = wireName(STAMP, name)
    for (let attempt = 0; attempt < MARKINGS; attempt++) {
      const item = await commands.get(key)
      // Whatever rests on an absent stamp is as good as missing already.
      if (item === undefined) return
      const stamp = parseStamp(item, epoch)
      const done =
        stamp === undefined
          ? await commands.delete(key, item.version)
          : stamp.soft >= at ||
            (await commands.set(key, stampBytes(epoch, { hard: stamp.hard, soft: at }), 0, item.version)) !==
              undefined
      if (done) return
    }
    await commands.delete(key)
  }

  return {
    shared: true,
    read,
    now: begin,
    judge,
    async invalidate(clock, names, mode) {
      const at = await advance(clock)
      await Promise.all(
        names.map((name) => (mode === 'soft' ? soften(name, at) : commands.delete(wireName(STAMP, name)))),
      )
    },
    admit: async (clock, snapshot) => (await judge(clock, snapshot)) === 'fresh',
  }
}

/** Reads of one turn of the event loop that ask for the same share an answer: nothing was sent yet when they join. */
function sharedReads(commands: Commands): (key: string) => Promise<Item | undefined> {
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

function instantOf(counter: bigint): LedgerTime {
  return { epoch: (counter >> COUNTED_BITS).toString(36), at: Number(counter & COUNTED) }
}

/** memcached keeps counters as decimal text. The latest one is remembered: most readings find it unmoved. */
function clockParser(): (bytes: Buffer) => LedgerTime | undefined {
  let last = ''
  let parsed: LedgerTime | undefined
  return (bytes) => {
    const text = bytes.toString('latin1')
    if (text === last) return parsed
    // memcached pads with spaces what has become shorter.
    if (!/^\d{1,20} *$/.test(text)) return undefined
    last = text
    parsed = instantOf(BigInt(text.trim()))
    return parsed
  }
}

function stampBytes(epoch: string, { hard, soft }: Stamp): Buffer {
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

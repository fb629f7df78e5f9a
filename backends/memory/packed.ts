/**
 * How an entry lies in memory: payload and metadata are fields of the store's own record, times are small integers, and
 * what many entries have in common is one object. Plain objects with the same facts take five times as much.
 */
import { type CachedValue, type Metadata, metadataOf } from '../../src/backend/cached-value.js'
import { epochNow } from '../../src/base/timers.js'
import type { DependencySnapshot } from '../../src/ledger/snapshot.js'

/** The metadata of an entry, in the fields of its record. */
export interface Facts {
  /** Whole ms since this module was loaded, or times that do not fit. */
  readonly started: number | Times
  /** The ms from `started` to `createdAt`, and below them the fraction of `startedAt`. */
  readonly took: number
  readonly expiresIn: number | undefined
  /** `undefined`: the value is none that this module takes apart. */
  readonly common: Common | undefined
  /** The names of the snapshot after its first. */
  readonly own: string | readonly string[] | undefined
}

type Times = Pick<Metadata, 'startedAt' | 'createdAt'>

/** The facts that many entries share. */
interface Common {
  readonly stale: boolean | undefined
  readonly untracked: boolean | undefined
  /** With the first name only: an entry adds its own. */
  readonly snapshot: DependencySnapshot | undefined
}

/** The facts of a value that is stored as it is. */
export const NO_FACTS: Facts = {
  started: 0,
  took: 0,
  expiresIn: undefined,
  common: undefined,
  own: undefined,
}

/** Small integers of V8 have 32 bits: times are told from the middle of their range, for seven weeks. */
const BASE = epochNow() + 2 ** 31 - 2 ** 26
/** The step of stamps within a millisecond: see `stampsOf`. */
const FRACTION_BITS = 10
const FRACTIONS = 1 << FRACTION_BITS
const TOOK_LIMIT = 2 ** (31 - FRACTION_BITS)

/** The facts of an entry, whose payload is stored beside them; `NO_FACTS` for a value with other parts. */
export function factsOf(value: unknown): Facts {
  if (!isPlainEntry(value)) return NO_FACTS
  const { metadata } = value
  const { snapshot, expiresIn } = metadata
  const names = namesToSplit(snapshot)
  const common = commonOf(metadata, names)
  const own =
    names === undefined || names.length === 1
      ? undefined
      : interned(names.length === 2 ? (names[1] as string) : names.slice(1))
  const whole = Math.floor(metadata.startedAt)
  const started = whole - BASE
  const fraction = (metadata.startedAt - whole) * FRACTIONS
  const took = metadata.createdAt - whole
  const fits =
    started === (started | 0) &&
    fraction === (fraction | 0) &&
    took === (took | 0) &&
    took < TOOK_LIMIT &&
    took >= -TOOK_LIMIT
  return fits
    ? { started: started | 0, took: (took << FRACTION_BITS) | fraction, expiresIn, common, own }
    : {
        started: { startedAt: metadata.startedAt, createdAt: metadata.createdAt },
        took: 0,
        expiresIn,
        common,
        own,
      }
}

/** The value from its record. An entry is another object than the one that was stored; its payload is the same. */
export function storedValue(record: Facts & { readonly value: unknown }): unknown {
  const { value, common } = record
  return common === undefined ? value : { payload: value, metadata: metadataIn(record, common) }
}

function metadataIn({ started, took, expiresIn, own }: Facts, common: Common): Metadata {
  const { snapshot: shared, stale, untracked } = common
  const snapshot = own === undefined ? shared : withNames(shared as DependencySnapshot, own)
  const whole = typeof started === 'object' ? 0 : BASE + started
  const metadata =
    typeof started === 'object'
      ? metadataOf(started.startedAt, started.createdAt, snapshot, expiresIn)
      : metadataOf(
          whole + (took & (FRACTIONS - 1)) / FRACTIONS,
          whole + (took >> FRACTION_BITS),
          snapshot,
          expiresIn,
        )
  if (stale !== undefined) metadata.stale = stale
  if (untracked !== undefined) metadata.untracked = untracked
  return metadata
}

function withNames(
  { epoch, groups: [group] }: DependencySnapshot,
  own: string | readonly string[],
): DependencySnapshot {
  const { asOf, names } = group as DependencySnapshot['groups'][number]
  const first = names[0] as string
  return {
    epoch,
    groups: [{ asOf, names: Object.freeze(typeof own === 'string' ? [first, own] : [first, ...own]) }],
  }
}

/** Whether a value is an entry with no other parts than those that `storedValue` gives back. */
function isPlainEntry(value: unknown): value is CachedValue {
  if (typeof value !== 'object' || value === null) return false
  for (const part in value) if (part !== 'payload' && part !== 'metadata') return false
  const { metadata } = value as { readonly metadata?: Partial<Metadata> }
  if (typeof metadata !== 'object' || metadata === null || !('payload' in value)) return false
  for (const part in metadata)
    switch (part) {
      case 'startedAt':
      case 'createdAt':
      case 'expiresIn':
      case 'snapshot':
      case 'stale':
      case 'untracked':
        break
      default:
        return false
    }
  return typeof metadata.startedAt === 'number' && typeof metadata.createdAt === 'number'
}

/** The names of a snapshot with one group and no versions, which are stored apart from it. */
function namesToSplit(snapshot: DependencySnapshot | undefined): readonly string[] | undefined {
  if (!Array.isArray(snapshot?.groups) || snapshot.groups.length !== 1 || snapshot.versions !== undefined)
    return undefined
  const names: unknown = snapshot.groups[0]?.names
  return Array.isArray(names) && names.length > 0 && names.every((name) => typeof name === 'string')
    ? names
    : undefined
}

/** The latest facts in common: entries that are written one after another nearly always share them. */
const recent: Common[] = []
const RECENT = 16
let oldest = 0

function commonOf({ stale, untracked, snapshot }: Metadata, names: readonly string[] | undefined): Common {
  if (snapshot !== undefined && names === undefined) return { stale, untracked, snapshot }
  const asOf = snapshot?.groups[0]?.asOf
  for (const found of recent) {
    const known = found.snapshot
    if (
      found.stale === stale &&
      found.untracked === untracked &&
      known?.epoch === snapshot?.epoch &&
      known?.groups[0]?.asOf === asOf &&
      known?.groups[0]?.names[0] === names?.[0]
    )
      return found
  }
  const common: Common = {
    stale,
    untracked,
    snapshot:
      snapshot &&
      Object.freeze({
        epoch: snapshot.epoch,
        groups: Object.freeze([
          Object.freeze({ asOf: asOf as number, names: Object.freeze([names?.[0] as string]) }),
        ]),
      }),
  }
  recent[oldest] = common
  oldest = (oldest + 1) % RECENT
  return common
}

/** Names that many entries have in common, by their text. Names of one entry each pass through. */
const known = new Map<string, string | readonly string[]>()
const KNOWN = 1_000
/** Longer texts are not looked up: the lookup would cost more than it saves. */
const LONGEST = 200

function interned(names: string | readonly string[]): string | readonly string[] {
  const text = typeof names === 'string' ? names : names.join('\0')
  if (text.length > LONGEST) return names
  const found = known.get(text)
  if (found !== undefined && typeof found === typeof names) return found
  if (known.size >= KNOWN) known.clear()
  known.set(text, names)
  return names
}

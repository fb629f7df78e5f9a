import { NO_VALUE } from '../backend/cached-value.js'
import type { Tracker } from '../backend/tracker.js'
import { expectDuration, milliseconds } from '../base/duration.js'
import { CorralError, formatValue } from '../base/errors.js'
import {
  checkOptions,
  expectBoolean,
  expectOneOf,
  expectThat,
  type OptionCheck,
  optionError,
  rejectUnknownOptions,
} from '../base/options.js'
import { checkWhole } from '../base/parts.js'
import { staleness } from '../base/staleness.js'
import { CREATE_OPTIONS } from '../creation/create-options.js'
import type { CreateOptions } from '../creation/types.js'
import { checkKey } from '../functions/keys.js'
import { refuseVersions } from '../ledger/checked-names.js'
import { listNames } from '../ledger/names.js'
import type { LedgerTime } from '../ledger/snapshot.js'
import { refuseReadOnce } from './read-once.js'
import { type ReadTerms, type RegionState, titleOf } from './state.js'
import type { ReadOptions, SetOptions } from './types.js'

export function checkCreator(creator: unknown): void {
  if (typeof creator !== 'function')
    throw new CorralError(
      'ERR_CREATOR',
      `Expected the creator to be a function that makes the value, got ${formatValue(creator)}.`,
    )
}

/** Pairs of a key and a value, each with options of its own if it has some, read once: they may come from a generator. */
export function checkPairs<V>(
  given: Iterable<readonly [key: string, value: V, options?: SetOptions]>,
): (readonly [string, V, SetOptions | undefined])[] {
  const iterable = typeof given === 'object' && typeof given?.[Symbol.iterator] === 'function'
  expectThat(iterable, given, 'a Map or pairs of key and value to set')
  const values = [...given]
  return checkWhole(values, () =>
    values.map((pair) => {
      expectThat(
        Array.isArray(pair) && (pair.length === 2 || pair.length === 3),
        pair,
        'pairs of key and value to set',
        'Options of its own may follow the value: [key, value, { expirationTime }].',
      )
      const [key, value, options] = pair
      checkValue(key, value)
      // A new pair: the caller may use its own again.
      return [key, value, options]
    }),
  )
}

export function checkValue(key: string, value: unknown): void {
  checkWhole(value, () => checkKey(key))
  if (value === NO_VALUE)
    throw optionError(value, `a value for ${formatValue(key)}`, 'To store no value, use delete().')
  refuseReadOnce(value, key)
}

export function checkMode(mode: unknown): void {
  expectOneOf(mode, 'the mode of an invalidation', ['hard', 'soft'])
}

/**
 * The options as they are at the call.
 * @throws CorralError `ERR_OPTION` for an argument that dogpile took by position, a misspelt name, or a value of the wrong kind.
 */
export function checkCreateOptions<T>(options?: CreateOptions<T>): CreateOptions<never> {
  if (options === undefined) return NO_OPTIONS
  checkOptions(options, 'getOrCreate()', CREATE_OPTIONS)
  return { ...options }
}

/** The checks of `ReserveOptions`. */
export const RESERVE_OPTIONS: Readonly<Record<string, OptionCheck>> = {
  expirationTime: expectDuration,
  hold: expectDuration,
  hardTimeout: expectDuration,
  signal: CREATE_OPTIONS.signal as OptionCheck,
}

/** The checks of the options of `expire`. */
export const EXPIRE_OPTIONS: Readonly<Record<string, OptionCheck>> = {
  grace: CREATE_OPTIONS.grace as OptionCheck,
  expirationTime: expectDuration,
}

export const NO_OPTIONS: CreateOptions<never> = {}

/** @throws CorralError `ERR_NO_LEDGER` where dependencies() is not in the chain. */
export function expectTracker(region: RegionState): Tracker {
  const { tracker } = region
  if (tracker?.tracksDependencies) return tracker
  throw new CorralError(
    'ERR_NO_LEDGER',
    `${titleOf(region.name)} does not track dependencies. Put dependencies() into its chain: wrap(backend, dependencies()).`,
  )
}

/**
 * The names that a value is said to be made from.
 * @throws CorralError `ERR_OPTION`, `ERR_NO_LEDGER`, `ERR_VERSION` or `ERR_AS_OF_MISSING`
 */
export function dependenciesOf(
  region: RegionState,
  { dependencies = [], asOf }: SetOptions,
): readonly string[] {
  const names = listNames(dependencies, false)
  if (names.length === 0 && (asOf === undefined || asOf === 'now')) return names
  expectTracker(region)
  refuseVersions(names)
  if (asOf !== 'now') expectTime(asOf)
  return names
}

/** @throws CorralError `ERR_AS_OF_MISSING` unless it is a time that `region.asOf()` returned. */
export function expectTime(asOf: LedgerTime | undefined): void {
  // A moment that compares with nothing, or comes after everything, would be one that no invalidation is newer than.
  if (typeof asOf?.epoch !== 'string' || !Number.isFinite(asOf.at))
    throw new CorralError(
      'ERR_AS_OF_MISSING',
      `Expected the moment before data was loaded, got ${formatValue(asOf)}. Take it before loading, \`const asOf = await region.asOf()\`, and pass { dependencies, asOf }. If the caller cannot know it, asOf: 'now' is the moment of the call.`,
    )
}

/**
 * The terms of a read, taken at the call.
 * @throws CorralError `ERR_OPTION` for a misspelt name, which would silently not count, or a value of the wrong kind.
 */
export function termsOf(region: RegionState, read: ReadOptions | undefined): ReadTerms {
  if (read === undefined) return region.terms
  rejectUnknownOptions(read, READ_OPTIONS, 'a read')
  const { expirationTime, ignoreExpiration: staleToo = false, maxStaleness } = read
  expectBoolean(staleToo, '`ignoreExpiration` of a read')
  return {
    ...{ expiration: limitOf(expirationTime), policy: region.policy },
    ...{ staleToo, within: withinOf(maxStaleness) },
  }
}

const READ_OPTIONS = ['expirationTime', 'ignoreExpiration', 'maxStaleness']

/** ms by which an invalidation of another process may be late to this call. `undefined`: as the near cache says. */
export function withinOf(given: ReadOptions['maxStaleness']): number | undefined {
  return given === undefined ? undefined : staleness(given)
}

/** The age in ms up to which a value is fresh to this call. `undefined`: the entry's own or the region's time decides. */
export function limitOf(given: CreateOptions<never>['expirationTime']): number | undefined {
  return given === undefined ? undefined : milliseconds(given, 'expirationTime')
}

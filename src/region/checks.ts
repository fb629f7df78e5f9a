import { NO_VALUE } from '../backend/cached-value.js'
import type { Tracker } from '../backend/tracker.js'
import { milliseconds } from '../base/duration.js'
import { CorralError, formatValue } from '../base/errors.js'
import { rejectUnknownOptions } from '../base/options.js'
import type { CreateOptions } from '../creation/types.js'
import { checkKey } from '../functions/keys.js'
import { refuseVersions } from '../ledger/checked-names.js'
import type { InvalidationMode } from '../ledger/ledger.js'
import { listNames } from '../ledger/names.js'
import type { RegionState } from './state.js'
import type { SetOptions } from './types.js'

const CREATE_OPTIONS = ['expirationTime', 'shouldCache', 'wait', 'signal']

export function checkCreator(creator: unknown): void {
  if (typeof creator !== 'function')
    throw new CorralError(
      'ERR_CREATOR',
      `Expected the creator to be a function that makes the value, got ${formatValue(creator)}.`,
    )
}

/** Pairs of a key and a value, read once: they may come from a generator. */
export function checkPairs<V>(given: Iterable<readonly [key: string, value: V]>): (readonly [string, V])[] {
  if (typeof given !== 'object' || given === null || typeof given[Symbol.iterator] !== 'function')
    throw new CorralError(
      'ERR_OPTION',
      `Expected a Map or pairs of key and value to set, got ${formatValue(given)}.`,
    )
  const values = [...given]
  for (const pair of values) {
    if (!Array.isArray(pair) || pair.length !== 2)
      throw new CorralError('ERR_OPTION', `Expected pairs of key and value to set, got ${formatValue(pair)}.`)
    const [key, value] = pair as [unknown, unknown]
    checkKey(key)
    if (value === NO_VALUE)
      throw new CorralError(
        'ERR_OPTION',
        `Expected a value for ${formatValue(key)}, got NO_VALUE, which stands for none. Use delete().`,
      )
  }
  return values
}

export function checkMode(mode: unknown): InvalidationMode {
  if (mode === 'hard' || mode === 'soft') return mode
  throw new CorralError(
    'ERR_OPTION',
    `Expected the mode of an invalidation to be 'hard' or 'soft', got ${formatValue(mode)}.`,
  )
}

/** @throws CorralError `ERR_OPTION` for an argument that dogpile took by position, a misspelt name, or a value of the wrong kind. */
export function checkCreateOptions(options: CreateOptions<never>): void {
  rejectUnknownOptions(options, CREATE_OPTIONS, 'getOrCreate()')
  const { shouldCache, signal } = options
  if (shouldCache !== undefined && typeof shouldCache !== 'function')
    throw new CorralError(
      'ERR_OPTION',
      `Expected \`shouldCache\` to be a function of value and key, got ${formatValue(shouldCache)}.`,
    )
  if (signal !== undefined && typeof signal?.addEventListener !== 'function')
    throw new CorralError(
      'ERR_OPTION',
      `Expected \`signal\` to be an AbortSignal, got ${formatValue(signal)}.`,
    )
}

/** @throws CorralError `ERR_NO_LEDGER` where dependencies() is not in the chain. */
export function expectTracker(region: RegionState): Tracker {
  const { tracker } = region
  if (tracker?.tracksDependencies) return tracker
  throw new CorralError(
    'ERR_NO_LEDGER',
    `Region ${region.name === undefined ? '' : `'${region.name}' `}does not track dependencies. Put dependencies() into its chain: wrap(backend, dependencies()).`,
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
  if (names.length === 0 && asOf === undefined) return names
  expectTracker(region)
  refuseVersions(names)
  // A moment that compares with nothing, or comes after everything, would be one that no invalidation is newer than.
  if (typeof asOf?.epoch !== 'string' || !Number.isFinite(asOf.at))
    throw new CorralError(
      'ERR_AS_OF_MISSING',
      'A value with dependencies needs to know as of when it was loaded: take `const asOf = await region.asOf()` before loading, and pass { dependencies, asOf }.',
    )
  return names
}

/** The age in ms up to which a value is fresh to this call. `undefined`: the entry's own or the region's time decides. */
export function limitOf(given: CreateOptions<never>['expirationTime']): number | undefined {
  if (given === undefined) return undefined
  return typeof given === 'number' && given > 0 ? given : milliseconds(given, 'expirationTime')
}

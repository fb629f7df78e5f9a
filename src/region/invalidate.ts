import type { Tracker } from '../backend/tracker.js'
import { andThen, type MaybePromise } from '../base/maybe-promise.js'
import { checkOptions } from '../base/options.js'
import { type RenewalWork, runRenewal } from '../creation/renewal.js'
import type { EndOfMarks } from '../events/event-source.js'
import type { InvalidationEvents } from '../events/invalidation-events.js'
import { checkKey, listKeys } from '../functions/keys.js'
import { refuseVersions } from '../ledger/checked-names.js'
import type { InvalidationMode, InvalidationReason } from '../ledger/ledger.js'
import { listNames } from '../ledger/names.js'
import { checkMode, EXPIRE_OPTIONS, expectTracker, limitOf } from './checks.js'
import { markStale } from './mark-stale.js'
import { graceOf } from './policy.js'
import type { RegionHandle, RegionState } from './state.js'
import type { Region } from './types.js'

type Invalidations = Pick<
  Region,
  'delete' | 'deleteMulti' | 'expire' | 'invalidate' | 'invalidateDependencies' | 'refreshDependencies'
>

/**
 * Invalidates values of a region: by key, all of them, or by their dependencies.
 * @param renewing - the region itself, which renews the values
 */
export function regionInvalidations(
  handle: RegionHandle,
  events: InvalidationEvents,
  renewing: Pick<Region, 'getMulti'>,
): Invalidations {
  const { operation } = handle
  return {
    ...regionDeletions(handle, events),
    expire: (key, reason, options = {}) =>
      operation((at) => {
        checkKey(key)
        checkOptions(options, 'expire()', EXPIRE_OPTIONS)
        const grace = graceOf(options) ?? at.policy.grace
        const wish = limitOf(options.expirationTime)
        return events.around('key', [key], 'soft', reason, async () => {
          await markStale(at, key, grace, wish)
          detach(at, [key])
        })
      }),
    invalidate: (mode = 'hard', cause = undefined) =>
      operation((at) => {
        checkMode(mode)
        return events.around('region', [at.own], mode, cause, () => invalidateAll(at, mode))
      }),
    // Signals give the marks that end in the same step.
    invalidateDependencies: (
      names: string | readonly string[],
      mode: InvalidationMode = 'hard',
      cause: InvalidationReason | undefined = undefined,
      marks?: EndOfMarks,
    ) =>
      operation((at) => {
        if (marks !== undefined) marks.isPassedOn = true
        checkMode(mode)
        const list = listNames(names)
        refuseVersions(list, true)
        const tracker = expectTracker(at)
        return events.around('dependencies', list, mode, cause, () =>
          invalidateNames(at, tracker, list, mode, marks?.transaction),
        )
      }),
    refreshDependencies: (names, cause) =>
      operation((at) => {
        const list = listNames(names)
        refuseVersions(list, true)
        const tracker = expectTracker(at)
        return runRenewal(at.calls ?? at, (work) =>
          handle.outlive(at, async () => {
            await events.around('dependencies', list, 'soft', cause, () =>
              invalidateNames(at, tracker, list, 'soft'),
            )
            await renewCalls(at, list, renewing, work)
          }),
        )
      }),
  }
}

/** Invalidates values by key. */
function regionDeletions(
  { operation }: RegionHandle,
  events: InvalidationEvents,
): Pick<Region, 'delete' | 'deleteMulti'> {
  const removing = <R>(
    given: readonly string[],
    cause: InvalidationReason | undefined,
    remove: (backend: RegionState['backend'], keys: readonly string[]) => MaybePromise<R>,
  ): Promise<R> =>
    operation((region) => {
      const keys = listKeys(given)
      return events.around('key', keys, 'hard', cause, async () => {
        const deleted = await remove(region.backend, keys)
        detach(region, keys)
        return deleted
      })
    })
  return {
    delete: async (key, cause) =>
      (await removing([key], cause, (backend, [only]) => backend.delete(only as string))) ?? undefined,
    deleteMulti: (given, cause) =>
      removing(given, cause, async (backend, keys) => {
        const [only, ...more] = keys
        if (more.length > 0) await backend.deleteMulti(keys)
        else if (only !== undefined) await backend.delete(only)
      }),
  }
}

/** Creations under way and remembered failures say nothing about the keys any more. */
function detach({ dogpile, errors }: RegionState, keys: readonly string[]): void {
  dogpile.detach(keys)
  for (const key of keys) errors.forget(key)
}

function invalidateAll(at: RegionState, mode: InvalidationMode): MaybePromise<void> {
  const { invalidator, tracker, own } = at
  return forgettingErrors(at, () =>
    invalidator === undefined
      ? tracker?.invalidate([own], mode)
      : invalidator.invalidate(mode, at.stamp(at.precise.now())),
  )
}

function invalidateNames(
  at: RegionState,
  tracker: Tracker,
  names: readonly string[],
  mode: InvalidationMode,
  transaction?: string,
): MaybePromise<void> {
  return forgettingErrors(at, () => tracker.invalidate(names, mode, transaction))
}

/** Before it and after it: a creator that fails in between may have read what the invalidation is about. */
function forgettingErrors({ errors }: RegionState, work: () => MaybePromise<void>): MaybePromise<void> {
  errors.forgetAll()
  return andThen(work(), () => errors.forgetAll())
}

/** Renews the values of the remembered calls that depend on names. */
async function renewCalls(
  { calls, dogpile }: RegionState,
  names: readonly string[],
  renewing: Pick<Region, 'getMulti'>,
  { left, onDemand }: RenewalWork,
): Promise<void> {
  // A creator that asks for its own renewal is that renewal.
  const others = left(calls?.keys(names) ?? []).filter((key) => !dogpile.isCreating(key))
  await calls?.repeat(others, renewing, onDemand)
}

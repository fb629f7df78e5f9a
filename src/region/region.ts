import { report } from '../base/diagnostics.js'
import { CorralError } from '../base/errors.js'
import { ownOptions } from '../base/options.js'
import { servingOptions } from '../creation/create-options.js'
import type { ServingOptions } from '../creation/types.js'
import { invalidationEvents } from '../events/invalidation-events.js'
import { makeCacheOnArguments } from '../functions/cached-function.js'
import { makeCacheMultiOnArguments } from '../functions/cached-multi-function.js'
import { checkKey, functionKeyGenerator, functionMultiKeyGenerator } from '../functions/keys.js'
import { shareHome } from '../functions/namespaces.js'
import type { FunctionStore } from '../functions/types.js'
import { refuseVersions } from '../ledger/checked-names.js'
import { listNames } from '../ledger/names.js'
import { expectTime, expectTracker } from './checks.js'
import { checkRegionOptions, configureRegion } from './configure.js'
import { regionCreations } from './create.js'
import { explain } from './explain.js'
import { regionInvalidations } from './invalidate.js'
import { policyFor, policyOf, tellPolicy } from './policy.js'
import { functionReads, regionReads } from './read.js'
import { regionReservations } from './reserve.js'
import { fromSettings } from './settings-reader.js'
import { countingApart, type RegionHandle, regionHandle, titleOf } from './state.js'
import { type Identity, identify } from './stores.js'
import type { ConfigureOptions, Region, RegionOptions } from './types.js'
import { regionWrites } from './write.js'

/**
 * Makes a region, configured at once if a `backend` is given, else later by `configure`.
 * Functions may be decorated before that; using the region throws `ERR_NOT_CONFIGURED`.
 * @example
 * ```ts
 * import { makeRegion } from 'corral'
 * import { memory } from 'corral/backends/memory'
 *
 * const users = makeRegion<string>({ name: 'users', expirationTime: '5m', backend: memory() })
 * console.log(await users.getOrCreate('5', () => 'Ada'))
 * ```
 * @throws CorralError `ERR_OPTION` or `ERR_CHAIN` when an option cannot be right.
 */
export function makeRegion<V = unknown>(given: RegionOptions = {}): Region<V> {
  const options = checkRegionOptions(given)
  const { name } = options
  const identity = identify(name, options.keyspace)
  const events = invalidationEvents(name)
  const handle = regionHandle(name)
  const reads = regionReads<V>(handle)
  const { getOrCreate, getOrCreateMulti } = regionCreations<V>(handle)
  const operations = {
    ...{ name, getOrCreate, getOrCreateMulti },
    ...reads,
    ...regionReservations<V>(handle),
    ...regionWrites<V>(handle),
    ...regionInvalidations(handle, events, reads),
    ...regionQuestions(handle, name),
  }
  const region: Region<V> = {
    get isConfigured() {
      return handle.state !== undefined
    },
    get actualBackend() {
      return handle.use().backend.actual
    },
    get guarantees() {
      const { backend, limits } = handle.use()
      return { reach: backend.reach, limits }
    },
    configure(more) {
      expectReplacing(handle, more)
      const former = handle.replace(configureRegion(identity, options, ownOptions(more)))
      // Creations under way still use the former backend. No caller awaits its end, so a failure of it is reported.
      const failed = (error: unknown) => report('failure', () => ({ where: 'close', region: name, error }))
      former?.release().catch(failed)
      return region
    },
    configureFromConfig(settings, prefix) {
      const { buildBackend, ...more } = fromSettings(settings, prefix)
      // Before the backend is built: a second connection must not be left open.
      expectReplacing(handle, more)
      const { backend, discard } = buildBackend()
      try {
        return region.configure({ ...more, backend })
      } catch (error) {
        discard()
        throw error
      }
    },
    ...operations,
    ...{ stats: identity.stats.stats, on: events.on },
    ...regionFunctions<V>(options, functionStores<V>(handle, operations, identity, options)),
    async close() {
      await handle.replace()?.release()
    },
  }
  tellPolicy(region, () => handle.state?.policy)
  events.attach(region, () => expectTracker(handle.use()))
  shareNamespaces(operations, region, options.keyspace)
  if (options.backend) handle.replace(configureRegion(identity, options, { backend: options.backend }))
  return region
}

/** The region as the cached functions of a namespace use it: their calls are counted apart. */
function functionStores<V>(
  handle: RegionHandle,
  operations: Pick<Region<V>, 'name' | 'setMulti' | 'deleteMulti' | 'expire' | 'asOf'>,
  { declared, stats }: Identity,
  base: RegionOptions,
): (namespace: string | undefined) => FunctionStore<V> {
  return (namespace) => {
    const counting = countingApart(handle, stats.of(namespace))
    return {
      ...operations,
      home: operations,
      checkServing: (options) => checkServing(handle, declared, base, options),
      ...functionReads<V>(counting),
      ...regionCreations<V>(counting),
      recordCall: (key, names, again) => handle.state?.calls?.record(key, names, again),
    }
  }
}

/** Functions may be declared before the options of their region are known: then `configure` checks them again. */
function checkServing(
  { state }: RegionHandle,
  declared: Set<ServingOptions>,
  base: RegionOptions,
  options: ServingOptions,
): void {
  const own = servingOptions(options)
  if (Object.keys(own).length === 0) return
  policyFor(state ?? { policy: policyOf(servingOptions(base)) }, own)
  if (state === undefined) declared.add(own)
}

/** The operations that cache functions. */
function regionFunctions<V>(
  options: RegionOptions,
  storeOf: (namespace: string | undefined) => FunctionStore<V>,
): Pick<Region<V>, 'cacheOnArguments' | 'cacheMultiOnArguments'> {
  const { functionKeyGenerator: keys = functionKeyGenerator } = options
  const { functionMultiKeyGenerator: multiKeys = functionMultiKeyGenerator } = options
  return {
    cacheOnArguments: (...given: readonly unknown[]) =>
      makeCacheOnArguments<V>(storeOf, keys, given) as never,
    cacheMultiOnArguments: (...given: readonly unknown[]) =>
      makeCacheMultiOnArguments<V>(storeOf, multiKeys, given) as never,
  }
}

function expectReplacing({ state }: RegionHandle, more: Partial<ConfigureOptions>): void {
  if (state !== undefined && more?.replaceExistingBackend !== true)
    throw new CorralError(
      'ERR_ALREADY_CONFIGURED',
      `${titleOf(state.name)} is configured already, with backend '${state.backend.name}'. Say replaceExistingBackend: true to replace it.`,
    )
}

/** The operations that only ask. */
function regionQuestions(
  { operation }: RegionHandle,
  name: string | undefined,
): Pick<Region, 'ready' | 'asOf' | 'freshnessOf' | 'explain' | 'keyIsLocked'> {
  return {
    ready: () =>
      operation(({ backend }) => backend.ping()).then(
        () => true,
        (error: unknown) => {
          report('failure', () => ({ where: 'ready', region: name, error }))
          return false
        },
      ),
    asOf: (names = []) =>
      operation((region) => expectTracker(region).asOf([region.own, ...ledgerNames(names)])),
    freshnessOf: (names, since) =>
      operation((region) => {
        const tracker = expectTracker(region)
        const list = [region.own, ...ledgerNames(names)]
        expectTime(since)
        return tracker.validate({ epoch: since.epoch, groups: [{ asOf: since.at, names: list }] })
      }),
    explain: (key) =>
      operation((region) => {
        checkKey(key)
        return explain(region, key)
      }),
    keyIsLocked: (key) =>
      operation((region) => {
        checkKey(key)
        return region.backend.held(key)
      }),
  }
}

/** Names that a ledger has stamps of: the value of a version is not its business. */
function ledgerNames(names: string | readonly string[]): readonly string[] {
  const list = listNames(names, false)
  refuseVersions(list, true)
  return list
}

/** Regions of one keyspace share their entries, so their functions must differ. */
function shareNamespaces(cached: object, versioned: object, keyspace: string | undefined): void {
  if (keyspace === undefined) return
  shareHome(cached, `cached ${keyspace}`)
  // Versioned functions have keys of their own kind.
  shareHome(versioned, `versioned ${keyspace}`)
}

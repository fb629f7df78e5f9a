import { report } from '../base/diagnostics.js'
import { CorralError } from '../base/errors.js'
import { attempt, ignoreRejection } from '../base/maybe-promise.js'
import { invalidationEvents } from '../events/invalidation-events.js'
import { makeCacheOnArguments } from '../functions/cached-function.js'
import { makeCacheMultiOnArguments } from '../functions/cached-multi-function.js'
import { checkKey, functionKeyGenerator, functionMultiKeyGenerator } from '../functions/keys.js'
import type { FunctionStore } from '../functions/types.js'
import { expectTracker } from './checks.js'
import { checkRegionOptions, configureRegion, identify } from './configure.js'
import { regionCreations } from './create.js'
import { explain } from './explain.js'
import { regionInvalidations } from './invalidate.js'
import { regionReads } from './read.js'
import { fromSettings } from './settings-reader.js'
import { type RegionHandle, regionHandle, titleOf } from './state.js'
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
export function makeRegion<V = unknown>(options: RegionOptions = {}): Region<V> {
  checkRegionOptions(options)
  const identity = identify(options.name)
  const events = invalidationEvents(options.name)
  const handle = regionHandle(options.name)

  const reads = regionReads<V>(handle)
  const { refreshMulti, renew, ...creations } = regionCreations<V>(handle)
  const operations = {
    ...reads,
    ...creations,
    ...regionWrites<V>(handle),
    ...regionInvalidations(handle, events, reads),
    ...regionQuestions(handle),
  }
  const store: FunctionStore<V> = {
    ...operations,
    refreshMulti,
    renew,
    recordCall: (key, names, again) => handle.state?.calls?.record(key, names, again),
  }
  const { functionKeyGenerator: keys = functionKeyGenerator } = options
  const { functionMultiKeyGenerator: multiKeys = functionMultiKeyGenerator } = options

  const region: Region<V> = {
    name: options.name,
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
      releaseFormer(handle.replace(configureRegion(identity, options, more)))
      return region
    },
    configureFromConfig(settings, prefix) {
      const { buildBackend, ...more } = fromSettings(settings, prefix)
      // Before the backend is built: a second connection must not be left open.
      expectReplacing(handle, more)
      return configureBuilt(region, { ...more, backend: buildBackend() })
    },
    ...operations,
    on: events.on,
    cacheOnArguments: (cache) => makeCacheOnArguments<V>(store, cache, keys),
    cacheMultiOnArguments: (cache) => makeCacheMultiOnArguments<V>(store, cache, multiKeys),
    async close() {
      await handle.replace()?.release()
    },
  }
  events.attach(region, () => expectTracker(handle.use()))
  const { backend } = options
  if (backend !== undefined) handle.replace(configureRegion(identity, options, { backend }))
  return region
}

/** Creations under way still use the former backend. No caller awaits its end, so a failure of it is reported. */
function releaseFormer(former: ReturnType<RegionHandle['replace']>): void {
  former?.release().catch((error: unknown) => report('failure', () => ({ where: 'close', error })))
}

/** Configures a region with a backend that no other region has: it is closed if it is refused. */
function configureBuilt<V>(region: Region<V>, options: ConfigureOptions): Region<V> {
  try {
    return region.configure(options)
  } catch (error) {
    void ignoreRejection(attempt(() => options.backend.close()))
    throw error
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
function regionQuestions({ operation }: RegionHandle): Pick<Region, 'asOf' | 'explain' | 'keyIsLocked'> {
  return {
    asOf: () => operation((region) => expectTracker(region).asOf([region.own])),
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

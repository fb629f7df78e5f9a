import { report } from '../base/diagnostics.js'
import { CorralError } from '../base/errors.js'
import { orElse } from '../base/maybe-promise.js'
import { regionSignals } from '../events/invalidation-events.js'
import { makeCacheOnArguments } from '../functions/cached-function.js'
import { makeCacheMultiOnArguments } from '../functions/cached-multi-function.js'
import { checkKey, functionKeyGenerator, functionMultiKeyGenerator } from '../functions/keys.js'
import type { FunctionStore } from '../functions/types.js'
import { expectTracker } from './checks.js'
import { checkRegionOptions, configureRegion, identify } from './configure.js'
import { regionCreations } from './create.js'
import { explain } from './explain.js'
import { regionHolder } from './holder.js'
import { regionInvalidations } from './invalidate.js'
import { regionReads } from './read.js'
import { fromSettings, replaces } from './settings-reader.js'
import type { Region, RegionOptions } from './types.js'
import { regionWrites } from './write.js'

/**
 * Makes a region, configured at once when a `backend` is given, else later by `configure`.
 * Functions may be decorated before that; using the region throws `ERR_NOT_CONFIGURED`.
 * @throws CorralError `ERR_OPTION` or `ERR_CHAIN` when an option cannot be right.
 */
export function makeRegion<V = unknown>(options: RegionOptions = {}): Region<V> {
  checkRegionOptions(options)
  const { name } = options
  const identity = identify(name)
  const signals = regionSignals(name)
  const holder = regionHolder(name)
  const { use, operation } = holder

  const reads = regionReads<V>(holder)
  const { refreshMulti, renew, ...creations } = regionCreations<V>(holder)
  const writes = regionWrites<V>(holder)
  const invalidations = regionInvalidations(holder, signals, reads)
  const store: FunctionStore<V> = {
    ...reads,
    ...creations,
    ...writes,
    ...invalidations,
    refreshMulti,
    renew,
    asOf: () => region.asOf(),
    recordCall: (key, names, again) => holder.calls?.record(key, names, again),
  }

  const region: Region<V> = {
    name,
    get isConfigured() {
      return holder.configured !== undefined
    },
    get actualBackend() {
      return use().backend.actual
    },
    get guarantees() {
      const { backend, limits } = use()
      return { reach: backend.reach, limits }
    },
    configure(more) {
      const { configured } = holder
      if (configured !== undefined && more?.replaceExistingBackend !== true)
        throw new CorralError(
          'ERR_ALREADY_CONFIGURED',
          `Region ${name === undefined ? '' : `'${name}' `}is configured already, with backend '${configured.backend.name}'. Say replaceExistingBackend: true to replace it.`,
        )
      const former = holder.adopt(configureRegion(identity, options, more))
      // Creations under way still use the former backend; that it cannot be closed is nobody's to catch.
      former?.release().catch((error: unknown) => report('failure', () => ({ where: 'close', error })))
      return region
    },
    configureFromConfig(settings, prefix) {
      // Before anything is made of the settings: a second connection must not be left open.
      if (holder.configured !== undefined && !replaces(settings, prefix)) region.configure({} as never)
      const more = fromSettings(settings, prefix)
      try {
        return region.configure(more)
      } catch (error) {
        void orElse(
          () => more.backend.close(),
          () => {},
        )
        throw error
      }
    },
    ...reads,
    ...creations,
    ...writes,
    ...invalidations,
    on: signals.on,
    asOf: () => operation((at) => expectTracker(at).asOf([at.own])),
    explain: (key) =>
      operation((at) => {
        checkKey(key)
        return explain(at, key)
      }),
    keyIsLocked: (key) =>
      operation((at) => {
        checkKey(key)
        return at.backend.held(key)
      }),
    cacheOnArguments: (cache) =>
      makeCacheOnArguments<V>(store, cache, options.functionKeyGenerator ?? functionKeyGenerator),
    cacheMultiOnArguments: (cache) =>
      makeCacheMultiOnArguments<V>(
        store,
        cache,
        options.functionMultiKeyGenerator ?? functionMultiKeyGenerator,
      ),
    async close() {
      await holder.close()?.release()
    },
  }
  signals.attach(region, () => expectTracker(use()))
  if (options.backend !== undefined)
    holder.adopt(configureRegion(identity, options, { backend: options.backend }))
  return region
}

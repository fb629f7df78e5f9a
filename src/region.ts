import type { Outcome } from './backend.js'
import { makeCacheMultiOnArguments, makeCacheOnArguments, type RegionAccess } from './cached-function.js'
import { type CachedValue, type Metadata, NO_VALUE, type NoValue } from './cached-value.js'
import { stamp } from './clock.js'
import { type Assembled, assemble, checkRegionOptions, identify } from './configure.js'
import { listNames } from './dependencies/names.js'
import { isVersion, refuseVersions } from './dependencies/versions.js'
import { diagnostics, report } from './diagnostics.js'
import type { Found } from './dogpile-types.js'
import { milliseconds } from './duration.js'
import { CorralError, refuseUnknown } from './errors.js'
import { explain } from './explain.js'
import { UNCACHEABLE } from './gathering.js'
import { typed } from './guard.js'
import { checkKey, checkKeys, functionKeyGenerator, functionMultiKeyGenerator } from './keys.js'
import type { Remembered } from './ledger.js'
import { andThen, handled, isPromise, type MaybePromise, orElse } from './maybe-promise.js'
import {
  checkCreateOptions,
  checkCreator,
  checkMode,
  checkPairs,
  explicitTracker,
  requireAsOf,
} from './region-checks.js'
import {
  assess,
  deliver,
  handOut,
  type Made,
  type Plan,
  physicalLifetime,
  plainlyFresh,
  seen,
  suits,
} from './region-core.js'
import type {
  CreateOptions,
  Creator,
  MultiCreator,
  ReadOptions,
  Region,
  RegionOptions,
  SetOptions,
} from './region-types.js'
import { runRenewal } from './scope.js'
import { fromSettings, replaces } from './settings.js'
import { regionSignals } from './signals/region-events.js'
import type { Cause } from './signals/source.js'
import { softenKey } from './soften.js'
import { stepsOf } from './steps.js'

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
  let configured: Assembled | undefined
  let calls: Remembered | undefined
  let closed = false

  const adopt = (next: Assembled | undefined): void => {
    configured = next
    calls = next?.tracker?.calls?.()
  }

  const use = (): Assembled => {
    if (configured !== undefined) return configured
    if (closed)
      throw new CorralError(
        'ERR_CLOSED',
        `Region ${name === undefined ? '' : `'${name}' `}was closed. Configure it again to use it.`,
      )
    throw new CorralError(
      'ERR_NOT_CONFIGURED',
      `Region ${name === undefined ? '' : `'${name}' `}is used before it is configured. Call region.configure({ backend }) at start-up.`,
    )
  }
  /** Whatever goes wrong in an operation of a region is a rejection. */
  const operation = <R>(work: (region: Assembled) => MaybePromise<R>): Promise<R> => {
    try {
      const result = work(use())
      return isPromise(result) ? result : Promise.resolve(result)
    } catch (error) {
      return Promise.reject(error)
    }
  }

  const limitOf = (given: CreateOptions<never>['expirationTime']) =>
    given === undefined
      ? undefined
      : typeof given === 'number' && given > 0
        ? given
        : milliseconds(given, 'expirationTime')

  const give = <T>(region: Assembled, key: string, entry: CachedValue, limit: number | undefined): T => {
    if (reads.hasSubscribers) reads.publish({ region: region.name, key, result: 'hit' })
    handOut(region, key, entry, false, limit)
    return entry.payload as T
  }

  /** A single read of the chain, its failures typed. */
  const readOne = ({ chain }: Assembled, key: string): MaybePromise<CachedValue | undefined> => {
    try {
      return chain.get(key)
    } catch (error) {
      throw typed(chain.name, error)
    }
  }

  const getOne = (key: string, read?: ReadOptions): Promise<V | NoValue> => {
    try {
      const region = use()
      checkKey(key)
      const limit = limitOf(read?.expirationTime)
      const found = readOne(region, key)
      if (plainlyFresh(region, found, limit)) return Promise.resolve(give<V>(region, key, found, limit))
      const staleToo = read?.ignoreExpiration === true
      if (!isPromise(found)) return Promise.resolve(deliver<V>(region, key, found, limit, staleToo))
      return found.then(
        (entry) => deliver<V>(region, key, entry, limit, staleToo),
        (error) => {
          throw typed(region.chain.name, error)
        },
      )
    } catch (error) {
      return Promise.reject(error)
    }
  }

  const getMany = (keys: readonly string[], read: ReadOptions = {}): Promise<(V | NoValue)[]> =>
    operation((region) => {
      checkKeys(keys)
      const limit = limitOf(read.expirationTime)
      return andThen(region.backend.getMulti(keys), (entries) =>
        Promise.all(
          entries.map((entry, i) =>
            deliver<V>(region, keys[i] as string, entry, limit, read.ignoreExpiration === true),
          ),
        ),
      )
    })

  const planOf = (create: Plan['create'], options: CreateOptions<never>): Plan => {
    checkCreateOptions(options)
    const { expirationTime, shouldCache } = options
    return { create, expiration: limitOf(expirationTime), shouldCache }
  }
  const runOptions = ({ wait, signal }: CreateOptions<never>) => ({
    wait: wait === undefined ? undefined : milliseconds(wait, 'wait'),
    signal,
  })

  /** The slow half of getOrCreate. Of a thousand callers one needs the steps, so the others do not build them. */
  const createOne = <T>(
    region: Assembled,
    key: string,
    creator: Creator<T>,
    options: CreateOptions<never>,
    expiration: number | undefined,
    seen: readonly Found<Made>[],
  ): Promise<T> => {
    if (reads.hasSubscribers)
      reads.publish({ region: region.name, key, result: seen === NOTHING ? 'miss' : 'stale' })
    const steps = () =>
      stepsOf(
        region,
        planOf((_, creation) => one(creator(creation)), options),
      )
    const wait = options.wait === undefined ? undefined : milliseconds(options.wait, 'wait')
    return region.pile
      .run(key, steps, { wait, signal: options.signal, seen, accept: suits })
      .then(({ entry }) => {
        handOut(region, key, entry, entry.metadata.stale === true, expiration)
        return entry.payload as T
      })
  }

  const getOrCreate = <T extends V>(
    key: string,
    creator: Creator<T>,
    create?: CreateOptions<T>,
  ): Promise<T> => {
    try {
      const region = use()
      checkKey(key)
      checkCreator(creator)
      const limit = limitOf(create?.expirationTime)
      const found = readOne(region, key)
      if (plainlyFresh(region, found, limit)) return Promise.resolve(give<T>(region, key, found, limit))
      const options = (create ?? NO_OPTIONS) as CreateOptions<never>
      if (typeof options !== 'object') checkCreateOptions(options)
      if (found === undefined) return createOne<T>(region, key, creator, options, limit, NOTHING)
      const go = (entry: CachedValue | undefined): MaybePromise<T> =>
        andThen(seen(region, key, entry, limit), (first) =>
          first.state === 'fresh'
            ? give<T>(region, key, entry as CachedValue, limit)
            : createOne<T>(
                region,
                key,
                creator,
                options,
                limit,
                first.state === 'missing' ? NOTHING : [first],
              ),
        )
      if (!isPromise(found)) return Promise.resolve(go(found))
      return found.then(go, (error) => {
        throw typed(region.chain.name, error)
      })
    } catch (error) {
      return Promise.reject(error)
    }
  }

  const getOrCreateMulti = <T extends V>(
    keys: readonly string[],
    creator: MultiCreator<T>,
    create: CreateOptions<T> = {},
  ): Promise<(T | NoValue)[]> =>
    operation(async (region) => {
      checkKeys(keys)
      checkCreator(creator)
      if (keys.length === 0) return []
      const options = create as CreateOptions<never>
      const plan = planOf(creator, options)
      const unique = [...new Set(keys)].sort()
      const made = await region.pile.runMulti(unique, stepsOf(region, plan), {
        ...runOptions(options),
        accept: suits,
      })
      for (const [key, { entry }] of made)
        handOut(region, key, entry, entry.metadata.stale === true, plan.expiration)
      return keys.map((key) => made.get(key)?.entry.payload as T)
    })

  /** Creates a softly invalidated value anew; `false`: what was made could not be stored, and the older value stays. */
  const renew = <T>(key: string, creator: MultiCreator<T>, create: CreateOptions<T>): Promise<boolean> =>
    operation(async (region) => {
      checkKey(key)
      const options = create as CreateOptions<never>
      const plan = planOf(creator, options)
      const { filled } = await region.pile.renew(key, stepsOf(region, plan), runOptions(options))
      // What is kept back by choice, such as NO_VALUE for a record that is gone, must not be outlived by an older value.
      if (filled === 'kept') await region.backend.delete(key)
      return filled === 'stored' || filled === 'kept'
    })

  /** Creates anew, in one creation. What could not be stored leaves nothing behind: an older value must not outlive it. */
  const refreshMulti = <T>(
    keys: readonly string[],
    creator: MultiCreator<T>,
    create: CreateOptions<T> = {},
  ): Promise<(T | NoValue)[]> =>
    operation(async (region) => {
      checkKeys(keys)
      if (keys.length === 0) return []
      const options = create as CreateOptions<never>
      const plan = planOf(creator, options)
      const renewed = await region.pile.renewMulti(
        [...new Set(keys)],
        stepsOf(region, plan),
        runOptions(options),
      )
      for (const [key, { value, filled }] of renewed) {
        if (filled !== 'stored') await region.backend.delete(key)
        handOut(region, key, value.entry, false, plan.expiration)
      }
      return keys.map((key) => renewed.get(key)?.value.entry.payload as T)
    })
  const refresh = async <T>(key: string, creator: Creator<T>, create?: CreateOptions<T>): Promise<T> => {
    const [value] = await refreshMulti<T>([key], (_, creation) => one(creator(creation)) as never, create)
    return value as T
  }

  const setMany = (
    given: Iterable<readonly [key: string, value: V]>,
    set: SetOptions = {},
  ): Promise<readonly Outcome[]> =>
    operation(async (region) => {
      const values = checkPairs(given)
      refuseUnknown(set, SET_OPTIONS, 'set()')
      const expiresIn = limitOf(set.expirationTime)
      const { dependencies = [] } = set
      if (dependencies.length > 0) requireAsOf(region, set)
      if (values.length === 0) return []
      if (dependencies.includes(UNCACHEABLE)) {
        await region.backend.deleteMulti(values.map(([key]) => key))
        return values.map(() => 'refused' as const)
      }
      const { tracker } = region
      const asOf = set.asOf ?? (await tracker?.asOf([region.own]))
      const createdAt = region.precise.now()
      const metadata: Metadata = {
        startedAt: stamp(createdAt),
        createdAt,
        ...(expiresIn !== undefined && { expiresIn }),
        ...(asOf !== undefined && {
          basis: {
            epoch: asOf.epoch,
            groups: [{ a: asOf.at, names: [region.own, ...dependencies.filter((one) => !isVersion(one))] }],
            ...(dependencies.some(isVersion) && { versions: dependencies.filter(isVersion) }),
          },
        }),
      }
      const life = physicalLifetime(expiresIn ?? region.expiration)
      const writes = values.map(
        ([key, payload]) => [key, { payload, metadata } as CachedValue, life] as const,
      )
      const [only] = writes
      const outcomes =
        writes.length === 1 && only !== undefined
          ? [await region.backend.set(...only)]
          : await region.backend.setMulti(writes)
      region.pile.detach(values.map(([key]) => key))
      return outcomes
    })

  const removeMany = (keys: readonly string[], cause?: Cause): Promise<void> =>
    operation((region) => {
      checkKeys(keys)
      return signals.around('key', keys, 'hard', cause, async () => {
        const [only] = keys
        if (keys.length === 1 && only !== undefined) await region.backend.delete(only)
        else if (keys.length > 0) await region.backend.deleteMulti(keys)
        region.pile.detach(keys)
      })
    })

  const region: Region<V> = {
    name,
    get isConfigured() {
      return configured !== undefined
    },
    get actualBackend() {
      return use().backend.actual
    },
    get lease() {
      const { backend, limits } = use()
      return { reach: backend.reach, limits }
    },
    configure(more) {
      if (configured !== undefined && more?.replaceExistingBackend !== true)
        throw new CorralError(
          'ERR_ALREADY_CONFIGURED',
          `Region ${name === undefined ? '' : `'${name}' `}is configured already, with backend '${configured.backend.name}'. Say replaceExistingBackend: true to replace it.`,
        )
      const next = assemble(identity, options, more)
      const former = configured
      adopt(next)
      // Creations under way still use the former backend; that it cannot be closed is nobody's to catch.
      former?.release().catch((error: unknown) => report('failure', () => ({ where: 'close', error })))
      return region
    },
    configureFromConfig(settings, prefix) {
      // Before anything is made of the settings: a second connection must not be left open.
      if (configured !== undefined && !replaces(settings, prefix)) region.configure({} as never)
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

    get: getOne,
    getMulti: getMany,
    peek(key, read) {
      const at = use()
      checkKey(key)
      const found = readOne(at, key)
      const limit = limitOf(read?.expirationTime)
      if (plainlyFresh(at, found, limit)) return give<V>(at, key, found, limit)
      const answer: MaybePromise<V | NoValue> = isPromise(found)
        ? found.then(() => NO_VALUE)
        : deliver<V>(at, key, found, limit, read?.ignoreExpiration === true)
      if (!isPromise<V | NoValue>(answer)) return answer as V | NoValue
      void handled(answer)
      throw new CorralError(
        'ERR_ASYNC_BACKEND',
        `peek() needs a chain that answers at once; '${at.backend.name}' or a layer around it answers later, or the check of a version does. Use get().`,
      )
    },
    has: async (key, read) => (await getOne(key, read)) !== NO_VALUE,
    getValueMetadata: (key, read = {}) =>
      operation(async (at) => {
        checkKey(key)
        const found = await at.backend.get(key)
        const limit = limitOf(read.expirationTime)
        const freshness = await assess(at, key, found, limit)
        if (
          found === undefined ||
          freshness === 'dead' ||
          (freshness === 'stale' && read.ignoreExpiration !== true)
        )
          return undefined
        handOut(at, key, found, freshness === 'stale', limit)
        return {
          payload: found.payload as V,
          metadata: found.metadata,
          age: at.precise.now() - found.metadata.createdAt,
        }
      }),
    getOrCreate,
    getOrCreateMulti,

    set: async (key, value, set) => (await setMany([[key, value]], set))[0] ?? 'lost',
    setMulti: setMany,
    delete: (key, cause) => removeMany([key], cause),
    deleteMulti: removeMany,
    invalidateKey(key, mode = 'hard', cause = undefined) {
      if (mode === 'hard') return removeMany([key], cause)
      return operation((at) => {
        checkKey(key)
        checkMode(mode)
        return signals.around('key', [key], mode, cause, async () => {
          await softenKey(at, key)
          at.pile.detach([key])
        })
      })
    },
    invalidate: (mode = 'hard', cause = undefined) =>
      operation((at) => {
        checkMode(mode)
        return signals.around('region', [at.own], mode, cause, () =>
          at.invalidator !== undefined
            ? at.invalidator.invalidate(mode, stamp(at.precise.now()))
            : at.tracker?.invalidate([at.own], mode),
        )
      }),
    invalidateDependencies: (names, mode = 'hard', cause = undefined) =>
      operation((at) => {
        checkMode(mode)
        const list = listNames(names)
        refuseVersions(list, true)
        const tracker = explicitTracker(at)
        return signals.around('dependencies', list, mode, cause, () => tracker.invalidate(list, mode))
      }),
    refreshDependencies: (names, cause) =>
      operation((at) => {
        const list = listNames(names)
        refuseVersions(list, true)
        const tracker = explicitTracker(at)
        return runRenewal(calls ?? at, async (left) => {
          await signals.around('dependencies', list, 'soft', cause, () => tracker.invalidate(list, 'soft'))
          // A creator that asks for its own renewal is that renewal.
          const others = left(calls?.keys(list) ?? []).filter((key) => !at.pile.makes(key))
          await calls?.renew(others, region)
        })
      }),
    on: signals.on,
    asOf: () => operation((at) => explicitTracker(at).asOf([at.own])),

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
      makeCacheOnArguments<V>(access, cache, options.functionKeyGenerator ?? functionKeyGenerator),
    cacheMultiOnArguments: (cache) =>
      makeCacheMultiOnArguments<V>(
        access,
        cache,
        options.functionMultiKeyGenerator ?? functionMultiKeyGenerator,
      ),

    close: async () => {
      const former = configured
      adopt(undefined)
      closed = true
      await former?.release()
    },
  }
  signals.attach(region)
  const access: RegionAccess<V> = {
    region,
    refresh,
    refreshMulti,
    renew,
    remember: (key, names, again) => calls?.note(key, names, again),
  }
  if (options.backend !== undefined) adopt(assemble(identity, options, { backend: options.backend }))
  return region
}

const reads = diagnostics('read')
const SET_OPTIONS = ['expirationTime', 'dependencies', 'asOf']
const NO_OPTIONS = {}
/** What most callers have found before they create. */
const NOTHING: readonly Found<Made>[] = [{ state: 'missing' }]

function one(value: unknown): MaybePromise<readonly unknown[]> {
  return isPromise(value) ? Promise.resolve(value).then((later: unknown) => [later]) : [value]
}

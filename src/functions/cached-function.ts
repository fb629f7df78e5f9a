import type { Duration } from '../base/duration.js'
import { andThen, type MaybePromise } from '../base/maybe-promise.js'
import type { CreateOptions } from '../creation/types.js'
import { dependsOn } from '../dependencies/depends-on.js'
import { resolveVersions } from '../ledger/checked-names.js'
import { declared } from './declarations.js'
import { attempt, dress, loadedWhen } from './members.js'
import type { AnyFunction } from './options.js'
import type { CachedFunction, CacheOptions, FunctionStore } from './types.js'

/** A function whose results are kept in a region, each under the key of its arguments, with its members. */
export function cached<V>(
  store: FunctionStore<V>,
  options: CacheOptions,
  fn: AnyFunction,
  keyOf: (...args: readonly unknown[]) => string,
  self?: unknown,
): CachedFunction<readonly unknown[], V> {
  const run = (args: readonly unknown[]) => Reflect.apply(fn, self, args) as MaybePromise<V>
  const names = declared(options)
  const make = (args: readonly unknown[], key: string): MaybePromise<V> =>
    names === undefined
      ? run(args)
      : andThen(resolveVersions(names.fromArguments(args)), (ahead) => {
          dependsOn(ahead)
          store.recordCall(key, ahead, self === undefined ? () => again(args) : whileReachable(weakly, args))
          return andThen(run(args), (result) => {
            dependsOn(names.fromResult(result, args))
            return result
          })
        })
  const create = (args: readonly unknown[]): CreateOptions<V> => ({
    expirationTime: lifetime(options, args),
    ...(options.shouldCache !== undefined && {
      shouldCache: options.shouldCache as (value: V, key: string) => boolean,
    }),
    ...(options.wait !== undefined && { wait: options.wait }),
  })
  // Built once where nothing depends on the arguments: a hit must not pay for it.
  const constant = typeof options.expirationTime === 'function' ? undefined : create([])
  const call = (...args: unknown[]) =>
    attempt(() => store.getOrCreate(keyOf(...args), ({ key }) => make(args, key), constant ?? create(args)))
  const again = (args: readonly unknown[]) =>
    attempt(() =>
      store.renew(
        keyOf(...args),
        ([key]) => andThen(make(args, key as string), (value) => [value]),
        constant ?? create(args),
      ),
    )
  const weakly = new WeakRef(again)
  const invalidate = (...args: readonly unknown[]) => attempt(() => store.delete(keyOf(...args)))
  return dress(call, fn, {
    original: (...args: readonly unknown[]) => run(args),
    key: (...args: readonly unknown[]) => keyOf(...args),
    get: (...args: readonly unknown[]) =>
      attempt(() => store.get(keyOf(...args), { expirationTime: lifetime(options, args) })),
    set: (value: V, ...args: readonly unknown[]) =>
      attempt(async () => {
        const key = keyOf(...args)
        const keep =
          (options.shouldCache as ((value: V, key: string) => boolean) | undefined)?.(value, key) ?? true
        const expirationTime = lifetime(options, args)
        if (!keep) await store.delete(key)
        else if (names === undefined) await store.set(key, value, { expirationTime })
        else throw loadedWhen()
      }),
    refresh: (...args: readonly unknown[]) =>
      attempt(() => store.refresh(keyOf(...args), ({ key }) => make(args, key), constant ?? create(args))),
    invalidate: Object.assign(invalidate, {
      soft: (...args: readonly unknown[]) => attempt(() => store.expire(keyOf(...args))),
    }),
  }) as CachedFunction<readonly unknown[], V>
}

function lifetime({ expirationTime }: CacheOptions, args: readonly unknown[]): Duration | undefined {
  return typeof expirationTime === 'function'
    ? (expirationTime as (...args: readonly unknown[]) => Duration | undefined)(...args)
    : expirationTime
}

type Again = (args: readonly unknown[]) => Promise<boolean>

/** Must not be made where the instance is in sight: what is remembered would keep it alive. */
function whileReachable(again: WeakRef<Again>, args: readonly unknown[]): () => Promise<boolean> {
  return () => again.deref()?.(args) ?? Promise.resolve(true)
}

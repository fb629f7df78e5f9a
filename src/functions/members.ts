import type { NoValue } from '../backend/cached-value.js'
import { CorralError } from '../base/errors.js'
import type { CreateOptions, Creator, MultiCreator, Region } from '../region/types.js'
import type { AnyFunction } from './options.js'

/** What a cached function needs of its region. */
export interface RegionAccess<V> {
  readonly region: Region<V>
  refresh<T extends V>(key: string, creator: Creator<T>, options?: CreateOptions<T>): Promise<T>
  refreshMulti<T extends V>(
    keys: readonly string[],
    creator: MultiCreator<T>,
    options?: CreateOptions<T>,
  ): Promise<(T | NoValue)[]>
  /** Creates a softly invalidated value anew; `false`: what was made could not be stored, and the older value stays. */
  renew<T extends V>(key: string, creator: MultiCreator<T>, options: CreateOptions<T>): Promise<boolean>
  /** Notes what a key is made from and how it is made anew, for `refreshDependencies`. */
  recordCall(key: string, names: readonly string[], renew: () => Promise<boolean>): void
}

export function loadedWhen(): CorralError {
  return new CorralError(
    'ERR_AS_OF_MISSING',
    'A value with dependencies needs to know as of when it was loaded: take `const asOf = await region.asOf()` before loading, and pass { dependencies, asOf } to region.set(fn.key(…), value, …), with fn.keys(…) for functions of many ids. Or use refresh().',
  )
}

/** Unencodable arguments reject like everything else that goes wrong in a call. */
export function attempt<R>(work: () => Promise<R>): Promise<R> {
  try {
    return work()
  } catch (error) {
    return Promise.reject(error)
  }
}

/** Gives a wrapper its members, and the name and length of what it wraps. */
export function dress(wrapper: (...args: never[]) => unknown, fn: AnyFunction, members: object): unknown {
  for (const property of ['name', 'length'] as const)
    Object.defineProperty(wrapper, property, { value: fn[property], configurable: true })
  return Object.assign(wrapper, members)
}

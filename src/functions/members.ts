import { CorralError } from '../base/errors.js'
import type { AnyFunction } from './options.js'

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

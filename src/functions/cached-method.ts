import { CorralError } from '../base/errors.js'
import { cached } from './cached-function.js'
import { functionKeyGenerator, type KeyPart } from './keys.js'
import { dress } from './members.js'
import type { AnyFunction } from './options.js'
import type { CachedFunction, CacheOptions, FunctionStore } from './types.js'

/** How the cached function of a method is had for one instance. */
export const methods = new WeakMap<object, (self: object) => unknown>()

/** A method whose results are kept, for each instance apart or for all together, as `self` says. */
export function cachedMethod<V>(
  store: FunctionStore<V>,
  options: CacheOptions,
  fn: AnyFunction,
  keysIn: (namespace?: string) => (...args: readonly unknown[]) => string,
  namespace: string,
  context: ClassMethodDecoratorContext,
): unknown {
  const { self } = options
  if (self === undefined && !context.static)
    throw new CorralError(
      'ERR_OPTION',
      `Expected \`self\` for the method '${String(context.name)}': all instances would share its entries. Give self: (instance) => instance.id, or self: 'shared'.`,
    )
  const part = typeof self === 'function' ? (self as (instance: unknown) => KeyPart) : undefined
  const shared = keysIn()
  const bound = new WeakMap<object, CachedFunction<readonly unknown[], V>>()
  const bind = (instance: object): CachedFunction<readonly unknown[], V> => {
    let found = bound.get(instance)
    if (found === undefined) {
      // The instance is a matter of the namespace: a generator may expect nothing but the method's own arguments.
      const key =
        part === undefined
          ? shared
          : (...args: readonly unknown[]) =>
              keysIn(functionKeyGenerator(namespace || 'self', fn)(part(instance)))(...args)
      bound.set(instance, (found = cached(store, options, fn, key, instance)))
    }
    return found
  }
  const method = function (this: object | undefined, ...args: readonly unknown[]) {
    if (typeof this !== 'object' && typeof this !== 'function')
      return Promise.reject(
        new CorralError(
          'ERR_OPTION',
          `The cached method '${String(context.name)}' was called without its instance. Call it as instance.${String(context.name)}(…).`,
        ),
      )
    return bind(this)(...args)
  }
  methods.set(method, bind as (self: object) => unknown)
  return dress(method, fn, {})
}

/**
 * The cached function behind a decorated method, bound to its instance, with `.get .set .invalidate .refresh` and so on.
 * @throws CorralError `ERR_OPTION` when the method is not a cached one.
 */
export function methodOf<I extends object, N extends keyof I>(
  instance: I,
  name: N,
): I[N] extends (...args: infer A) => Promise<infer T> ? CachedFunction<A, T> : never {
  const bind = methods.get(instance[name] as object)
  if (bind === undefined)
    throw new CorralError(
      'ERR_OPTION',
      `Expected '${String(name)}' to be a method decorated with cacheOnArguments().`,
    )
  return bind(instance) as never
}

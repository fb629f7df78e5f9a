import type { AnyFunction, Arguments } from '../base/any-function.js'
import { attempt } from '../base/maybe-promise.js'
import { expectThat, rejectOptions } from '../base/options.js'
import { dress } from './members.js'
import type { CachedFunction, CacheOptions } from './types.js'

type Bind = (instance: object) => (...args: Arguments) => Promise<unknown>

/** Leads from a decorated method to the cached function of an instance. */
const methods = new WeakMap<object, Bind>()

/**
 * The cached function behind a decorated method, bound to its instance, with `.get .set .invalidate .refresh` and so on.
 * @example
 * ```ts
 * import { makeRegion, methodOf } from 'corral'
 *
 * const prices = makeRegion<number>()
 * class Shop {
 *   constructor(readonly id: number) {}
 *
 *   @prices.cacheOnArguments({ namespace: 'price', self: (shop: Shop) => shop.id })
 *   async price(article: string): Promise<number> {
 *     return article.length + this.id
 *   }
 * }
 * const forget = (shop: Shop) => methodOf(shop, 'price').invalidate('tea')
 * ```
 * @throws CorralError `ERR_OPTION` if the method is not a cached one.
 */
export function methodOf<I extends object, N extends keyof I>(
  instance: I,
  name: N,
): I[N] extends (...args: infer A) => Promise<infer T> ? CachedFunction<A, T> : never {
  const bind = methods.get(instance[name] as object)
  if (bind === undefined)
    rejectOptions(
      `Expected '${String(name)}' to be a method decorated with cacheOnArguments(). Decorate it, or call the function itself.`,
    )
  return bind(instance) as never
}

/** A method whose results are kept for each instance apart, or for all instances together, as `self` says. */
export function cachedMethod(
  fn: AnyFunction,
  self: CacheOptions['self'],
  place: { readonly name: string | symbol; readonly static: boolean },
  cachedFor: Bind,
): unknown {
  const name = String(place.name)
  if (self === undefined && !place.static)
    rejectOptions(
      `Expected \`self\` for the method '${name}', got none: all instances would share its entries. Give self: (instance) => instance.id, or self: 'shared'.`,
    )
  const bound = new WeakMap<object, ReturnType<Bind>>()
  const bind: Bind = (instance) => {
    let found = bound.get(instance)
    if (found === undefined) bound.set(instance, (found = cachedFor(instance)))
    return found
  }
  const method = function (this: unknown, ...args: Arguments) {
    return attempt(() => {
      const onInstance = `the cached method '${name}' to be called on its instance`
      expectThat(Object(this) === this, this, onInstance, `Call it as instance.${name}(…).`)
      return bind(this as object)(...args)
    })
  }
  // Found by methodOf().
  methods.set(method, bind)
  return dress(method, fn, {})
}

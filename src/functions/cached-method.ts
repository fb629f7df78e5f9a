import type { AnyFunction, Arguments } from '../base/any-function.js'
import { formatValue } from '../base/errors.js'
import { attempt } from '../base/maybe-promise.js'
import { expectThat, rejectOptions } from '../base/options.js'
import { processGlobal } from '../base/process-global.js'
import { dress } from './members.js'
import type { Declaring } from './namespaces.js'
import type { CachedFunction, CacheOptions } from './types.js'

type Bind = (instance: object) => (...args: Arguments) => Promise<unknown>

/** Leads from a decorated method to the cached function of an instance. */
const methods = processGlobal('methods', () => new WeakMap<object, Bind>())

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
): I[N] extends (...args: infer A extends readonly unknown[]) => Promise<infer T>
  ? CachedFunction<A, T>
  : never {
  const method = (instance as I | null | undefined)?.[name]
  const bind = method && methods.get(method as object)
  if (bind === undefined)
    rejectOptions(
      `Expected '${String(name)}' to be a method decorated with cacheOnArguments(). Decorate it as the outermost, or call the function itself.`,
    )
  return bind(instance) as never
}

/** The place of a method in its class. */
interface MethodPlace {
  readonly name: string | symbol
  readonly static: boolean
  /** The class of a static method, once it is known. */
  home?: object
}

interface Decorated {
  readonly fn: AnyFunction
  /** `undefined`: a function, not a method. */
  readonly place?: MethodPlace
  /** The result of the decorator: the method, or the descriptor of it. */
  readonly finish: (method: unknown) => unknown
}

/**
 * Reads the arguments of a function call, of a standard decorator or of a legacy one (`experimentalDecorators`).
 * @throws CorralError `ERR_OPTION` for anything but a function or method.
 */
export function decorated(given: Arguments): Decorated {
  const [first, second, third] = given as readonly [unknown, unknown, PropertyDescriptor | undefined]
  const finish = (method: unknown) => method
  if (typeof second === 'string' || typeof second === 'symbol') {
    const fn: unknown = third?.value
    expectMethod(typeof fn === 'function', `the property '${String(second)}'`)
    const place = typeof first === 'function' ? { static: true, home: first } : { static: false }
    return {
      fn: fn as AnyFunction,
      place: { name: second, ...place },
      finish: (value) => ({ ...third, value }),
    }
  }
  const context = second as ClassMethodDecoratorContext | undefined
  if (context !== undefined) expectMethod(context?.kind === 'method', `a ${String(context?.kind)}`)
  expectThat(typeof first === 'function', first, 'cacheOnArguments() to wrap a function')
  const fn = first as AnyFunction
  if (/^class\b/.test(Function.prototype.toString.call(fn))) expectMethod(false, `the class '${fn.name}'`)
  if (context === undefined) return { fn, finish }
  const place: MethodPlace = { name: context.name, static: context.static }
  if (context.static)
    context.addInitializer(function (this: unknown) {
      place.home = this as object
    })
  return { fn, place, finish }
}

/** Whether it is the second argument of a decorator, standard or legacy. */
function isDecorated(second: unknown): boolean {
  return /string|symbol/.test(typeof second) || (second as DecoratorContext | undefined)?.kind !== undefined
}

/** @throws CorralError `ERR_OPTION` where a function that wraps functions stands as a decorator, which would lose `this`. */
export function expectNoDecorator(where: string, [first, context]: Arguments): void {
  if (!isDecorated(context)) return
  const call = where.slice(0, -1)
  rejectOptions(
    /^cache(OnArguments|Results)/.test(where)
      ? `Expected ${where} to receive its options, got the method or class of a decorator (${formatValue(first)}). Call it: @${call}options).`
      : `Expected ${where} to wrap a function, got the method or class of a decorator (${formatValue(first)}). In a class field call it: field = ${call}(…ids) => …, { namespace }).`,
  )
}

/** @throws CorralError `ERR_OPTION` where the function stands behind its options, which alone would be taken. */
export function expectFunctionFirst(where: string, second: unknown): void {
  expectThat(
    second === undefined,
    second,
    `${where} to get the function first`,
    `Call it as ${where.slice(0, -1)}fn, options).`,
  )
}

/** Caches the function that comes first, or returns a decorator of functions where the options come first. */
export function functionFirst<O>(
  where: string,
  [first, second]: Arguments,
  called: AnyFunction,
  cacher: (options: O, by?: Declaring) => (fn: AnyFunction) => unknown,
): unknown {
  expectNoDecorator(where, [first, second])
  if (typeof first === 'function') return cacher(second as O, { called, inside: 1 })(first as AnyFunction)
  expectFunctionFirst(where, second)
  return cacher(first as O)
}

function expectMethod(fits: boolean, got: string): void {
  if (!fits)
    rejectOptions(
      `Expected cacheOnArguments() to decorate a method, got ${got}. In a class field call it: field = region.cacheOnArguments(fn, { namespace, self }).`,
    )
}

/** A method whose results are kept for each instance apart, or for all instances together, as `self` says. */
export function cachedMethod(
  fn: AnyFunction,
  self: CacheOptions['self'],
  place: MethodPlace | undefined,
  cachedFor: (instance: object | undefined) => (...args: Arguments) => Promise<unknown>,
): unknown {
  const name = String(place?.name ?? fn.name)
  if (self === undefined && place?.static === false)
    rejectOptions(
      `Expected \`self\` for the method '${name}', got none: all instances would share its entries. Give self: (instance) => instance.id, or self: 'shared'.`,
    )
  const bound = new WeakMap<object, ReturnType<Bind>>()
  const bind: Bind = (instance) => {
    let found = bound.get(instance)
    if (found === undefined) {
      if (self === undefined && place !== undefined) expectHome(place, instance)
      bound.set(instance, (found = cachedFor(instance)))
    }
    return found
  }
  // A function in a class field takes its instance from its closure, and may be called without one.
  const isInstanceKnown = self === 'shared' || self?.length === 0
  const unbound = place === undefined && isInstanceKnown ? cachedFor(undefined) : undefined
  if (unbound !== undefined && isArrow(fn)) {
    methods.set(unbound, () => unbound)
    return unbound
  }
  const method = function (this: unknown, ...args: Arguments) {
    return attempt(() => {
      if (unbound !== undefined && Object(this) !== this) return unbound(...args)
      const onInstance = `the cached method '${name}' to be called on its instance`
      expectThat(Object(this) === this, this, onInstance, `Call it as instance.${name}(…).`)
      return bind(this as object)(...args)
    })
  }
  // Found by methodOf().
  methods.set(method, bind)
  return dress(method, fn, { ...unbound })
}

/**
 * Whether a function has the `this` of its surroundings, however it is called. One that is not recognized is only bound in vain.
 * A method named `async` looks like an arrow function.
 */
function isArrow(fn: AnyFunction): boolean {
  return fn.name !== 'async' && /^(async\b\s*)?(\(|[^\s(]+\s*=>)/.test(Function.prototype.toString.call(fn))
}

/** A derived class calls an inherited static method on itself, and would get the entries of the class that declares it. */
function expectHome(place: MethodPlace, caller: object): void {
  place.home ??= caller
  if (place.home !== caller)
    rejectOptions(
      `Expected \`self\` for the static method '${String(place.name)}', which is called on a derived class, got none: the classes would share its entries. Give self: (of) => of.table, or self: 'shared'.`,
    )
}

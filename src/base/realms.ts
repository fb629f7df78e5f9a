/**
 * Values of another realm: they come out of `vm` contexts and out of Electron, and inside Jest out of core modules and native
 * drivers. Their classes are not those of this realm, although they are the same language's.
 */
import { types } from 'node:util'

const { isNativeError } = types

/** The built-in classes, each with a test that knows an instance of any realm. */
const BUILT_IN: Readonly<Record<string, (value: object) => boolean>> = {
  Object: (value) => Object.getPrototypeOf(Object.getPrototypeOf(value)) === null,
  Array: Array.isArray,
  Map: types.isMap,
  Set: types.isSet,
  Date: types.isDate,
  RegExp: types.isRegExp,
  ArrayBuffer: types.isArrayBuffer,
  DataView: types.isDataView,
  Boolean: types.isBooleanObject,
  Number: types.isNumberObject,
  String: types.isStringObject,
  ...Object.fromEntries(
    ['Int8', 'Uint8', 'Int16', 'Uint16', 'Int32', 'Uint32', 'Float32', 'Float64', 'BigInt64', 'BigUint64']
      .map((kind) => `${kind}Array`)
      .concat('Uint8ClampedArray')
      .map((name) => [name, (value: object) => Object.prototype.toString.call(value) === `[object ${name}]`]),
  ),
  ...Object.fromEntries(
    ['Error', 'EvalError', 'RangeError', 'ReferenceError', 'SyntaxError', 'TypeError', 'URIError'].map(
      (name) => [name, isNativeError],
    ),
  ),
}

const own = globalThis as unknown as Readonly<Record<string, { readonly prototype: object }>>

/** The prototypes of other realms that were met. */
const known = new WeakMap<object, object>()

/**
 * The prototype of a value in this realm: for a value of a built-in class of another realm the prototype of the same class
 * here, `null` for a value that inherits nothing, for every other value its own.
 */
export function prototypeHere(value: object): object | null {
  const prototype: object | null = Object.getPrototypeOf(value)
  if (prototype === null || prototype === Object.prototype) return prototype
  const found = known.get(prototype)
  if (found !== undefined) return found
  const maker: unknown = Object.getOwnPropertyDescriptor(prototype, 'constructor')?.value
  // Such are the objects of parsers of query strings, which save the cost of Object.create(null).
  if (maker === undefined && isEmptyRoot(prototype)) return null
  if (typeof maker !== 'function' || maker.prototype !== prototype) return prototype
  const fits = Object.hasOwn(BUILT_IN, maker.name) ? BUILT_IN[maker.name] : undefined
  const here = own[maker.name]?.prototype
  if (fits === undefined || here === undefined || here === prototype || !fits(value) || !isBuiltIn(maker))
    return prototype
  known.set(prototype, here)
  return here
}

/** Whether all properties of a value are its own: a plain object of any realm. */
export function isPlainObject(value: object): value is Record<string, unknown> {
  const prototype = prototypeHere(value)
  return prototype === null || prototype === Object.prototype
}

/** Whether objects with this prototype inherit nothing. */
function isEmptyRoot(prototype: object): boolean {
  return Object.getPrototypeOf(prototype) === null && Reflect.ownKeys(prototype).length === 0
}

/** Whether a class is the language's. A class of an application may have the same name. */
function isBuiltIn(maker: object): boolean {
  return Function.prototype.toString.call(maker).endsWith('{ [native code] }')
}

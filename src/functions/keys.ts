import { types } from 'node:util'
import type { AnyFunction, Arguments } from '../base/any-function.js'
import { CorralError, formatValue } from '../base/errors.js'
import { frozenCopy } from '../base/frozen.js'
import { MAX_DEPTH, shortPath } from '../base/nesting.js'
import { expectThat, factory, optionError, ownOptions, rejectUnknownOptions } from '../base/options.js'
import { checkWhole, ignoreRejections } from '../base/parts.js'
import { isPlainObject } from '../base/realms.js'
import { mayCountArguments } from './arity.js'
import { tellsAll } from './captured.js'

/**
 * The values that the default key generators can tell apart without doubt.
 * @example
 * ```ts
 * import type { KeyPart } from 'corral'
 *
 * const parts: KeyPart[] = [1, 'one', 1n, null, new Date(0), [true], { page: 1 }]
 * ```
 */
export type KeyPart =
  | string
  | number
  | bigint
  | boolean
  | null
  | undefined
  | Date
  | readonly KeyPart[]
  | { readonly [name: string]: KeyPart }

/**
 * Makes the keys of a function's calls. The outer function runs once, when a function is decorated.
 * @example
 * ```ts
 * import type { FunctionKeyGenerator } from 'corral'
 *
 * const byFirst: FunctionKeyGenerator = (namespace) => (first) => `${namespace}/${String(first)}`
 * ```
 */
export type FunctionKeyGenerator = (
  namespace: string,
  fn: AnyFunction,
  options?: { readonly exactArity?: boolean | undefined },
) => (...args: Arguments) => string

/**
 * Makes the keys of a function of many ids: one key for each id, in the order of the ids.
 * @example
 * ```ts
 * import type { FunctionMultiKeyGenerator } from 'corral'
 *
 * const plain: FunctionMultiKeyGenerator = (namespace) => (...ids) => ids.map((id) => `${namespace}/${String(id)}`)
 * ```
 */
export type FunctionMultiKeyGenerator = (
  namespace: string,
  fn: AnyFunction,
) => (...ids: Arguments) => readonly string[]

/**
 * The default: `namespace|1,"two",[3]`. Different namespaces or arguments always make different keys. Trailing
 * `undefined` arguments count as absent, as they do for the function. Only a function with rest parameters, or one that
 * reads `arguments`, can tell them apart: if its source may say so, or is hidden, their number counts, or as `exactArity` says.
 * @example
 * ```ts
 * import { functionKeyGenerator } from 'corral'
 *
 * const keyOf = functionKeyGenerator('user', () => undefined)
 * keyOf(5, { deep: true }) // 'user|5,{"deep":true}'
 * ```
 * @throws CorralError `ERR_KEY_ARGUMENT` naming the argument that it cannot encode.
 */
export const functionKeyGenerator: FunctionKeyGenerator = tellsAll((namespace, fn, options) => {
  const prefix = prefixOf(namespace)
  const exact = options?.exactArity ?? mayCountArguments(fn)
  return (...args) => {
    let count = args.length
    if (!exact) while (count > 0 && args[count - 1] === undefined) count--
    let key = prefix
    // Not `checkWhole`: a hit must not pay for its closure.
    try {
      for (let i = 0; i < count; i++) {
        if (i > 0) key += ','
        key += encode(args[i], i)
      }
    } catch (error) {
      ignoreRejections(args)
      throw error
    }
    return key
  }
})

/**
 * The default for many ids: the key of each id is that of a function called with the id alone.
 * @example
 * ```ts
 * import { functionMultiKeyGenerator } from 'corral'
 *
 * functionMultiKeyGenerator('user', () => undefined)(5, 6) // ['user|5', 'user|6']
 * ```
 * @throws CorralError `ERR_KEY_ARGUMENT` for an id that it cannot encode.
 */
export const functionMultiKeyGenerator: FunctionMultiKeyGenerator = tellsAll((namespace, fn) => {
  const keyOf = functionKeyGenerator(namespace, fn, { exactArity: false })
  return (...ids) => checkWhole(ids, () => ids.map((id) => keyOf(id)))
})

/**
 * For functions that take one object of options. Fields that are `undefined`, or equal to their default, do not
 * count, so that `f({ id: 1 })` and `f({ id: 1, page: 1 })` share a key when `page` defaults to 1.
 * @example
 * ```ts
 * import { makeRegion, optionsKeyGenerator } from 'corral'
 *
 * const loadPage = makeRegion<string>().cacheOnArguments({
 *   namespace: 'page',
 *   functionKeyGenerator: optionsKeyGenerator({ defaults: { page: 1 } }),
 * })(async ({ id, page = 1 }: { id: number; page?: number }) => `${id}/${page}`)
 * ```
 * @throws CorralError `ERR_OPTION` for an unknown option; `ERR_KEY_ARGUMENT` when called with anything but one object.
 */
export const optionsKeyGenerator: (options?: {
  readonly defaults?: Readonly<Record<string, KeyPart>>
}) => FunctionKeyGenerator = /* @__PURE__ */ factory({
  optionsKeyGenerator(options = {}) {
    options = ownOptions(options)
    rejectUnknownOptions(options, ['defaults'], 'optionsKeyGenerator()')
    const { defaults = {} } = options
    const fits = typeof defaults === 'object' && isPlainObject(defaults)
    expectThat(fits, defaults, '`defaults` of optionsKeyGenerator() to be a plain object')
    const standard = new Map(
      Object.entries(defaults).map(([name, value]) => [
        name,
        encode(value, name, { value: defaults, step: 0 }),
      ]),
    )
    const counts = (name: string, text: string) => text !== 'undefined' && standard.get(name) !== text
    return tellsAll((namespace) => {
      const prefix = prefixOf(namespace)
      return (...args) => {
        const [value = {}] = args
        return checkWhole(args, () => {
          if (args.length <= 1 && typeof value === 'object' && value !== null && isPlainObject(value))
            return prefix + encodeFields(value, { value, step: 0 }, counts)
          throw new CorralError(
            'ERR_KEY_ARGUMENT',
            `Expected a single object of options to make a key of '${namespace}', got ${args.length} arguments, the first ${formatValue(value)}. Pass one object, or use functionKeyGenerator.`,
          )
        })
      }
    })
  },
})

/** @throws CorralError `ERR_NAMESPACE` unless it is a non-empty string, or missing where it is not `needed`. */
export function checkNamespace(namespace: unknown, needed = true): string {
  if (typeof namespace === 'string' && namespace !== '') return namespace
  if (namespace === undefined && !needed) return ''
  throw new CorralError(
    'ERR_NAMESPACE',
    `Expected \`namespace\` to be a non-empty string, got ${formatValue(namespace)}. Names of functions change when code is minified: ` +
      `name it yourself, such as { namespace: 'user' }.`,
  )
}

/** @throws CorralError `ERR_KEY` unless it is a string. */
export function checkKey(key: unknown): void {
  if (typeof key !== 'string')
    throw new CorralError(
      'ERR_KEY',
      `Expected a key to be a string, got ${formatValue(key)}. Make one of other values with functionKeyGenerator().`,
    )
}

/** The keys as a list that no later change reaches. @throws CorralError `ERR_KEY` unless it is an array of strings. */
export function listKeys(keys: unknown): readonly string[] {
  if (!Array.isArray(keys))
    throw new CorralError(
      'ERR_KEY',
      `Expected an array of keys, got ${formatValue(keys)}. Pass ['a', 'b'], or use the form for one key.`,
    )
  const list = frozenCopy(keys as readonly string[])
  checkWhole(list, () => list.forEach(checkKey))
  return list
}

/** @throws CorralError `ERR_OPTION` unless a generator returned the function that makes the keys. */
export function expectKeysOf<F extends AnyFunction>(keysOf: F): F {
  if (typeof keysOf === 'function') return keysOf
  ignoreRejections(keysOf)
  const remedy = 'It is called when a function is declared: (namespace) => (...args) => key.'
  throw optionError(keysOf, 'a key generator to return a function of the arguments', remedy)
}

function prefixOf(namespace: string): string {
  return `${checkNamespace(namespace).replace(/[\\|]/g, '\\$&')}|`
}

/** A value among the arguments: the way to it for messages, and the objects around it to find a cycle. */
interface Place {
  readonly value: unknown
  /** The number of the argument, or the name or position inside the object around it. */
  readonly step: string | number
  readonly around?: Place | undefined
}

/** Each kind of value has another first character, so that no two kinds can look alike. */
function encode(value: unknown, step: string | number, around?: Place): string {
  if (typeof value === 'string') return JSON.stringify(value)
  if (typeof value === 'number') return Object.is(value, -0) ? '-0' : String(value)
  if (typeof value === 'bigint') return `${value}n`
  if (typeof value === 'boolean' || value === undefined || value === null) return String(value)
  const place = { value, step, around }
  if (typeof value !== 'object') throw refusal(place, `is a ${typeof value}`)
  let depth = 0
  for (let outer = around; outer !== undefined; outer = outer.around) {
    if (outer.value === value) throw refusal(place, 'is part of itself')
    if (++depth > MAX_DEPTH) throw refusal(place, `is nested deeper than ${MAX_DEPTH}`)
  }
  if (Array.isArray(value)) return encodeElements(value, place)
  if (types.isDate(value)) {
    if (Number.isNaN(value.getTime())) throw refusal(place, 'is an invalid date')
    return `@${value.getTime()}`
  }
  if (isPlainObject(value)) return encodeFields(value, place)
  throw refusal(place, `is an instance of ${value.constructor?.name || 'an unnamed class'}`)
}

/** The elements of an array. A function can tell a hole from `undefined`, and reads properties that are no elements. */
function encodeElements(value: readonly unknown[], place: Place): string {
  const names = Object.keys(value)
  let others = names.length
  let text = ''
  for (let i = 0; i < value.length; i++) {
    if (i > 0) text += ','
    if (Object.hasOwn(value, i)) {
      text += encode(value[i], i, place)
      others--
    } else text += '_'
  }
  if (others === 0) return `[${text}]`
  const remedy =
    'Pass a plain array of its elements, such as [...match], and what else counts as arguments of their own'
  throw refusal(place, `is an array with properties beside its elements, such as '${names.at(-1)}'`, remedy)
}

/** The fields of a plain object, sorted by name; only those that count. */
function encodeFields(
  value: Record<string, unknown>,
  place: Place,
  counts: (name: string, text: string) => boolean = () => true,
): string {
  if (Object.getOwnPropertySymbols(value).length > 0) throw refusal(place, 'has symbols for names')
  const names = Object.keys(value).sort()
  const fields = names.flatMap((name) => {
    const text = encode(value[name], name, place)
    return counts(name, text) ? [`${JSON.stringify(name)}:${text}`] : []
  })
  return `{${fields.join()}}`
}

function refusal(refused: Place, reason: string, remedy = 'Pass an id instead'): CorralError {
  // A refused promise has no other handler for its rejection.
  formatValue(refused.value)
  let path = ''
  let place = refused
  for (; place.around !== undefined; place = place.around)
    path = (typeof place.step === 'number' ? `[${place.step}]` : `.${place.step}`) + path
  return new CorralError(
    'ERR_KEY_ARGUMENT',
    `Expected argument ${place.step}${path && ` at ${shortPath(path)}`} to be a string, number, bigint, boolean, null, undefined, date, array or plain object; it ${reason}. ` +
      `${remedy}, or give a \`functionKeyGenerator\` of your own.`,
  )
}

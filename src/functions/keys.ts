import { CorralError, formatValue } from '../base/errors.js'

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
  fn: (...args: never[]) => unknown,
) => (...args: readonly unknown[]) => string

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
  fn: (...args: never[]) => unknown,
) => (...ids: readonly unknown[]) => readonly string[]

/**
 * The default: `namespace|1,"two",[3]`. Different namespaces or arguments always make different keys. Trailing
 * `undefined` arguments count as absent, as they do for the function.
 * @example
 * ```ts
 * import { functionKeyGenerator } from 'corral'
 *
 * const keyOf = functionKeyGenerator('user', () => undefined)
 * keyOf(5, { deep: true }) // 'user|5,{"deep":true}'
 * ```
 * @throws CorralError `ERR_KEY_ARGUMENT` naming the argument that it cannot encode.
 */
export const functionKeyGenerator: FunctionKeyGenerator = (namespace) => {
  const prefix = prefixOf(namespace)
  return (...args) => {
    let count = args.length
    while (count > 0 && args[count - 1] === undefined) count--
    let key = prefix
    for (let i = 0; i < count; i++) {
      if (i > 0) key += ','
      key += encode(args[i], i, [])
    }
    return key
  }
}

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
export const functionMultiKeyGenerator: FunctionMultiKeyGenerator = (namespace, fn) => {
  const keyOf = functionKeyGenerator(namespace, fn)
  return (...ids) => ids.map((id) => keyOf(id))
}

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
 * @throws CorralError `ERR_KEY_ARGUMENT` when called with anything but one object.
 */
export function optionsKeyGenerator({
  defaults = {},
}: {
  readonly defaults?: Readonly<Record<string, KeyPart>>
} = {}): FunctionKeyGenerator {
  const standard = new Map(Object.entries(defaults).map(([name, value]) => [name, encode(value, 0, [name])]))
  return (namespace) => {
    const prefix = prefixOf(namespace)
    return (...args) => {
      const [options = {}] = args
      if (args.length > 1 || !isPlainObject(options))
        throw new CorralError(
          'ERR_KEY_ARGUMENT',
          `Expected a single object of options to make a key of '${namespace}', got ${args.length} arguments, the first ${formatValue(options)}. Pass one object, or use functionKeyGenerator.`,
        )
      const counts = (name: string, value: unknown, text: string) =>
        value !== undefined && standard.get(name) !== text
      return prefix + encodeFields(options, 0, [], [], counts)
    }
  }
}

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

/** @throws CorralError `ERR_KEY` unless it is an array of strings. */
export function checkKeys(keys: unknown): void {
  if (!Array.isArray(keys))
    throw new CorralError(
      'ERR_KEY',
      `Expected an array of keys, got ${formatValue(keys)}. Pass ['a', 'b'], or use the form for one key.`,
    )
  keys.forEach(checkKey)
}

function prefixOf(namespace: string): string {
  return `${checkNamespace(namespace).replace(/[\\|]/g, '\\$&')}|`
}

type Path = readonly (string | number)[]

/** Each kind of value has another first character, so that no two kinds can look alike. */
function encode(value: unknown, argument: number, path: Path, within: readonly object[] = []): string {
  switch (typeof value) {
    case 'string':
      return JSON.stringify(value)
    case 'number':
      return Object.is(value, -0) ? '-0' : String(value)
    case 'bigint':
      return `${value}n`
    case 'boolean':
    case 'undefined':
      return String(value)
    case 'object':
      return value === null ? 'null' : encodeObject(value, argument, path, within)
    default:
      throw refusal(argument, path, `is a ${typeof value}`)
  }
}

function encodeObject(value: object, argument: number, path: Path, within: readonly object[]): string {
  if (within.includes(value)) throw refusal(argument, path, 'is part of itself')
  if (Array.isArray(value))
    return `[${Array.from(value as unknown[], (part, i) => encode(part, argument, [...path, i], [...within, value])).join()}]`
  if (value instanceof Date) {
    if (Number.isNaN(value.getTime())) throw refusal(argument, path, 'is an invalid date')
    return `@${value.getTime()}`
  }
  if (isPlainObject(value)) return encodeFields(value, argument, path, [...within, value])
  throw refusal(argument, path, `is an instance of ${value.constructor?.name || 'an unnamed class'}`)
}

/** The fields of a plain object, sorted by name; only those that count. */
function encodeFields(
  value: Record<string, unknown>,
  argument: number,
  path: Path,
  within: readonly object[],
  counts: (name: string, value: unknown, text: string) => boolean = () => true,
): string {
  if (Object.getOwnPropertySymbols(value).length > 0) throw refusal(argument, path, 'has symbols for names')
  const names = Object.keys(value).sort()
  const fields = names.flatMap((name) => {
    const part = value[name]
    const text = encode(part, argument, [...path, name], within)
    return counts(name, part, text) ? [`${JSON.stringify(name)}:${text}`] : []
  })
  return `{${fields.join()}}`
}

function isPlainObject(value: unknown): value is Record<string, unknown> {
  if (typeof value !== 'object' || value === null) return false
  const prototype: unknown = Object.getPrototypeOf(value)
  return prototype === null || prototype === Object.prototype || Object.getPrototypeOf(prototype) === null
}

function refusal(argument: number, path: Path, reason: string): CorralError {
  const place = path.map((part) => (typeof part === 'number' ? `[${part}]` : `.${part}`)).join('')
  return new CorralError(
    'ERR_KEY_ARGUMENT',
    `Expected argument ${argument}${place && ` at ${place}`} to be a string, number, bigint, boolean, null, undefined, date, array or plain object; it ${reason}. ` +
      'Pass an id instead, or give a `functionKeyGenerator` of your own.',
  )
}

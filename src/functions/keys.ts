import { CorralError, formatValue } from '../base/errors.js'

/** What the default key generators can tell apart without doubt. */
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

/** Makes the key of a call. The outer call happens once, when a function is decorated. */
export type FunctionKeyGenerator = (
  namespace: string,
  fn: (...args: never[]) => unknown,
) => (...args: readonly unknown[]) => string

/** The same for functions that take many ids and answer many values: one key for each. */
export type FunctionMultiKeyGenerator = (
  namespace: string,
  fn: (...args: never[]) => unknown,
) => (...ids: readonly unknown[]) => readonly string[]

/**
 * The default: `namespace|1,"two",[3]`. Different namespaces or arguments always make different keys. Trailing
 * `undefined` arguments count as absent, as they do for the function.
 * @throws CorralError `ERR_KEY_ARGUMENT` naming the argument that it cannot encode.
 */
export const functionKeyGenerator: FunctionKeyGenerator = (namespace) => {
  const prefix = `${escapeNamespace(namespace)}|`
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

/** The default for many ids: the key of each is that of a function called with it alone. */
export const functionMultiKeyGenerator: FunctionMultiKeyGenerator = (namespace, fn) => {
  const keyOf = functionKeyGenerator(namespace, fn)
  return (...ids) => ids.map((id) => keyOf(id))
}

/**
 * For functions that take one object of options. Fields that are `undefined`, or equal to their default, do not
 * count, so that `f({ id: 1 })` and `f({ id: 1, page: 1 })` share a key when `page` defaults to 1.
 * @throws CorralError `ERR_KEY_ARGUMENT` when called with anything but one object.
 */
export function optionsKeyGenerator({
  defaults = {},
}: {
  readonly defaults?: Readonly<Record<string, KeyPart>>
} = {}): FunctionKeyGenerator {
  const standard = new Map(Object.entries(defaults).map(([name, value]) => [name, encode(value, 0, [name])]))
  return (namespace) => {
    const prefix = `${escapeNamespace(namespace)}|`
    return (...args) => {
      const [options = {}] = args
      if (args.length > 1 || !isPlainObject(options))
        throw new CorralError(
          'ERR_KEY_ARGUMENT',
          `Expected a single object of options to make a key of '${namespace}', got ${args.length} arguments, the first ${formatValue(options)}.`,
        )
      if (Object.getOwnPropertySymbols(options).length > 0) throw refusal(0, [], 'has symbols for names')
      const fields = Object.entries(options)
        .filter(([, value]) => value !== undefined)
        .map(([name, value]) => [name, encode(value, 0, [name])] as const)
        .filter(([name, text]) => standard.get(name) !== text)
      return `${prefix}{${fields.sort(byName).map(([name, text]) => `${JSON.stringify(name)}:${text}`)}}`
    }
  }
}

/** @throws CorralError `ERR_NAMESPACE` unless it is a non-empty string. */
export function checkNamespace(namespace: unknown): string {
  if (typeof namespace === 'string' && namespace !== '') return namespace
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
    throw new CorralError('ERR_KEY', `Expected an array of keys, got ${formatValue(keys)}.`)
  keys.forEach(checkKey)
}

function escapeNamespace(namespace: string): string {
  return checkNamespace(namespace).replace(/[\\|]/g, '\\$&')
}

function byName([one]: readonly [string, string], [other]: readonly [string, string]): number {
  return one < other ? -1 : one > other ? 1 : 0
}

function isPlainObject(value: unknown): value is Record<string, unknown> {
  if (typeof value !== 'object' || value === null) return false
  const prototype: unknown = Object.getPrototypeOf(value)
  return prototype === null || prototype === Object.prototype || Object.getPrototypeOf(prototype) === null
}

/** Every kind of value has a first character of its own, so that no two kinds can look alike. */
function encode(
  value: unknown,
  argument: number,
  path: readonly (string | number)[],
  within: readonly object[] = [],
): string {
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
      if (value === null) return 'null'
      if (within.includes(value)) throw refusal(argument, path, 'is part of itself')
      if (Array.isArray(value))
        return `[${Array.from(value as unknown[], (part, i) => encode(part, argument, [...path, i], [...within, value])).join()}]`
      if (value instanceof Date) {
        if (Number.isNaN(value.getTime())) throw refusal(argument, path, 'is an invalid date')
        return `@${value.getTime()}`
      }
      if (isPlainObject(value)) {
        if (Object.getOwnPropertySymbols(value).length > 0)
          throw refusal(argument, path, 'has symbols for names')
        const fields = Object.entries(value).map(
          ([name, part]) => [name, encode(part, argument, [...path, name], [...within, value])] as const,
        )
        return `{${fields.sort(byName).map(([name, text]) => `${JSON.stringify(name)}:${text}`)}}`
      }
      throw refusal(argument, path, `is an instance of ${value.constructor?.name || 'an unnamed class'}`)
    default:
      throw refusal(argument, path, `is a ${typeof value}`)
  }
}

function refusal(argument: number, path: readonly (string | number)[], reason: string): CorralError {
  const place = path.map((part) => (typeof part === 'number' ? `[${part}]` : `.${part}`)).join('')
  return new CorralError(
    'ERR_KEY_ARGUMENT',
    `Expected argument ${argument}${place && ` at ${place}`} to be a string, number, bigint, boolean, null, undefined, date, array or plain object; it ${reason}. ` +
      'Pass an id instead, or give a `functionKeyGenerator` of your own.',
  )
}

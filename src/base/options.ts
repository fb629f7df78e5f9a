/**
 * Checks of options and arguments, so that every refusal has one form: "Expected …, got …. Do this."
 *
 * A check takes the value first and then the words for it: ``expectText(name, '`name` of broadcast()')``. An option
 * that may be missing gets its default before the check, or the caller skips the check.
 */
import type { AnyFunction } from './any-function.js'
import { CorralError, formatValue } from './errors.js'
import { isPlainObject } from './realms.js'

/** The error of a value that does not fit: "Expected ‹expected›, got ‹value›. ‹remedy›" */
export function optionError(value: unknown, expected: string, remedy = ''): CorralError {
  // Where a function fits, it is not refused for being one: it is the factory of the thing that is expected.
  const call = typeof value === 'function' ? ` If it makes one, call it: ${value.name || 'it'}(…).` : ''
  const got = `Expected ${expected}, got ${formatValue(value)}.${call}`
  return new CorralError('ERR_OPTION', remedy === '' ? got : `${got} ${remedy}`)
}

/** @throws CorralError `ERR_OPTION` unless `fits`; the other parameters are those of `optionError`. */
export function expectThat(fits: boolean, value: unknown, expected: string, remedy?: string): asserts fits {
  if (!fits) throw optionError(value, expected, remedy)
}

/**
 * Refuses options that do not go together, or that no other check covers. The message is the caller's own.
 * @throws CorralError `ERR_OPTION`
 */
export function rejectOptions(message: string): never {
  throw new CorralError('ERR_OPTION', message)
}

const FACTORY = Symbol.for('corral.factory')

/**
 * Marks a function that makes the function which an option expects: without its call it would pass for that one.
 * @param named - the function as a method, whose name is shown in messages: of a function a bundler may change it
 */
export function factory<F extends AnyFunction>(named: Readonly<Record<string, F>>): F {
  return Object.assign(Object.values(named)[0] as F, { [FACTORY]: true })
}

/** @throws CorralError `ERR_OPTION` unless it is a function, and not the factory of one. */
export function expectFunction(
  value: unknown,
  subject: string,
  kind = 'a function',
): asserts value is AnyFunction {
  expectThat(typeof value === 'function' && !(FACTORY in value), value, `${subject} to be ${kind}`)
}

/** @throws CorralError `ERR_OPTION` unless it is an object that has all the methods. */
export function expectMethods(
  value: unknown,
  methods: readonly string[],
  expected: string,
  remedy?: string,
): void {
  const members = value as Readonly<Record<string, unknown>> | null | undefined
  expectThat(
    methods.every((method) => typeof members?.[method] === 'function'),
    value,
    expected,
    remedy,
  )
}

/** @throws CorralError `ERR_OPTION` unless it is a string with something in it. */
export function expectText(
  value: unknown,
  subject: string,
  kind = 'a non-empty string',
): asserts value is string {
  expectThat(typeof value === 'string' && value !== '', value, `${subject} to be ${kind}`)
}

/**
 * The value, a whole number within bounds. `Infinity` passes only where `most` is `Infinity`.
 * @throws CorralError `ERR_OPTION`
 */
export function expectInteger(
  value: unknown,
  subject: string,
  least = 1,
  most: number = Number.MAX_SAFE_INTEGER,
): number {
  const number = value as number
  const whole = Number.isSafeInteger(value) || value === Number.POSITIVE_INFINITY
  const end = most < Number.MAX_SAFE_INTEGER ? `to ${most}` : 'up'
  const orInfinity = most === Number.POSITIVE_INFINITY ? ', or Infinity' : ''
  expectThat(
    whole && number >= least && number <= most,
    value,
    `${subject} to be a whole number from ${least} ${end}${orInfinity}`,
  )
  return number
}

/** @throws CorralError `ERR_OPTION` unless it is true or false. */
export function expectBoolean(value: unknown, subject: string): asserts value is boolean {
  expectOneOf(value, subject, [true, false])
}

/** @throws CorralError `ERR_OPTION` unless it is one of the choices. */
export function expectOneOf<T extends string | boolean>(
  value: unknown,
  subject: string,
  choices: readonly T[],
): asserts value is T {
  const names = choices.map((choice) => (typeof choice === 'string' ? `'${choice}'` : String(choice)))
  const last = names.pop()
  expectThat(choices.includes(value as T), value, `${subject} to be ${names.join(', ')} or ${last}`)
}

/** Options that hold a caller's own data, which may be `null`, and one whose `null` has an error of its own. */
const OWN_DATA = ['before', 'info', 'meta', 'asOf']

/**
 * Refuses an option that the library does not read: a misspelt name must not be silently ignored. `null` is refused as well,
 * because it is neither a value nor the default.
 * @throws CorralError `ERR_OPTION` naming the unknown option and the known ones.
 */
export function rejectUnknownOptions(options: object, known: readonly string[], where: string): void {
  expectThat(
    typeof options === 'object' && options !== null && isPlainObject(options),
    options,
    `the options of ${where} to be a plain object`,
  )
  for (const [name, value] of Object.entries(options)) {
    if (value === null && known.includes(name) && !OWN_DATA.includes(name))
      throw optionError(value, `a value for \`${name}\` of ${where}`, 'Leave it out to get the default.')
    if (!known.includes(name))
      throw new CorralError(
        'ERR_OPTION',
        `Unknown option \`${name}\` of ${where}. ${didYouMean(name, known)}It takes${known.length > 0 ? `: ${known.join(', ')}` : ' none'}.`,
      )
  }
}

/**
 * The options as they are at the call. A getter could return another value to the check than to the use, and a caller may change
 * its object later. An object of a class is left to the check, which refuses it.
 */
export function ownOptions<O>(options: O): O {
  return typeof options === 'object' && options !== null && isPlainObject(options) ? { ...options } : options
}

/**
 * Refuses options of a function that takes none: its caller expects something of them.
 * @param given - the arguments behind those that the function takes
 * @throws CorralError `ERR_OPTION`
 */
export function expectNoOptions(given: readonly unknown[], where: string): void {
  // Anything else, such as the index that map() passes, is no options.
  for (const one of given)
    if (typeof one === 'object' && one !== null && isPlainObject(one)) rejectUnknownOptions(one, [], where)
}

/**
 * The known name that a misspelt one most likely stands for, as a question; empty if none is near.
 * @param before - text that stands before each of the names
 */
export function didYouMean(name: string, known: readonly string[], before = ''): string {
  const most = Math.floor(name.length / 3)
  let nearest: string | undefined
  let least = most + 1
  for (const one of known) {
    const distance = editDistance(name.toLowerCase(), one.toLowerCase(), least)
    if (distance < least) [nearest, least] = [one, distance]
  }
  // A name that was cut short, such as `expiration`.
  if (name.length > 3) nearest ??= known.find((one) => one.toLowerCase().startsWith(name.toLowerCase()))
  return nearest === undefined ? '' : `Did you mean \`${before}${nearest}\`? `
}

/** So many letters have to be inserted, deleted, replaced or exchanged with the next one; at least `limit` if it is more. */
function editDistance(one: string, other: string, limit: number): number {
  if (Math.abs(one.length - other.length) >= limit) return limit
  let beforeLast: number[] = []
  let last = Array.from({ length: other.length + 1 }, (_, i) => i)
  for (let i = 1; i <= one.length; i++) {
    const row = [i]
    for (let j = 1; j <= other.length; j++) {
      const same = one[i - 1] === other[j - 1]
      const swapped = i > 1 && j > 1 && one[i - 1] === other[j - 2] && one[i - 2] === other[j - 1]
      row[j] = Math.min(
        (last[j] ?? limit) + 1,
        (row[j - 1] ?? limit) + 1,
        (last[j - 1] ?? limit) + (same ? 0 : 1),
        swapped ? (beforeLast[j - 2] ?? limit) + 1 : limit,
      )
    }
    ;[beforeLast, last] = [last, row]
  }
  return last[other.length] ?? limit
}

/** A check of one value; `expectFunction`, `expectText`, `expectInteger`, `expectBoolean` and `expectDuration` are some. */
export type OptionCheck = (value: unknown, subject: string) => unknown

/**
 * Checks every option that is given, as in `checkOptions(options, 'relay()', { timeout: expectDuration })`. The subject of
 * a check is the option and the place, such as "`timeout` of relay()". An option that is `undefined` counts as missing.
 * @param required - options that are checked also where they are missing
 * @throws CorralError `ERR_OPTION` for an option without a check, or of a check.
 */
export function checkOptions(
  options: object,
  where: string,
  checks: Readonly<Record<string, OptionCheck>>,
  required: readonly string[] = [],
): void {
  rejectUnknownOptions(options, Object.keys(checks), where)
  for (const [name, check] of Object.entries(checks)) {
    const value = (options as Readonly<Record<string, unknown>>)[name]
    if (value !== undefined || required.includes(name)) check(value, `\`${name}\` of ${where}`)
  }
}

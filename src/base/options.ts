/**
 * Checks of options and arguments, so that every refusal has one form: "Expected …, got …. Do this."
 *
 * A check takes the value first and then the words for it: ``expectText(name, '`name` of broadcast()')``. An option
 * that may be missing gets its default before the check, or the caller skips the check.
 */
import { CorralError, formatValue } from './errors.js'

type AnyFunction = (...args: never[]) => unknown

/** The error of a value that does not fit: "Expected ‹expected›, got ‹value›. ‹remedy›" */
export function optionError(value: unknown, expected: string, remedy = ''): CorralError {
  const got = `Expected ${expected}, got ${formatValue(value)}.`
  return new CorralError('ERR_OPTION', remedy === '' ? got : `${got} ${remedy}`)
}

/** @throws CorralError `ERR_OPTION` unless `fits`; the other parameters are those of `optionError`. */
export function expectThat(fits: boolean, value: unknown, expected: string, remedy?: string): asserts fits {
  if (!fits) throw optionError(value, expected, remedy)
}

/** @throws CorralError `ERR_OPTION` unless it is a function. */
export function expectFunction(
  value: unknown,
  subject: string,
  kind = 'a function',
): asserts value is AnyFunction {
  expectThat(typeof value === 'function', value, `${subject} to be ${kind}`)
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

/**
 * Refuses an option that the library does not read: a misspelt name must not be silently ignored.
 * @throws CorralError `ERR_OPTION` naming the unknown option and the known ones.
 */
export function rejectUnknownOptions(options: object, known: readonly string[], where: string): void {
  expectThat(
    typeof options === 'object' && options !== null && !Array.isArray(options),
    options,
    `the options of ${where} to be an object`,
  )
  for (const name of Object.keys(options))
    if (!known.includes(name))
      throw new CorralError(
        'ERR_OPTION',
        `Unknown option \`${name}\` of ${where}. It takes: ${known.join(', ')}.`,
      )
}

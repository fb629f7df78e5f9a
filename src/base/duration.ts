import { formatValue } from './errors.js'
import { rejectOptions } from './options.js'

/**
 * A length of time. A number is milliseconds; `Infinity` is for ever.
 * @example
 * ```ts
 * import type { Duration } from 'corral'
 *
 * export const durations: Duration[] = ['5m', 300_000, Infinity]
 * ```
 */
export type Duration = number | `${number}${'ms' | 's' | 'm' | 'h' | 'd'}`

const UNITS = { ms: 1, s: 1_000, m: 60_000, h: 3_600_000, d: 86_400_000 } as const
const SHAPE = /^(\d+(?:\.\d+)?)(ms|s|m|h|d)$/

/**
 * Milliseconds of a duration, read once when something is built.
 * @throws CorralError `ERR_OPTION` unless it is above zero, in the form `5m` or a number of milliseconds.
 */
export function milliseconds(given: unknown, option: string): number {
  // Every hit with a lifetime of its own comes here, so the words for a refusal are made only for one.
  return typeof given === 'number' && given > 0 ? given : expectDuration(given, `\`${option}\``)
}

/**
 * Milliseconds of a duration, for settings that an application reads itself. Text needs a unit: `'90s'`, `'1.5h'`, or
 * `'Infinity'`.
 * @example
 * ```ts
 * import { duration } from 'corral'
 *
 * export const patience = duration(process.env.PATIENCE ?? '90s')
 * ```
 * @throws CorralError `ERR_OPTION` unless it is above zero.
 */
export function duration(given: string | number): number {
  return typeof given === 'string' ? durationSetting(given, 'duration') : milliseconds(given, 'duration')
}

/** The same with words for the value, as the other checks of options take them. */
export function expectDuration(given: unknown, subject: string): number {
  const value = typeof given === 'string' ? parse(given) : given
  if (typeof value === 'number' && value > 0) return value
  const remedy = subject.includes('expirationTime')
    ? ' To cache nothing, use nullBackend() or `shouldCache`.'
    : ''
  rejectOptions(
    `Expected ${subject} to be a duration above zero (milliseconds, Infinity, or with ms, s, m, h or d such as '5m'), got ${show(given)}.${remedy}`,
  )
}

/** A duration from a flat setting. A bare number is refused, because its unit is unknown. */
export function durationSetting(text: string, option: string): number {
  if (/^infinity$/i.test(text)) return Number.POSITIVE_INFINITY
  if (/^\d+(?:\.\d+)?$/.test(text))
    rejectOptions(`Expected \`${option}\` to carry a unit, got '${text}'. Write '${text}s' or '${text}ms'.`)
  return milliseconds(text, option)
}

function parse(text: string): number | undefined {
  const [, amount, unit] = SHAPE.exec(text) ?? []
  return amount === undefined ? undefined : Number(amount) * UNITS[unit as keyof typeof UNITS]
}

function show(value: unknown): string {
  if (typeof value === 'string') return `'${value}'`
  // Also handles the rejection of a promise.
  return typeof value === 'object' ? formatValue(value) : `\`${String(value)}\` (${typeof value})`
}

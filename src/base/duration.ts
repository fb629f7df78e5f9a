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
export function milliseconds(duration: unknown, option: string): number {
  return expectDuration(duration, `\`${option}\``)
}

/** The same with words for the value, as the other checks of options take them. */
export function expectDuration(duration: unknown, subject: string): number {
  const value = typeof duration === 'string' ? parse(duration) : duration
  if (typeof value === 'number' && value > 0) return value
  rejectOptions(
    `Expected ${subject} to be a duration above zero such as 300_000, '5m' or Infinity, got ${show(duration)}. ` +
      'To cache nothing, use nullBackend() or `shouldCache`.',
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
  return typeof value === 'string' ? `'${value}'` : `\`${String(value)}\` (${typeof value})`
}

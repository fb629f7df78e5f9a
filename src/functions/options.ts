import { milliseconds } from '../base/duration.js'
import { CorralError, formatValue } from '../base/errors.js'
import { rejectUnknownOptions } from '../base/options.js'
import { checkNamespace } from './keys.js'
import type { CacheMultiOptions, CacheOptions } from './types.js'

export type AnyFunction = (...args: never[]) => unknown

/** What all ways to cache a function know. */
export const COMMON = ['namespace', 'expirationTime', 'shouldCache', 'wait'] as const
export const DECLARATIONS = ['dependencies', 'resultDependencies', 'group'] as const

export function namespaceFor(namespace: unknown, needed: boolean): string {
  return namespace === undefined && !needed ? '' : checkNamespace(namespace)
}

export function mustBeFunction(where: string, fn: unknown): asserts fn is AnyFunction {
  if (typeof fn !== 'function')
    throw new CorralError('ERR_OPTION', `Expected ${where} to wrap a function, got ${formatValue(fn)}.`)
}

/** Refuses what no cached function knows. `time` says whether the life time may depend on the arguments. */
export function checkOptions(
  where: string,
  options: CacheOptions | CacheMultiOptions,
  known: readonly string[],
  time: 'function' | 'duration',
): void {
  if (typeof options === 'function')
    throw new CorralError(
      'ERR_OPTION',
      `Expected options before the function: ${where.slice(0, -1)}{ namespace })(fn).`,
    )
  rejectUnknownOptions(options, known, where)
  const { expirationTime, shouldCache, wait } = options
  if (expirationTime !== undefined && !(time === 'function' && typeof expirationTime === 'function'))
    milliseconds(expirationTime, 'expirationTime')
  if (wait !== undefined) milliseconds(wait, 'wait')
  mustBeOption(
    'shouldCache',
    shouldCache,
    'a function of value and key',
    shouldCache === undefined || typeof shouldCache === 'function',
  )
}

export function mustBeOption(option: string, value: unknown, expected: string, fits: boolean): void {
  if (!fits)
    throw new CorralError(
      'ERR_OPTION',
      `Expected \`${option}\` to be ${expected}, got ${formatValue(value)}.`,
    )
}

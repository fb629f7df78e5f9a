import { formatValue } from '../base/errors.js'
import { frozenCopy } from '../base/frozen.js'
import { expectText, expectThat, rejectOptions } from '../base/options.js'
import { checkWhole } from '../base/parts.js'

/**
 * A part of a record's key: `5` and `'5'` are the same record, as they are in a URL and in a database.
 * @example
 * ```ts
 * import { dep, type IdPart } from 'corral'
 *
 * export const user = (id: IdPart) => dep.id('user', id)
 * ```
 */
export type IdPart = string | number | bigint

/** A kind and its parts as one unambiguous name. */
export function name(kind: string, parts: readonly string[]): string {
  return `${kind}:${parts.join(':')}`
}

/** A member of a group of cached functions. */
export function groupName(group: string, id: IdPart): string {
  return name('group', [text('group', group), part(`id in dep.group('${group}', …)`, id)])
}

/** @throws CorralError `ERR_OPTION` unless it is a non-empty string. */
export function text(subject: string, value: unknown): string {
  expectText(value, `the ${subject} of a dependency`)
  return escaped(value)
}

/** @throws CorralError `ERR_OPTION` unless it is a string, a finite number or a bigint. */
export function part(subject: string, value: unknown): string {
  const fits = typeof value === 'string' || typeof value === 'bigint' || Number.isFinite(value)
  expectThat(fits, value, `the ${subject} to be a string, a finite number or a bigint`)
  return escaped(String(value))
}

/** @throws CorralError `ERR_OPTION` unless each of them is a part. */
export function partsOf(subject: string, values: readonly unknown[]): string[] {
  return checkWhole(values, () => values.map((value) => part(subject, value)))
}

function escaped(value: string): string {
  return value.replace(/[\\:]/g, '\\$&')
}

/** One name or several, as a list that no later change reaches. @throws CorralError `ERR_OPTION` like `checkNames`. */
export function listNames(names: string | readonly string[], some = true): readonly string[] {
  const list: unknown = typeof names === 'string' ? [names] : Array.isArray(names) ? frozenCopy(names) : names
  checkNames(list, some)
  return list
}

/** @throws CorralError `ERR_OPTION` unless it is a list of names, with at least one in it where `some` says so. */
export function checkNames(names: unknown, some = true): asserts names is readonly string[] {
  const isName = (one: unknown) => typeof one === 'string' && one !== ''
  // Spread: a hole is no name, and every() would pass over it.
  const list = Array.isArray(names) ? [...(names as unknown[])] : undefined
  if (list?.every(isName) && !(some && list.length === 0)) return
  // Every refused value is formatted, which handles the rejection of each promise among them.
  const [got = 'none'] = (list?.filter((one) => !isName(one)) ?? [names]).map(formatValue)
  const remedy = some ? ' For everything use region.invalidate().' : ''
  rejectOptions(`Expected names of dependencies, such as [dep.id('user', 5)], got ${got}.${remedy}`)
}

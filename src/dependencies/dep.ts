import { CorralError, shown } from '../errors.js'

/** What identifies a record: `5` and `'5'` are the same record, as they are in a URL and in a database. */
export type IdPart = string | number | bigint

/**
 * Names of what entries are made from. The kinds never meet, and no part can pretend to be two: what separates the parts
 * is escaped within them.
 */
export const dep = {
  /** A record of a type: `dep.id('user', 5)`. */
  id: (type: string, id: IdPart): string => name('id', [text('type', type), part('id', id)]),
  /** Whatever you like to call by one name: `dep.tag('front-page')`. */
  tag: (tag: string): string => name('tag', [text('tag', tag)]),
  /** A tag in a namespace: `dep.ntag('menu', 'de')`. */
  ntag: (namespace: string, tag: IdPart): string =>
    name('ntag', [text('namespace', namespace), part('tag', tag)]),
  /** A record by its primary key, composite ones in the order of the entity: `dep.primaryKey('Order', 2026, 17)`. */
  primaryKey: (entity: string, ...key: readonly [IdPart, ...IdPart[]]): string =>
    name('pk', [text('entity', entity), ...partsOf(entity, key)]),
}

function partsOf(entity: string, key: readonly IdPart[]): string[] {
  if (key.length === 0)
    throw new CorralError(
      'ERR_OPTION',
      `Expected the primary key of '${entity}' to have at least one part, got none.`,
    )
  return key.map((one) => part('key', one))
}

/** A kind and its parts as one unambiguous name. */
export function name(kind: string, parts: readonly string[]): string {
  return `${kind}:${parts.join(':')}`
}

/** @throws CorralError `ERR_OPTION` unless it is a non-empty string. */
export function text(what: string, value: unknown): string {
  if (typeof value === 'string' && value !== '') return escaped(value)
  throw new CorralError(
    'ERR_OPTION',
    `Expected the ${what} of a dependency to be a non-empty string, got ${shown(value)}.`,
  )
}

/** @throws CorralError `ERR_OPTION` unless it is a string, a finite number or a bigint. */
export function part(what: string, value: unknown): string {
  if (
    typeof value === 'string' ||
    typeof value === 'bigint' ||
    (typeof value === 'number' && Number.isFinite(value))
  )
    return escaped(String(value))
  throw new CorralError(
    'ERR_OPTION',
    `Expected the ${what} of a dependency to be a string, a finite number or a bigint, got ${shown(value)}.`,
  )
}

function escaped(value: string): string {
  return value.replace(/[\\:]/g, '\\$&')
}

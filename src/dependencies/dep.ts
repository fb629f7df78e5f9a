import { CorralError } from '../base/errors.js'
import { groupName, type IdPart, name, part, text } from '../ledger/names.js'
import { version } from '../versions/version.js'
import { scopes } from './scopes.js'

/**
 * Names of what entries are made from. The kinds never meet, and no part can pretend to be two: what separates the parts
 * is escaped within them.
 */
export const dep = {
  /** A record of a type: `dep.id('user', 5)`. */
  id: (type: string, id: IdPart): string =>
    name('id', [text('type', type), part(`id in dep.id('${type}', …)`, id)]),
  /** Whatever you like to call by one name: `dep.tag('front-page')`. */
  tag: (tag: string): string => name('tag', [text('tag', tag)]),
  /** A tag in a namespace: `dep.ntag('menu', 'de')`. */
  ntag: (namespace: string, tag: IdPart): string =>
    name('ntag', [text('namespace', namespace), part(`tag in dep.ntag('${namespace}', …)`, tag)]),
  /** A member of a group of cached functions: `dep.group('user', 5)`. */
  group: groupName,
  /** A record by its primary key, composite ones in the order of the entity: `dep.primaryKey('Order', 2026, 17)`. */
  primaryKey: (entity: string, ...key: readonly [IdPart, ...IdPart[]]): string =>
    name('pk', [text('entity', entity), ...partsOf(entity, key)]),
  /** Lists of a type of items by conditions, invalidated by the items that enter or leave them. */
  scopes,
  /** Something with a version that is cheap to read, such as a schema: what was made under another version is a miss. */
  version,
} as const

function partsOf(entity: string, key: readonly IdPart[]): string[] {
  if (key.length === 0)
    throw new CorralError(
      'ERR_OPTION',
      `Expected the primary key of '${entity}' to have at least one part, got none.`,
    )
  return key.map((one) => part(`key in dep.primaryKey('${entity}', …)`, one))
}

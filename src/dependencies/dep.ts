import { rejectOptions } from '../base/options.js'
import { groupName, type IdPart, name, partsOf, text } from '../ledger/names.js'
import { version } from '../versions/version.js'
import { scopes } from './scopes.js'

/**
 * Names of dependencies. The kinds never meet, and no part can pretend to be two: the separator of the parts
 * is escaped within them.
 * @example
 * ```ts
 * import { dep, makeRegion, wrap } from 'corral'
 * import { memory } from 'corral/backends/memory'
 * import { dependencies } from 'corral/proxies/dependencies'
 *
 * const users = makeRegion<string>({ backend: wrap(memory(), dependencies()) })
 * const loadUser = users.cacheOnArguments({ namespace: 'user', dependencies: (id: number) => dep.id('user', id) })(
 *   async (id: number) => `user ${id}`,
 * )
 * await loadUser(5)
 * await users.invalidateDependencies(dep.id('user', 5))
 * ```
 */
export const dep = {
  /** A record of a type: `dep.id('user', 5)`. A composite key has the order of its table: `dep.id('Order', 2026, 17)`. */
  id(type: string, ...key: readonly [IdPart, ...IdPart[]]): string {
    const parts = [text('type', type), ...partsOf(`key in dep.id('${type}', …)`, key)]
    if (parts.length > 1) return name('id', parts)
    rejectOptions(
      `Expected the key in dep.id('${type}', …) to have at least one part, got none. Give the parts of the primary key.`,
    )
  },
  /** A label of your choice: `dep.tag('front-page')`, or with parts, `dep.tag('menu', 'de')`. */
  tag: (tag: string, ...parts: readonly IdPart[]): string =>
    name('tag', [text('tag', tag), ...partsOf(`part in dep.tag('${tag}', …)`, parts)]),
  /** A member of a group of cached functions: `dep.group('user', 5)`. */
  group: groupName,
  /** Lists of a type of items by conditions, invalidated by the items that enter or leave them. */
  scopes,
  /** Something with a version that is cheap to read, such as a schema: an entry with another version is a miss. */
  version,
} as const

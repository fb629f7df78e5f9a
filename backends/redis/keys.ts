import { isCluster, type RedisClient } from './client/client.js'
import { RESERVED, unescapedKey } from './format.js'
import type { RedisStore } from './store.js'

/** Keys that one command looks at, of all keys of the database. */
const COUNT = '1000'

interface Scanner {
  scan(cursor: string, ...options: readonly string[]): Promise<[cursor: string, keys: string[]]>
}

/** The keys of values, by `SCAN` on every primary: each command holds up the server for well under a millisecond. */
export async function* scanKeys(
  { connection, prefix }: RedisStore,
  beginning: string,
): AsyncGenerator<string> {
  const nodes = await connection.run(async (client) => primaries(client))
  const ours = prefix + beginning
  // A key that is stored in an escaped form does not begin with itself.
  const patterns = [`${escapedPattern(ours)}*`, `${escapedPattern(`${prefix}${RESERVED}v:`)}*`]
  for (const node of nodes)
    for (const pattern of patterns) {
      let cursor = '0'
      do {
        const [next, found] = await connection.run(() => node.scan(cursor, 'MATCH', pattern, 'COUNT', COUNT))
        for (const stored of found) {
          const key = unescapedKey(stored.slice(prefix.length))
          if (key?.startsWith(beginning)) yield key
        }
        cursor = next
      } while (cursor !== '0')
    }
}

function primaries(client: RedisClient): readonly Scanner[] {
  const all = isCluster(client)
    ? (client as unknown as { nodes(role: 'master'): unknown[] }).nodes('master')
    : [client]
  return all as readonly Scanner[]
}

function escapedPattern(text: string): string {
  return text.replace(/[\\*?[\]]/g, '\\$&')
}

import { reportUndecodable } from '../../../src/base/diagnostics.js'
import { isError } from '../../../src/base/errors.js'
import { performance } from '../../../src/base/timers.js'
import { nodeOf, primaryOf, type RedisClient } from '../client/client.js'
import type { RedisConnection } from '../client/connection.js'
import { asError, isTryAgain, isUnreachable } from '../client/errors.js'
import { slotOf } from '../format.js'
import type { Fetched, FetchKeys } from './read-batcher.js'

/** Keys of one slot, and their places among all. */
interface SlotGroup {
  readonly slot: number
  readonly keys: string[]
  readonly places: number[]
}

/** ms for which the keys of a slot that was seen to move are asked for one by one. */
const MOVING = 10_000

/** How keys are fetched: a lone one by `GET`, more by `MGET`. */
export function standaloneFetch(connection: RedisConnection): FetchKeys {
  return (keys, until) => connection.run((client) => fetch(client, keys), { until })
}

/** On a cluster: one `MGET` for each slot, one round trip for each node. */
export function clusterFetch(connection: RedisConnection, prefix: string) {
  let latest: RedisClient | undefined
  const moving = new Map<number, number>()
  const isMoving = (slot: number) => {
    const until = moving.get(slot)
    if (until === undefined || performance.now() < until) return until !== undefined
    return !moving.delete(slot)
  }

  /** While a slot moves no node has all its keys, but each alone is found where it is. */
  const fetchGroup = async (client: RedisClient, { slot, keys }: SlotGroup): Promise<readonly Fetched[]> => {
    if (keys.length === 1 || !isMoving(slot))
      try {
        return await fetch(client, keys)
      } catch (error) {
        if (keys.length === 1 || !isTryAgain(error)) throw error
        moving.set(slot, performance.now() + MOVING)
      }
    return (await Promise.all(keys.map((key) => fetch(client, [key])))).flat()
  }
  /** One node's failure is not the others'. */
  const alone = (group: SlotGroup, until: number): Promise<readonly Fetched[]> =>
    connection
      .run((client) => fetchGroup(client, group), { until, key: group.keys[0] })
      .catch((error) => failed(group, error))
  const together = async (groups: readonly SlotGroup[], until: number) => {
    let found: readonly (readonly Fetched[] | undefined)[] = []
    try {
      if (groups.length > 1)
        found = await connection.run((client) => pipeline(client, groups), { until, key: groups[0]?.keys[0] })
    } catch (error) {
      // No server replies. ioredis also refuses to repeat a pipeline whose keys belong to several nodes by now.
      if (isUnreachable(error)) return groups.map((group) => failed(group, error))
    }
    // If slots moved or a key has a foreign type, each slot is read by itself, and redirected to its present node.
    return Promise.all(groups.map((group, i) => found[i] ?? alone(group, until)))
  }
  return {
    async fetch(keys: string[], until: number) {
      const replies: Fetched[] = new Array(keys.length).fill(null)
      const client = (latest = await connection.client())
      const slots = groupBy(keys.keys(), (place) => slotOf(prefix + keys[place]))
      const groups = [...slots].map(([slot, places]) => ({
        slot,
        places,
        keys: places.map((place) => keys[place] as string),
      }))
      const byNode = groupBy(groups, ({ slot }) => (isMoving(slot) ? `slot ${slot}` : nodeOf(client, slot)))
      await Promise.all(
        [...byNode.values()].map(async (some) => {
          const found = await together(some, until)
          for (const [i, { places }] of some.entries())
            for (const [j, place] of places.entries()) replies[place] = found[i]?.[j] ?? null
        }),
      )
      return replies
    },
    /** The node that has a key, as far as the client knows. */
    nodeOf: (key: string) => (latest === undefined ? '' : primaryOf(latest, slotOf(prefix + key))),
  }
}

function failed({ keys }: SlotGroup, error: unknown): readonly Fetched[] {
  return keys.map(() => asError(error))
}

function groupBy<K, T>(items: Iterable<T>, keyOf: (item: T) => K): ReadonlyMap<K, T[]> {
  const groups = new Map<K, T[]>()
  for (const item of items) {
    const key = keyOf(item)
    const group = groups.get(key)
    if (group === undefined) groups.set(key, [item])
    else group.push(item)
  }
  return groups
}

/** A failed read is undefined in its place. */
async function pipeline(
  client: RedisClient,
  groups: readonly SlotGroup[],
): Promise<readonly (readonly Fetched[] | undefined)[]> {
  const pipe = client.pipeline()
  for (const { keys } of groups) pipe.mgetBuffer(keys)
  const answers = (await pipe.exec()) ?? []
  return groups.map((group, i) => {
    const [error, found] = answers[i] ?? []
    return error === null && Array.isArray(found) && found.length === group.keys.length
      ? (found as Fetched[])
      : undefined
  })
}

function fetch(client: RedisClient, keys: string[]): Promise<readonly Fetched[]> {
  const [only] = keys
  if (keys.length > 1 || only === undefined) return client.mgetBuffer(keys)
  return client.getBuffer(only).then(
    (reply) => [reply],
    (error: unknown) => {
      if (!isError(error) || !error.message.startsWith('WRONGTYPE')) throw error
      // As `MGET` does: a list or hash of another program is no value of ours.
      reportUndecodable('redis', only, 'the key holds another type of Redis')
      return [null]
    },
  )
}

import { reportUndecodable } from '../../../src/base/diagnostics.js'
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
  return (keys, until) => connection.run((client) => fetch(client, keys), false, until)
}

export interface ClusterFetch {
  readonly fetch: FetchKeys
  /** The node that has a key, as far as the client knows. */
  nodeOf(key: string): string
}

/** On a cluster: one `MGET` for each slot, one round trip for each node. */
export function clusterFetch(connection: RedisConnection, prefix: string): ClusterFetch {
  let latest: RedisClient | undefined
  const moving = new Map<number, number>()
  const moves = (slot: number) => {
    const until = moving.get(slot)
    if (until === undefined || performance.now() < until) return until !== undefined
    return !moving.delete(slot)
  }

  /** While a slot moves no node has all its keys, but each alone is found where it is. */
  const fetchGroup = async (client: RedisClient, { slot, keys }: SlotGroup): Promise<readonly Fetched[]> => {
    if (keys.length === 1 || !(moving.size > 0 && moves(slot)))
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
    connection.run((client) => fetchGroup(client, group), false, until).catch((error) => failed(group, error))
  const together = async (
    groups: readonly SlotGroup[],
    until: number,
  ): Promise<readonly (readonly Fetched[])[]> => {
    let answers: readonly (readonly Fetched[] | undefined)[] = []
    try {
      answers = await connection.run((client) => pipeline(client, groups), false, until)
    } catch (error) {
      // There is nobody to be asked again. ioredis also refuses to repeat what belongs to several nodes by now.
      if (isUnreachable(error)) return groups.map((group) => failed(group, error))
    }
    // Slots may have moved, or a key has a foreign type: each is asked again for itself, and redirected where it is now.
    return Promise.all(groups.map((group, i) => answers[i] ?? alone(group, until)))
  }
  const ask = async (
    groups: readonly SlotGroup[],
    until: number,
  ): Promise<readonly (readonly Fetched[])[]> => {
    const [only] = groups
    return groups.length === 1 && only !== undefined ? [await alone(only, until)] : together(groups, until)
  }
  return {
    async fetch(keys, until) {
      const replies: Fetched[] = new Array(keys.length).fill(null)
      const client = (latest = await connection.client())
      const place = (groups: readonly SlotGroup[], found: readonly (readonly Fetched[])[]) =>
        groups.forEach(({ places }, group) => {
          places.forEach((at, i) => {
            replies[at] = found[group]?.[i] ?? null
          })
        })
      const slots = [...bySlot(keys, prefix).values()]
      const [some, each] = moving.size === 0 ? [slots, []] : parted(slots, ({ slot }) => !moves(slot))
      await Promise.all([
        ...byNode(client, some).map(async (groups) => place(groups, await ask(groups, until))),
        ...each.map(async (group) => place([group], [await alone(group, until)])),
      ])
      return replies
    },
    nodeOf: (key) => (latest === undefined ? '' : primaryOf(latest, slotOf(prefix + key))),
  }
}

function failed({ keys }: SlotGroup, error: unknown): readonly Fetched[] {
  return keys.map(() => asError(error))
}

function parted<T>(all: readonly T[], test: (one: T) => boolean): readonly [readonly T[], readonly T[]] {
  return [all.filter(test), all.filter((one) => !test(one))]
}

function bySlot(keys: readonly string[], prefix: string): ReadonlyMap<number, SlotGroup> {
  const slots = new Map<number, SlotGroup>()
  keys.forEach((key, i) => {
    const slot = slotOf(prefix + key)
    const group = slots.get(slot)
    if (group === undefined) slots.set(slot, { slot, keys: [key], places: [i] })
    else {
      group.keys.push(key)
      group.places.push(i)
    }
  })
  return slots
}

function byNode(client: RedisClient, slots: readonly SlotGroup[]): readonly SlotGroup[][] {
  const nodes = new Map<string, SlotGroup[]>()
  for (const group of slots) {
    const node = nodeOf(client, group.slot)
    const groups = nodes.get(node)
    if (groups === undefined) nodes.set(node, [group])
    else groups.push(group)
  }
  return [...nodes.values()]
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
      if (!(error instanceof Error) || !error.message.startsWith('WRONGTYPE')) throw error
      // What MGET answers in this case: somebody else's list or hash is no value of ours.
      reportUndecodable('redis', only, 'the key holds another type of Redis')
      return [null]
    },
  )
}

import { reportUndecodable } from '../../src/diagnostics.js'
import { nodeOf, type RedisClient } from './client.js'
import type { Fetched } from './coalescer.js'
import { asError } from './failures.js'
import type { Gateway } from './gateway.js'
import { slotOf } from './names.js'

/** Keys of one slot, and their places among all. */
interface Group {
  readonly keys: string[]
  readonly places: number[]
}

/** How keys are fetched: a lone one by `GET`, more by `MGET`; on a cluster one of them for each slot, one round trip for each node. */
export function fetcher(
  gate: Gateway,
  clustered: boolean,
  prefix: string,
): (keys: string[]) => Promise<readonly Fetched[]> {
  if (!clustered) return (keys) => gate.run((client) => fetch(client, keys))

  /** One node's failure is not the others'. */
  const alone = async (group: Group): Promise<readonly Fetched[]> => {
    try {
      return await gate.run((client) => fetch(client, group.keys))
    } catch (error) {
      return group.keys.map(() => asError(error))
    }
  }
  const together = async (groups: readonly Group[]): Promise<readonly (readonly Fetched[])[]> => {
    const answers = await gate.run((client) => pipeline(client, groups)).catch(() => [])
    // Slots may have moved, or a key has a foreign type: each is asked again for itself, and redirected where it is now.
    return Promise.all(groups.map((group, i) => answers[i] ?? alone(group)))
  }
  return async (keys) => {
    const replies: Fetched[] = new Array(keys.length).fill(null)
    const client = await gate.client()
    await Promise.all(
      byNode(client, bySlot(keys, prefix)).map(async (groups) => {
        const [only] = groups
        const found = groups.length === 1 && only !== undefined ? [await alone(only)] : await together(groups)
        groups.forEach(({ places }, group) => {
          places.forEach((place, i) => {
            replies[place] = found[group]?.[i] ?? null
          })
        })
      }),
    )
    return replies
  }
}

function bySlot(keys: readonly string[], prefix: string): ReadonlyMap<number, Group> {
  const slots = new Map<number, Group>()
  keys.forEach((key, i) => {
    const slot = slotOf(prefix + key)
    const group = slots.get(slot)
    if (group === undefined) slots.set(slot, { keys: [key], places: [i] })
    else {
      group.keys.push(key)
      group.places.push(i)
    }
  })
  return slots
}

function byNode(client: RedisClient, slots: ReadonlyMap<number, Group>): readonly Group[][] {
  const nodes = new Map<string, Group[]>()
  for (const [slot, group] of slots) {
    const node = nodeOf(client, slot)
    const groups = nodes.get(node)
    if (groups === undefined) nodes.set(node, [group])
    else groups.push(group)
  }
  return [...nodes.values()]
}

/** What failed is undefined in its place. */
async function pipeline(
  client: RedisClient,
  groups: readonly Group[],
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

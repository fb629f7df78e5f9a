import { reportUndecodable } from '../../src/diagnostics.js'
import type { RedisClient } from './client.js'
import type { Reply } from './coalescer.js'
import type { Gateway } from './gateway.js'
import { slotOf } from './names.js'
import { inSlices } from './slices.js'

/** How keys are fetched: a lone one by `GET`, more by `MGET`, on a cluster one command for each slot. */
export function fetcher(
  gate: Gateway,
  clustered: boolean,
  prefix: string,
): (keys: string[]) => Promise<readonly Reply[]> {
  if (!clustered) return (keys) => gate.run((client) => fetch(client, keys))
  return async (keys) => {
    const slots = new Map<number, number[]>()
    keys.forEach((key, i) => {
      const slot = slotOf(prefix + key)
      const group = slots.get(slot)
      if (group === undefined) slots.set(slot, [i])
      else group.push(i)
    })
    const replies: Reply[] = new Array(keys.length).fill(null)
    await inSlices([...slots.values()], async (places) => {
      try {
        const found = await gate.run((client) =>
          fetch(
            client,
            places.map((i) => keys[i] as string),
          ),
        )
        places.forEach((place, i) => {
          replies[place] = found[i] ?? null
        })
      } catch (error) {
        // One node's failure is not the others'.
        for (const place of places) replies[place] = error instanceof Error ? error : new Error(String(error))
      }
    })
    return replies
  }
}

function fetch(client: RedisClient, keys: string[]): Promise<readonly Reply[]> {
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

import { CorralError } from '../../src/base/errors.js'
import type { Commands, Item } from './client/commands.js'
import type { Change } from './stamp-items.js'

/** Other processes may write an item in between; each time one of them has succeeded. */
const ATTEMPTS = 256

interface Asked {
  readonly change: Change
  resolve(): void
  reject(error: unknown): void
}

/**
 * Changes an item by compare-and-swap.
 * @param seen - the item as it was read before, which spares a round trip unless it has changed since. Absent: it is read now
 * @throws CorralError `ERR_UNAVAILABLE`
 */
export type ChangeItem = (key: string, change: Change, seen?: Item) => Promise<void>

/** Those that this process makes of one item go one after the other; all that have come meanwhile are made together. */
export function itemChanges(commands: Commands): ChangeItem {
  const queues = new Map<string, Asked[]>()
  const work = async (key: string, queue: Asked[], seen: Item | undefined): Promise<void> => {
    let first = seen
    while (queue.length > 0) {
      const batch: Asked[] = []
      try {
        await makeChanges(commands, key, queue, batch, first)
        for (const { resolve } of batch) resolve()
      } catch (error) {
        for (const { reject } of batch) reject(error)
      }
      first = undefined
    }
    queues.delete(key)
  }
  return (key, change, seen) =>
    new Promise((resolve, reject) => {
      const asked = { change, resolve, reject }
      const queue = queues.get(key)
      if (queue !== undefined) return void queue.push(asked)
      const own = [asked]
      queues.set(key, own)
      void work(key, own, seen)
    })
}

/**
 * @param batch - receives the changes that this writes. It takes them from the queue before it reads the item: another process may
 * create an absent item after that read
 */
async function makeChanges(
  commands: Commands,
  key: string,
  queue: Asked[],
  batch: Asked[],
  seen: Item | undefined,
): Promise<void> {
  let hasFailed = false
  for (let attempt = 0; attempt < ATTEMPTS; attempt++) {
    for (const asked of queue.splice(0)) batch.push(asked)
    const item = attempt === 0 && seen !== undefined ? seen : await commands.get(key)
    const next = batch.reduce<Buffer | undefined>((value, { change }) => change(value), item?.value)
    try {
      if (next === item?.value || (await write(commands, key, item, next))) return
    } catch (error) {
      // With the connection its reply is lost, not the knowledge: the item itself tells whether it was written.
      if (hasFailed || !CorralError.is(error, 'ERR_UNAVAILABLE')) throw error
      hasFailed = true
    }
  }
  throw new CorralError(
    'ERR_UNAVAILABLE',
    `Expected to write the stamp of a name in memcached within ${ATTEMPTS} attempts, got other writes of it each time. Try again.`,
  )
}

/** False: the item was written in between. */
async function write(
  commands: Commands,
  key: string,
  item: Item | undefined,
  next: Buffer | undefined,
): Promise<boolean> {
  if (next !== undefined) return (await commands.set(key, next, 0, item?.version ?? 'absent')) !== undefined
  return item === undefined || commands.delete(key, item.version)
}

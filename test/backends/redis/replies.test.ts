import { AsyncLocalStorage } from 'node:async_hooks'
import { expect, it } from 'vitest'
import { type Fetched, ReadBatcher, type Reads } from '../../../backends/redis/reads/read-batcher.js'
import { mapLazily } from '../../../src/base/maybe-promise.js'
import { turn } from '../../support/waiting.js'
import { text } from './suite.js'

/** Reads whose replies come when the test says so. */
function opened(maxKeys = 100): {
  reads: Reads
  answer(replies: readonly Fetched[]): void
  refuse(error: Error): void
} {
  const waiting: { resolve(replies: readonly Fetched[]): void; reject(error: Error): void }[] = []
  const reads = new ReadBatcher({
    timeout: 1_000,
    maxWaiting: 10,
    maxKeys,
    maxBytes: 1_024 * 1_024,
    fetch: () => new Promise((resolve, reject) => waiting.push({ resolve, reject })),
  })
  return {
    reads,
    answer: (replies) => waiting.shift()?.resolve(replies),
    refuse: (error) => waiting.shift()?.reject(error),
  }
}

it('a reply is a promise to every caller', async () => {
  const { reads, answer } = opened()
  const reply = reads.get('a')
  expect(reply).toBeInstanceOf(Promise)
  const ways = [
    reply,
    reply.then((found) => found),
    reply.catch(() => undefined),
    reply.finally(() => {}),
    Promise.resolve(reply),
    (async () => reply)(),
  ]
  await turn()
  answer([Buffer.from('A')])
  expect((await Promise.all(ways)).map(text)).toEqual(ways.map(() => 'A'))
})

it('a layer decodes a reply once, for any number of callers', async () => {
  const { reads, answer } = opened()
  let times = 0
  const made = mapLazily(reads.get('a'), (found) => {
    times++
    return `${found}!`
  }) as Promise<string>
  await turn()
  expect(times).toBe(0)
  answer([Buffer.from('A')])
  expect(await Promise.all([made, made.then((found) => found), made])).toEqual(['A!', 'A!', 'A!'])
  expect(times).toBe(1)
  // Here by now: it is changed at once.
  expect(mapLazily(made, (found) => found.length)).toBe(2)
})

it('a layer may answer later, or fail', async () => {
  const { reads, answer } = opened()
  const later = mapLazily(reads.get('a'), async (found) => `${found} later`)
  const failed = mapLazily(reads.get('a'), () => {
    throw new Error('undecodable')
  })
  const both = Promise.allSettled([later, mapLazily(later, (found) => found.length), failed])
  await turn()
  answer([Buffer.from('A')])
  expect(await both).toMatchObject([{ value: 'A later' }, { value: 7 }, { reason: new Error('undecodable') }])
})

it('a failure reaches the callers of its key, and no others', async () => {
  const unhandled: unknown[] = []
  const note = (error: unknown) => unhandled.push(error)
  process.on('unhandledRejection', note)
  try {
    const { reads, refuse } = opened()
    const [asked, unasked] = [reads.get('a'), reads.get('b')]
    const caught = (mapLazily(asked, () => 'never') as Promise<string>).catch(String)
    expect(unasked).toBeDefined()
    await turn()
    refuse(new Error('gone'))
    expect(await caught).toBe('Error: gone')
    await turn()
    expect(unhandled).toEqual([])
  } finally {
    process.off('unhandledRejection', note)
  }
})

it('a waiter goes on in its own asynchronous context', async () => {
  const storage = new AsyncLocalStorage<string>()
  const { reads, answer } = opened()
  const seen = ['one', 'two'].map((name) =>
    storage.run(name, () =>
      (mapLazily(reads.get(name), (found) => found) as Promise<unknown>).then(() => storage.getStore()),
    ),
  )
  const awaited = storage.run('three', async () => {
    await reads.get('three')
    return storage.getStore()
  })
  await turn()
  answer([Buffer.from('1'), null, null])
  expect(await Promise.all([...seen, awaited])).toEqual(['one', 'two', 'three'])
})

it('a reading and an entry in different batches wait for each other', async () => {
  const { reads, answer } = opened(1)
  const entry = reads.get('a')
  const reading = reads.readLedger('clock', [])
  const both = mapLazily(entry, (found) =>
    mapLazily(reading, ({ now }) => `${found} at ${now?.at}`),
  ) as Promise<string>
  await turn()
  answer([Buffer.from('A')])
  await turn()
  answer([Buffer.from('epoch:7')])
  expect(await both).toBe('A at 7')
})

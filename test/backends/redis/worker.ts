/** One process of several that share a cache. Started by `crew.ts`; never imported for more than its types. */
import { once } from 'node:events'
import { Redis } from 'ioredis'
import { type RedisBackendOptions, redis } from '../../../backends/redis/index.js'
import { json } from '../../../proxies/json.js'
import { makeRegion, type Region, wrap } from '../../../src/index.js'
import { carryOutOrders } from '../../support/orders.js'
import { sharedNow, sleep, until } from '../../support/waiting.js'

export interface StampedeOrder {
  readonly task: 'stampede'
  readonly where: RedisBackendOptions
  readonly key: string
  readonly callers: number
  /** How long the creator takes, in ms. */
  readonly work: number
  /** How long a lease lives, in ms. */
  readonly lease: number
}

export interface Stampede {
  readonly runs: number
  readonly values: readonly string[]
  /** When the creator returned, on the clock that all processes share, in ms. */
  readonly made: number | undefined
  /** When the first and the last caller were served. */
  readonly first: number
  readonly last: number
  readonly errors: readonly string[]
}

/** The same without Corral, one caller in each process: written and published, heard, read. */
export interface ByHandOrder {
  readonly task: 'byHand'
  readonly url: string
  readonly key: string
  /** Whether this process is the one that makes the value. */
  readonly makes: boolean
  readonly work: number
}

/** A creator that asks for the key of another process, whose creator asks for this one. */
export interface CrossedOrder {
  readonly task: 'crossed'
  readonly where: RedisBackendOptions
  readonly mine: string
  readonly theirs: string
  /** ms */
  readonly wait: number
}

export type Order = StampedeOrder | ByHandOrder | CrossedOrder
export interface Answers {
  readonly crossed: string
  readonly stampede: Stampede
  readonly byHand: Pick<Stampede, 'made' | 'first'>
}

async function crossed({ where, mine, theirs, wait }: CrossedOrder): Promise<string> {
  const backend = wrap(redis({ timeout: '20s', ...where }), json())
  const region = makeRegion<string>({ name: 'crossed', lease: { ms: 2_000, wait }, backend })
  try {
    return await region.getOrCreate(mine, async () => {
      await until(() => region.keyIsLocked(theirs))
      const other = await region.getOrCreate(theirs, async () => {
        const own = await region.getOrCreate(mine, () => mine)
        return `${theirs} of ${own}`
      })
      return `${mine} of ${other}`
    })
  } finally {
    await region.close()
  }
}

const regions = new Map<string, Region<string>>()

function regionAt(where: RedisBackendOptions, lease: number): Region<string> {
  const id = JSON.stringify([where, lease])
  let region = regions.get(id)
  if (region === undefined) {
    region = makeRegion<string>({
      name: 'crew',
      lease: { ms: lease, wait: '30s' },
      // A process that was frozen, or waits for the processor, is not what a timeout is for.
      backend: wrap(redis({ timeout: '20s', ...where }), json()),
    })
    regions.set(id, region)
  }
  return region
}

async function stampede({ where, key, callers, work, lease }: StampedeOrder): Promise<Stampede> {
  const region = regionAt(where, lease)
  // Connected and listening, as a process is that has run for a while.
  await region.getOrCreate(`warm ${process.pid}`, () => 'warm')
  let runs = 0
  let made: number | undefined
  let [first, last] = [Number.POSITIVE_INFINITY, 0]
  const create = async () => {
    runs++
    process.send?.({ id: 'creating', pid: process.pid })
    await sleep(work)
    made = sharedNow()
    return `by ${process.pid}`
  }
  const results = await Promise.allSettled(
    Array.from({ length: callers }, async () => {
      const value = await region.getOrCreate(key, create)
      last = sharedNow()
      first = Math.min(first, last)
      return value
    }),
  )
  return {
    runs,
    made,
    first,
    last,
    values: [...new Set(results.flatMap((result) => (result.status === 'fulfilled' ? [result.value] : [])))],
    errors: [
      ...new Set(results.flatMap((result) => (result.status === 'rejected' ? [String(result.reason)] : []))),
    ],
  }
}

let hands: { readonly client: Redis; readonly ear: Redis } | undefined

async function byHand({ url, key, makes, work }: ByHandOrder): Promise<Answers['byHand']> {
  hands ??= { client: new Redis(url), ear: new Redis(url) }
  const { client, ear } = hands
  await client.ping()
  if (makes) {
    await sleep(work)
    const made = sharedNow()
    await client.pipeline().set(key, 'value').publish(key, '').exec()
    return { made, first: sharedNow() }
  }
  const heard = once(ear, 'message')
  await ear.subscribe(key)
  await heard
  await client.getBuffer(key)
  const first = sharedNow()
  await ear.unsubscribe(key)
  return { made: undefined, first }
}

carryOutOrders<Order>((order) => {
  if (order.task === 'crossed') return crossed(order)
  return order.task === 'stampede' ? stampede(order) : byHand(order)
})

/** One process of several that share a memcached; started by stampede.test.ts. */
import { memcached } from '../../../backends/memcached/index.js'
import { json } from '../../../proxies/json.js'
import { makeRegion, wrap } from '../../../src/index.js'
import { carryOutOrders } from '../../support/orders.js'
import { sharedNow, sleep } from '../../support/waiting.js'

export interface StampedeOrder {
  readonly servers: string
  readonly key: string
  readonly callers: number
  readonly ms: number
}

export interface StampedeReport {
  readonly runs: number
  /** When the creator returned, if it ran here, and when each caller had its value; ms of a clock that all share. */
  readonly madeAt: number | undefined
  readonly served: readonly number[]
  readonly values: readonly string[]
}

async function stampede({ servers, key, callers, ms }: StampedeOrder): Promise<StampedeReport> {
  const region = makeRegion<string>({ name: 'stampede', backend: wrap(memcached(servers), json()) })
  let runs = 0
  let madeAt: number | undefined
  const served: number[] = []
  const values = await Promise.all(
    Array.from({ length: callers }, async () => {
      const value = await region.getOrCreate(key, async () => {
        runs++
        await sleep(ms)
        madeAt = sharedNow()
        return `made by ${process.pid}`
      })
      served.push(sharedNow())
      return value
    }),
  )
  await region.close()
  return { runs, madeAt, served, values: [...new Set(values)] }
}

carryOutOrders(stampede)

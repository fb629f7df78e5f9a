/** One process of several that share a store and a source; started by `serving-processes.test.ts`. */
import { dependencies } from '../../proxies/dependencies.js'
import { makeRegion, type Region, type ServingOptions, wrap } from '../../src/index.js'
import { openPlace, type Place } from '../histories/places.js'
import { carryOutOrders } from '../support/orders.js'
import { sleep } from '../support/waiting.js'

/** The source: it returns the text, fails with it, or never settles. */
export type Source = { readonly returns: string } | { readonly fails: string } | 'hangs'

export interface ServingOrder {
  readonly place: Place
  readonly region: string
  readonly options: ServingOptions
  readonly key: string
  readonly do:
    | 'read'
    | 'set'
    | 'delete'
    | 'expire'
    | 'invalidate'
    | 'invalidate softly'
    | 'hard name'
    | 'soft name'
  readonly source?: Source
  /** @default 1 */
  readonly callers?: number
}

export interface Served {
  /** Values, and messages of errors. */
  readonly results: readonly string[]
  readonly runs: number
}

const regions = new Map<string, Region<string>>()

function regionOf({ place, region, options }: ServingOrder): Region<string> {
  const known = regions.get(region)
  if (known !== undefined) return known
  const backend = wrap(openPlace(place, () => {}).backend, dependencies())
  // Stale at once: no test waits for an expiry.
  const opened = makeRegion<string>({ name: region, backend, expirationTime: 1, grace: '1h', ...options })
  regions.set(region, opened)
  return opened
}

async function serve(order: ServingOrder): Promise<Served> {
  const region = regionOf(order)
  const { key, source = 'hangs', callers = 1 } = order
  let runs = 0
  const create = async (): Promise<string> => {
    runs++
    if (source === 'hangs') return new Promise(() => {})
    // Time for the callers of other processes to come.
    await sleep(50)
    if ('fails' in source) throw new Error(source.fails)
    return source.returns
  }
  const load = region.cacheOnArguments(create, { namespace: key, dependencies: () => `name of ${key}` })
  if (order.do === 'read') {
    const reads = Array.from({ length: callers }, () =>
      load().catch((error: unknown) => (error as Error).message),
    )
    return { results: await Promise.all(reads), runs }
  }
  if (order.do === 'set') await load.refresh()
  else if (order.do === 'delete') await load.invalidate()
  else if (order.do === 'expire') await load.invalidate.soft()
  else if (order.do === 'invalidate') await region.invalidate()
  else if (order.do === 'invalidate softly') await region.invalidate('soft')
  else await region.invalidateDependencies(`name of ${key}`, order.do === 'hard name' ? 'hard' : 'soft')
  await sleep(5)
  return { results: [], runs }
}

carryOutOrders(serve)

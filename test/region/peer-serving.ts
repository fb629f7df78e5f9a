/** One process of several that share a store and a source; started by `serving-processes.test.ts`. */
import { dependencies } from '../../proxies/dependencies.js'
import {
  currentCreation,
  makeRegion,
  type Region,
  type RegionOptions,
  type ServingOptions,
  wrap,
} from '../../src/index.js'
import { openPlace, type Place } from '../histories/places.js'
import { carryOutOrders } from '../support/orders.js'
import { sleep } from '../support/waiting.js'

/** The source: it returns the text, fails with it, or settles when the order `release` says so. */
export type Source = { readonly returns: string } | { readonly fails: string } | 'hangs'

export interface ServingOrder {
  readonly place: Place
  readonly region: string
  readonly options: ServingOptions & Pick<RegionOptions, 'expirationTime' | 'lease'>
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
    | 'release'
    | 'count'
    | 'lifetime'
  readonly source?: Source
  /** @default 1 */
  readonly callers?: number
  /** Of the reads. */
  readonly hardTimeout?: number
}

export interface Served {
  /** Values, and messages of errors. */
  readonly results: readonly string[]
  readonly runs: number
  /** Creations of this process whose signal is aborted by now. */
  readonly aborted: number
}

const regions = new Map<string, Region<string>>()
/** The creations of each region. */
const creations = new Map<string, { release: (source: Source) => void; readonly signal: AbortSignal }[]>()

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
  const created = creations.get(order.region) ?? []
  creations.set(order.region, created)
  const before = created.length
  const served = (results: readonly string[] = [], since = before): Served => ({
    results,
    runs: created.length - since,
    aborted: created.filter(({ signal }) => signal.aborted).length,
  })
  const create = async (): Promise<string> => {
    const { signal } = currentCreation()
    const released = new Promise<Source>((release) => void created.push({ release, signal }))
    // Time for the callers of other processes to come.
    const settled = source === 'hangs' ? await released : await sleep(50).then(() => source)
    if (settled === 'hangs') throw new Error('released without a result')
    if ('fails' in settled) throw new Error(settled.fails)
    return settled.returns
  }
  const load = region.cacheOnArguments(create, { namespace: key, dependencies: () => `name of ${key}` })
  if (order.do === 'read') {
    const reads = Array.from({ length: callers }, () =>
      load
        .with({ hardTimeout: order.hardTimeout })()
        .catch((error: Error & { readonly code?: string }) => error.code ?? error.message),
    )
    return served(await Promise.all(reads))
  }
  if (order.do === 'count') return served([], 0)
  if (order.do === 'lifetime') return served([String((await region.explain(load.key())).expiresIn)])
  if (order.do === 'release') for (const { release } of created) release(source)
  else if (order.do === 'set') await load.refresh()
  else if (order.do === 'delete') await load.invalidate()
  else if (order.do === 'expire') await load.invalidate.soft()
  else if (order.do === 'invalidate') await region.invalidate()
  else if (order.do === 'invalidate softly') await region.invalidate('soft')
  else await region.invalidateDependencies(`name of ${key}`, order.do === 'hard name' ? 'hard' : 'soft')
  await sleep(5)
  return served()
}

carryOutOrders(serve)

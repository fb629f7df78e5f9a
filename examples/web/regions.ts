import { makeRegion, registerBackend, registerProxy } from 'corral'
import { lmdb } from 'corral/backends/lmdb'
import { memory } from 'corral/backends/memory'
import { redis } from 'corral/backends/redis'
import { dependencies } from 'corral/proxies/dependencies'
import { msgpack } from 'corral/proxies/msgpack'
import { near } from 'corral/proxies/near'
import { prefix } from 'corral/proxies/prefix'

/** The regions of the shop. Functions are decorated when this file is imported; where values live is known only later. */
export const catalogue = makeRegion({ name: 'catalogue', expirationTime: '1h' })
export const reports = makeRegion({ name: 'reports', expirationTime: '10m' })

/** Defaults for the environment. */
const DEFAULTS = {
  CACHE_BACKEND: 'memory',
  // The prefix of the application stands below the ledger, which its regions share.
  CACHE_PROXIES: 'msgpack,prefix,dependencies',
  // Both regions use one backend, and so one ledger: a value that is created from an entry of the other follows its invalidation.
  CACHE_SHARE_BACKEND: 'true',
}

/**
 * Once, at the app's bootstrap. Several processes share `CACHE_BACKEND=redis CACHE_BACKEND__URL=redis://…`, or on one machine
 * `CACHE_BACKEND=lmdb CACHE_BACKEND__PATH=shop.lmdb`, which also starts warm. Over Redis each process may keep copies in memory:
 * `CACHE_PROXIES=msgpack,prefix,near,dependencies CACHE_PROXIES__NEAR__MAX_STALENESS=1s`.
 * @throws Error for a setting that cannot be right, before anything is opened.
 */
export function configureRegions(environment: NodeJS.ProcessEnv): void {
  const given = Object.fromEntries(Object.entries(environment).filter(([name]) => name.startsWith('CACHE_')))
  const settings = { ...DEFAULTS, ...given }

  // Bounded, because visitors may ask for as many books that do not exist as they like.
  registerBackend('memory', () => memory({ stores: 'bytes', maxEntries: 10_000 }))
  registerBackend('lmdb', ({ path }) => lmdb(needed('CACHE_BACKEND__PATH', path)), { path: 'string' })
  registerBackend(
    'redis',
    // A shop without its cache is slow, and not closed.
    ({ url }) => redis({ url: needed('CACHE_BACKEND__URL', url), failOpen: true }),
    { url: 'string' },
  )
  registerProxy('msgpack', () => msgpack())
  registerProxy('dependencies', () => dependencies())
  registerProxy('prefix', () => prefix('bookshop:'))
  registerProxy(
    'near',
    ({ maxStaleness }) => near(memory({ maxEntries: 10_000 }), { maxStaleness: Number(maxStaleness) }),
    { maxStaleness: 'duration' },
  )

  catalogue.configureFromConfig(settings, 'CACHE_')
  reports.configureFromConfig(settings, 'CACHE_')
}

/** Closes the regions; the last region over a backend closes it. */
export async function closeRegions(): Promise<void> {
  await Promise.all([catalogue.close(), reports.close()])
}

function needed(name: string, value: unknown): string {
  if (typeof value === 'string' && value !== '') return value
  throw new Error(`Expected the environment to say ${name} with this CACHE_BACKEND.`)
}

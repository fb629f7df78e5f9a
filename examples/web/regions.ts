import { makeRegion, registerBackend, registerProxy } from 'corral'
import { lmdb } from 'corral/backends/lmdb'
import { memory } from 'corral/backends/memory'
import { redis } from 'corral/backends/redis'
import { dependencies } from 'corral/proxies/dependencies'
import { msgpack } from 'corral/proxies/msgpack'
import { prefix } from 'corral/proxies/prefix'

/** What the shop keeps. Functions are decorated when this file is imported; where values live is known only later. */
export const catalogue = makeRegion({ name: 'catalogue', expirationTime: '1h' })
export const reports = makeRegion({ name: 'reports', expirationTime: '10m' })

/** Memory, because the database of this example forgets its changes too. With one that does not, `lmdb` starts warm. */
const DEFAULTS = {
  CACHE_BACKEND: 'memory',
  CACHE_PROXIES: 'msgpack,dependencies,prefix',
  CACHE_PROXIES__PREFIX__TEXT: 'bookshop:',
}

/**
 * Once, at the app's bootstrap: `CACHE_BACKEND=redis CACHE_BACKEND__URL=redis://…`, or
 * `CACHE_BACKEND=lmdb CACHE_BACKEND__PATH=shop.lmdb`.
 * @throws CorralError for a setting that cannot be right, before anything is opened.
 */
export function configureRegions(environment: NodeJS.ProcessEnv): void {
  const given = Object.fromEntries(Object.entries(environment).filter(([name]) => name.startsWith('CACHE_')))
  const settings = { ...DEFAULTS, ...given }

  // Both regions use one backend, and so one ledger: what is made from an entry of the other hears of its invalidation.
  registerBackend(
    'memory',
    once(() => memory({ stores: 'bytes' })),
  )
  registerBackend(
    'lmdb',
    once(({ path }) => lmdb(String(path))),
    { path: 'string' },
  )
  registerBackend(
    'redis',
    once(({ url }) => redis(String(url))),
    { url: 'string' },
  )
  registerProxy('msgpack', () => msgpack())
  registerProxy('dependencies', () => dependencies())
  registerProxy('prefix', ({ text }) => prefix(String(text)), { text: 'string' })

  catalogue.configureFromConfig(settings, 'CACHE_')
  reports.configureFromConfig(settings, 'CACHE_')
}

/** Ends what they opened; the last region over a backend closes it. */
export async function closeRegions(): Promise<void> {
  await Promise.all([catalogue.close(), reports.close()])
}

function once<O, B>(open: (options: O) => B): (options: O) => B {
  let opened: B | undefined
  return (options) => (opened ??= open(options))
}

import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { inBackground, makeRegion, registerBackend, registerProxy } from 'corral'
import { lmdb } from 'corral/backends/lmdb'
import { redis } from 'corral/backends/redis'
import { dependencies } from 'corral/proxies/dependencies'
import { msgpack } from 'corral/proxies/msgpack'
import { prefix } from 'corral/proxies/prefix'

/** Renewals of stale values: a visitor never waits for one. */
const renewals = inBackground({ concurrency: 4 })

/** Single articles. Functions are decorated when this file is imported; where values live is known only later. */
export const articles = makeRegion({ name: 'articles', expirationTime: '1h', asyncCreationRunner: renewals })
/** Lists and pages that are made of them. */
export const pages = makeRegion({ name: 'pages', expirationTime: '10m', asyncCreationRunner: renewals })

/**
 * Once, at the app's bootstrap. The cache is a file, which all processes of the machine share and which starts warm. With `REDIS_URL`
 * it is a Redis. Every other setting of the regions has its variable, too: `CACHE_BACKEND__PATH`, `CACHE_PROXIES`, ….
 */
export function configureRegions(environment: NodeJS.ProcessEnv): void {
  const given = Object.fromEntries(Object.entries(environment).filter(([name]) => name.startsWith('CACHE_')))
  const settings = {
    ...storeOf(environment.REDIS_URL),
    // The prefix of the application stands below the ledger, which its regions share.
    CACHE_PROXIES: 'msgpack,prefix,dependencies',
    // A page is made of entries of the other region, so both have one store and one ledger.
    CACHE_SHARE_BACKEND: 'true',
    ...given,
  }
  registerBackend('lmdb', ({ path }) => lmdb(String(path)), { path: 'string' })
  // A site without its cache is slow, and not closed.
  registerBackend('redis', ({ url }) => redis({ url: String(url), failOpen: true }), { url: 'string' })
  registerProxy('msgpack', () => msgpack())
  registerProxy('prefix', () => prefix('articles-example:'))
  registerProxy('dependencies', () => dependencies())
  articles.configureFromConfig(settings, 'CACHE_')
  pages.configureFromConfig(settings, 'CACHE_')
}

function storeOf(url: string | undefined): Record<string, string> {
  if (url !== undefined && url !== '') return { CACHE_BACKEND: 'redis', CACHE_BACKEND__URL: url }
  return { CACHE_BACKEND: 'lmdb', CACHE_BACKEND__PATH: join(tmpdir(), 'corral-articles', 'cache.lmdb') }
}

/** Ends the renewals under way, then closes the regions; the last region over a store closes it. */
export async function closeRegions(): Promise<void> {
  await renewals.drain()
  await Promise.all([articles.close(), pages.close()])
}

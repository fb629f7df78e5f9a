// The augmentation below finds vitest's ESM types only with it.
import type {} from 'vitest'
import type { TestProject } from 'vitest/node'
import { type Binary, fetchBinaries, locate, type ServerKind } from './binaries.js'

declare module 'vitest' {
  export interface ProvidedContext {
    /** The binaries that tests start their own servers from; `null` when `TEST_SERVERS=off` opted out. */
    servers: Readonly<Record<ServerKind, Binary | null>>
  }
}

const kinds = ['redis', 'memcached'] as const

const advice = `Install them:
  Debian, Ubuntu   sudo apt-get install redis-server memcached
  macOS            brew install redis memcached
or name them       TEST_REDIS_SERVER=/path/to/redis-server TEST_MEMCACHED=/path/to/memcached npm test
or go without      TEST_SERVERS=off npm test   (the tests against servers are then reported as skipped)`

/** Real servers are a condition of the tests, not an extra: without them the run fails, unless one opts out loudly. */
export function setup(project: TestProject): void {
  if (process.env.TEST_SERVERS === 'off') {
    console.warn(
      '\n*** TEST_SERVERS=off: tests against real Redis and memcached are SKIPPED, this run does not cover them. ***\n',
    )
    project.provide('servers', { redis: null, memcached: null })
    return
  }
  const missing = kinds.filter((kind) => locate(kind) === undefined)
  if (missing.length > 0)
    console.log(`[servers] fetching ${missing.join(' and ')} into node_modules/.cache (nothing is installed)`)
  const problem = missing.length > 0 ? fetchBinaries(missing) : undefined
  const servers = { redis: locate('redis') ?? null, memcached: locate('memcached') ?? null }
  const lacking = kinds.filter((kind) => servers[kind] === null)
  if (lacking.length > 0)
    throw new Error(
      `Expected a ${lacking.join(' and a ')} binary to test against, found none. ${problem ?? ''}\n${advice}`,
    )
  for (const kind of kinds)
    console.log(`[servers] ${kind} ${servers[kind]?.version} from ${servers[kind]?.source}`)
  project.provide('servers', servers)
}

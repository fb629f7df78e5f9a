import { mkdirSync, mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, inject, it } from 'vitest'
import { root } from '../../.ci/entries.mjs'
import { type Addresses, addresses } from './addresses.js'
import { execute, PATIENCE, type Snippet } from './snippets.js'

/** Every way in which docs/redis.md says where a Redis is, as a line of its own. */
const WAYS = readFileSync(`${root}docs/redis.md`, 'utf8')
  .split('\n')
  .filter((line) => /^redis\(.*\)( \/\/.*)?$/.test(line))
  .map((line) => line.replace(/ \/\/ .*/, ''))

const program = (way: string): Snippet => ({
  name: way.replaceAll(/\W+/g, ' '),
  file: `${root}way.ts`,
  language: 'ts',
  flags: ['servers'],
  source: `
    import { CorralError, makeRegion, wrap } from 'corral'
    import { redis } from 'corral/backends/redis'
    import { json } from 'corral/proxies/json'
    const region = makeRegion<string>({ name: 'page', backend: wrap(${way}, json()) })
    // On a busy machine the first connection may take longer than the default timeout of a command.
    for (let tries = 1; ; tries++)
      try {
        await region.invalidate()
        break
      } catch (error) {
        if (tries === 5 || !CorralError.is(error, 'ERR_TIMEOUT')) throw error
      }
    let runs = 0
    const make = async () => 'made ' + ++runs
    const first = await region.getOrCreate('key', make)
    await region.delete('key')
    const second = await region.getOrCreate('key', make)
    await region.close()
    if (first !== 'made 1' || second !== 'made 2') throw new Error(first + ', ' + second)`,
})

const { redis, memcached } = inject('servers')

describe.skipIf(redis === null || memcached === null)(
  'the addresses in docs/redis.md lead to a Redis',
  () => {
    const programs = WAYS.map(program)
    let outcomes: Map<Snippet, string>
    let servers: Addresses
    let folder: string
    beforeAll(async () => {
      const cache = `${root}node_modules/.cache`
      mkdirSync(cache, { recursive: true })
      folder = mkdtempSync(join(cache, 'redis-page-'))
      servers = await addresses()
      outcomes = await execute(programs, folder, servers)
    }, PATIENCE * 6)
    afterAll(async () => {
      await servers?.stop()
      rmSync(folder, { recursive: true, force: true })
    })

    it('shows a URL, TLS, Sentinel and a Cluster', () => {
      expect(WAYS.map((way) => /rediss?:|tls|sentinels|cluster/.exec(way)?.[0])).toEqual([
        'redis:',
        'tls',
        'sentinels',
        'cluster',
      ])
    })
    it.each(programs)('$name', (way) => {
      expect(outcomes.get(way)).toBe('exit 0')
    })
  },
)

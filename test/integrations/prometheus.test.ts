import * as client from 'prom-client'
import { Registry } from 'prom-client'
import { afterEach, describe, expect, it } from 'vitest'
import { memory } from '../../backends/memory/index.js'
import { dependencies } from '../../proxies/dependencies.js'
import { dep, makeRegion, type Region, wrap } from '../../src/index.js'
import { type PrometheusClient, prometheus } from '../../src/integrations/prometheus.js'

const ends: (() => void)[] = []
afterEach(() => {
  for (const end of ends.splice(0)) end()
})

function watched() {
  const region = makeRegion<string>({
    name: 'users',
    backend: wrap(memory({ maxEntries: 100 }), dependencies()),
  })
  const registry = new Registry()
  ends.push(prometheus({ client, registry, regions: [region] }))
  const lines = async () =>
    (await registry.metrics()).split('\n').filter((line) => line !== '' && !line.startsWith('#'))
  return { region, registry, lines }
}

describe('prometheus()', () => {
  it('takes prom-client by its types', () => {
    expect(client satisfies PrometheusClient).toBe(client)
  })

  it('counts reads and creations by namespace, and the calls of the region itself under none', async () => {
    const { region, lines } = watched()
    const load = region.cacheOnArguments({ namespace: 'user' })(async (id: number) => `user ${id}`)
    await load(5)
    await load(5)
    await region.get('none')
    await region.getOrCreate('bad', () => Promise.reject(new Error('no'))).catch(() => undefined)
    for (let scrape = 0; scrape < 2; scrape++)
      expect(await lines()).toEqual(
        expect.arrayContaining([
          'corral_reads_total{region="users",namespace="user",result="hit"} 1',
          'corral_reads_total{region="users",namespace="user",result="miss"} 1',
          'corral_reads_total{region="users",namespace="",result="hit"} 0',
          'corral_reads_total{region="users",namespace="",result="miss"} 2',
          'corral_creations_total{region="users",namespace="user",outcome="created"} 1',
          'corral_creations_total{region="users",namespace="",outcome="failed"} 1',
          'corral_creation_duration_seconds_count{region="users",namespace="user",outcome="created"} 1',
          'corral_creation_duration_seconds_count{region="users",namespace="",outcome="failed"} 1',
        ]),
      )
  })

  it('counts a region once that its list names twice, and none that is put into the list later', async () => {
    const [one, other] = ['one', 'other'].map((name) => makeRegion<string>({ name, backend: memory() }))
    const registry = new Registry()
    const regions = [one, one] as Region<string>[]
    ends.push(prometheus({ client, registry, regions }))
    regions.push(other as Region<string>)
    await one?.get('none')
    const found = await registry.metrics()
    expect(found).toContain('corral_reads_total{region="one",namespace="",result="miss"} 1')
    expect(found).not.toContain('region="other",namespace="",result="miss"')
  })

  it('counts invalidations by kind and mode, without the names', async () => {
    const { region, lines } = watched()
    await region.delete('ada@example.com')
    await region.invalidate('soft')
    await region.invalidateDependencies(dep.id('user', 'ada@example.com'))
    const found = await lines()
    for (const labels of [
      'what="key",mode="hard"',
      'what="region",mode="soft"',
      'what="dependencies",mode="hard"',
    ])
      expect(found).toContain(`corral_invalidations_total{region="users",${labels}} 1`)
    expect(found.join()).not.toContain('ada')
  })

  it('counts a failure that no caller received', async () => {
    const { region, lines } = watched()
    region.on('invalidate', () => {
      throw new Error('listener')
    })
    await region.delete('a')
    await Promise.resolve()
    expect((await lines()).join('\n')).toMatch(/corral_failures_total\{where="listener of .invalidate."\} 1/)
  })

  it('removes its metrics when it ends, and may begin again', async () => {
    const { region, registry } = watched()
    ends.pop()?.()
    expect(await registry.metrics()).toBe('\n')
    ends.push(prometheus({ client, registry, regions: [region], prefix: 'shop', buckets: [0.1, 1] }))
    expect(await registry.metrics()).toContain('shop_reads_total')
  })

  it('refuses options that it cannot use', () => {
    expect(() => prometheus({ client: {} as never, regions: [] })).toThrow(/client\.Counter/)
    expect(() => prometheus({ client, regions: [{}] as never })).toThrow(/to be a region/)
    expect(() => prometheus({ client } as never)).toThrow(/regions/)
  })
})

import { describe, expect, inject, it } from 'vitest'
import { redis } from '../../../backends/redis/index.js'
import { json } from '../../../proxies/json.js'
import { makeRegion, wrap } from '../../../src/index.js'
import { freePort } from '../../support/servers.js'
import { gate } from '../../support/waiting.js'

describe.skipIf(inject('servers').redis === null)('a creation while Redis is away, with failOpen', () => {
  it.each([
    ['a deletion', (region: ReturnType<typeof open>) => region.delete('k')],
    ['an invalidation of the region', (region: ReturnType<typeof open>) => region.invalidate()],
  ])('is not shared with callers after %s, though that was rejected', async (_, invalidate) => {
    const region = open(await freePort())
    let row = 'old'
    const [begun, finish] = [gate(), gate()]
    const before = region.getOrCreate('k', async () => {
      const seen = row
      begun.open()
      await finish.opened
      return seen
    })
    await begun.opened
    row = 'new'
    await expect(invalidate(region)).rejects.toThrow()
    const after = region.getOrCreate('k', async () => row)
    // Longer than it takes to find out that the store is away: by then the second caller has joined, or has not.
    await region.get('another')
    finish.open()
    expect(await before).toBe('old')
    expect(await after).toBe('new')
    await region.close()
  })

  it('is shared by callers before', async () => {
    const region = open(await freePort())
    let runs = 0
    const make = async () => `${++runs}`
    expect(new Set(await Promise.all([1, 2, 3].map(() => region.getOrCreate('k', make)))).size).toBe(1)
    await region.close()
  })
})

function open(port: number) {
  return makeRegion<string>({
    name: 'unfenced',
    backend: wrap(redis({ url: `redis://127.0.0.1:${port}`, timeout: '200ms', failOpen: true }), json()),
  })
}

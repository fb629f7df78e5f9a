import { describe, expect, it } from 'vitest'
import { memory } from '../../backends/memory/index.js'
import { dependencies } from '../../proxies/dependencies.js'
import { prefix } from '../../proxies/prefix.js'
import { type Backend, type CachedValue, makeRegion, mapKeys, wrap } from '../../src/index.js'

/** Three layers that map keys, each of which counts its calls for keys of entries. */
function counted(
  build: (...layers: [ReturnType<typeof mapKeys>, ReturnType<typeof mapKeys>]) => Backend<CachedValue>,
) {
  const calls: string[] = []
  const layer = (name: string) =>
    mapKeys((key) => {
      if (key.includes('entry')) calls.push(name)
      return `${name}(${key})`
    })
  const region = makeRegion<number>({ name: 'mapped', backend: build(layer('lower'), layer('upper')) })
  const during = async (work: () => Promise<unknown>) => {
    calls.length = 0
    await work()
    return [...calls]
  }
  return { region, during }
}

const once = ['upper', 'lower']

describe.each([
  ['adjacent', (lower, upper) => wrap(memory(), lower, prefix('p:'), upper)],
  ['around dependencies()', (lower, upper) => wrap(memory(), lower, dependencies(), prefix('p:'), upper)],
] satisfies [string, Parameters<typeof counted>[0]][])('layers that map keys, %s', (_, build) => {
  it('map a key once for each operation, a creation with all of its steps included', async () => {
    const { region, during } = counted(build)
    const load = region.cacheOnArguments(async (_id: string) => 1, { namespace: 'load' })
    expect(await during(() => region.getOrCreate('entry', async () => 1))).toEqual(once)
    expect(await during(() => region.getOrCreate('entry', async () => 2))).toEqual(once)
    expect(await during(() => region.get('entry'))).toEqual(once)
    expect(await during(() => region.set('entry', 3))).toEqual(once)
    expect(await during(() => load('entry'))).toEqual(once)
    expect(await during(() => load('entry'))).toEqual(once)
    expect(await during(() => region.delete('entry'))).toEqual(once)
  })

  it('keep the order in which a key passes them', async () => {
    const backend = build(
      mapKeys((key) => `1${key}`),
      mapKeys((key) => `2${key}`),
    )
    await makeRegion<number>({ name: 'order', backend }).set('key', 1)
    expect(backend.storeKey?.('order:key')).toBe('1p:2order:key')
    expect(await makeRegion<number>({ name: 'order', backend }).get('key')).toBe(1)
  })
})

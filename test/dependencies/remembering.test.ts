import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import { describe, expect, it } from 'vitest'
import { memory } from '../../backends/memory/index.js'
import { dependencies } from '../../proxies/dependencies.js'
import {
  type BackendProxy,
  type CachedValue,
  delegate,
  dep,
  makeRegion,
  memoryLedger,
  type Region,
  wrap,
} from '../../src/index.js'
import { withOperations } from '../support/ledgers.js'
import { turn } from '../support/waiting.js'

setFlagsFromString('--expose-gc')
const collect = runInNewContext('gc') as () => void

async function put(region: Region<number>, entry: number, count: number): Promise<void> {
  const names = Array.from({ length: count }, (_, i) => dep.id('row', `${entry}-${i}`))
  await region.set(`k${entry}`, entry, { dependencies: names, asOf: await region.asOf() })
}

/** A region whose reads answer later, and how many names each of them asked its ledger for. */
function later() {
  const kept = memoryLedger()
  const asked: number[] = []
  const ledger = withOperations(kept, (opened) => ({
    read(names) {
      asked.push(names.length)
      return opened.read(names)
    },
  }))
  const slow: BackendProxy<CachedValue> = (next) => delegate(next, { get: async (key) => next.get(key) })
  const region = makeRegion<number>({
    name: 'later',
    backend: wrap(memory(), slow, dependencies({ ledger })),
  })
  const read = async (entry: number) => {
    asked.length = 0
    expect(await region.get(`k${entry}`)).toBe(entry)
    return [...asked]
  }
  return { region, read }
}

describe('a remembered call of a cached function', () => {
  it('keeps neither its result nor its creation', async () => {
    const region = makeRegion<object>({
      name: 'calls',
      backend: wrap(memory({ maxEntries: 1 }), dependencies()),
    })
    let results: WeakRef<object>[] = []
    const load = region.cacheOnArguments({
      namespace: 'load',
      dependencies: (id: string) => dep.id('row', id),
      resultDependencies: (_row: object, id: string) => dep.tag(id),
    })(async (id: string) => {
      const row = { id }
      results.push(new WeakRef(row))
      return row
    })
    for (let i = 0; i < 20; i++) await load(`${i}`)
    // A WeakRef is held until the turn ends.
    await turn()
    collect()
    expect(results.filter((result) => result.deref() !== undefined).length).toBeLessThan(3)
    results = []
    await load('19')
    await region.refreshDependencies(dep.id('row', '19'))
    expect(results.length).toBe(1)
  })
})

describe('the names that a chain remembers of its entries', () => {
  it('is asked for together with the entry', async () => {
    const { region, read } = later()
    await put(region, 1, 3)
    // Its region is a name of its own.
    expect(await read(1)).toEqual([4])
  })

  it('is counted by names, so that entries of many names do not fill memory', async () => {
    const { region, read } = later()
    for (let entry = 0; entry < 100; entry++) await put(region, entry, 5_000)
    expect(await read(99)).toEqual([5_001])
    // Forgotten until the entry has told them.
    expect(await read(0)).not.toContain(5_001)
    expect(await read(0)).toEqual([5_001])
  })

  it('is nothing where reads answer at once', async () => {
    const region = makeRegion<number>({
      name: 'at once',
      backend: wrap(memory({ maxEntries: 10 }), dependencies()),
    })
    await region.get('k')
    await put(region, 0, 5_000)
    collect()
    const before = process.memoryUsage().heapUsed
    for (let entry = 1; entry <= 200; entry++) await put(region, entry, 900)
    collect()
    const megabytes = (process.memoryUsage().heapUsed - before) / 1e6
    expect(megabytes).toBeLessThan(5)
  })
})

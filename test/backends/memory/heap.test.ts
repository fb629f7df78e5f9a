import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import { describe, expect, it } from 'vitest'
import { memory } from '../../../backends/memory/index.js'
import { dependencies } from '../../../proxies/dependencies.js'
import { prefix } from '../../../proxies/prefix.js'
import { type Backend, type CachedValue, dep, dependsOn, makeRegion, wrap } from '../../../src/index.js'
import { turn } from '../../support/waiting.js'

setFlagsFromString('--expose-gc')
const collectGarbage = runInNewContext('gc') as () => void

const COUNT = 20_000
const PAYLOAD = { id: 1, name: 'Ada' }
const KEYS = Array.from({ length: COUNT }, (_, i) => `${COUNT + i}`)

async function used(): Promise<number> {
  for (let i = 0; i < 3; i++) {
    await turn()
    collectGarbage()
  }
  return process.memoryUsage().heapUsed
}

/** The heap that the work leaves behind, in bytes per entry. */
async function heapOf(fill: () => Promise<unknown>): Promise<number> {
  const before = await used()
  const kept = await fill()
  const bytes = ((await used()) - before) / COUNT
  expect(kept).toBeDefined()
  return bytes
}

/** A map of plain objects with the same keys and times: less than any cache of objects keeps. */
async function baseLine(): Promise<unknown> {
  const map = new Map<string, CachedValue>()
  for (const [i, key] of KEYS.entries())
    map.set(`users:${key}`, { payload: PAYLOAD, metadata: { startedAt: 1e12 + i, createdAt: 1e12 + i } })
  return map
}

const filled = (backend: Backend<CachedValue>, names?: (key: string) => string) => async () => {
  const region = makeRegion<object>({ name: 'users', backend })
  for (const key of KEYS)
    await region.getOrCreate(key, () => {
      if (names !== undefined) dependsOn(names(key))
      return PAYLOAD
    })
  return region
}

describe('the heap of an entry, compared with plain objects in a map', () => {
  it('stays small, also under layers that map its key and its names', async () => {
    // The first use of each pays for code and for tables that do not grow.
    await filled(wrap(memory(), prefix('a:'), dependencies()), dep.tag)()
    const plain = await heapOf(baseLine)
    const bare = await heapOf(filled(memory()))
    const prefixed = await heapOf(filled(wrap(memory(), prefix('a:'), prefix('b:'), prefix('c:'))))
    const tracked = await heapOf(
      filled(wrap(memory(), prefix('a:'), prefix('b:'), prefix('c:'), dependencies()), (key) =>
        dep.id('user', key),
      ),
    )
    expect({ plain, bare: bare < plain * 1.5 }).toEqual({ plain, bare: true })
    expect({ plain, prefixed: prefixed < plain * 1.6 }).toEqual({ plain, prefixed: true })
    expect({ plain, tracked: tracked < plain * 1.9 }).toEqual({ plain, tracked: true })
  }, 120_000)

  it('is returned when the entries leave', async () => {
    const before = await used()
    const backend = memory()
    const region = (await filled(backend)()) as ReturnType<typeof makeRegion<object>>
    await region.deleteMulti(KEYS)
    expect(((await used()) - before) / COUNT).toBeLessThan(60)
    await region.close()
  }, 120_000)
})

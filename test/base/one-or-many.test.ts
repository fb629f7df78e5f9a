/** Lists of a caller: `flat()`, `map()` and `forEach()` pass over a hole, so that a part of the list would be missing untold. */
import { describe, expect, it } from 'vitest'
import { memcached } from '../../backends/memcached/index.js'
import { memory } from '../../backends/memory/index.js'
import { dependencies } from '../../proxies/dependencies.js'
import { dep, makeRegion, wrap } from '../../src/index.js'
import { outbox, sqlCache } from '../../src/integrations/sql.js'
import { broker, invalidateAfterCommit } from '../../src/signals/index.js'

const region = makeRegion({ name: 'lists', backend: wrap(memory(), dependencies()) })
const scope = dep.scopes<object>('item')
const withHole = (part: unknown) => Object.assign(new Array<unknown>(2), { 1: part }) as never
const group = { user: () => withHole('a') }
const broken = broker('item', { regions: [region], id: () => withHole(5) })

const TAKES: Readonly<Record<string, () => unknown>> = {
  'the group of a cached function': () =>
    region.cacheOnArguments(async () => 1, { namespace: 'one', group })(),
  'the group of a cached function of many ids': () =>
    region.cacheMultiOnArguments(async (...ids: number[]) => ids, { namespace: 'many', group })(1),
  'the id of a broker': () => broken.namesFor({}),
  'the scopes of a broker': () => broker('item', { regions: [region], scopes: withHole(scope) }),
  'the regions of invalidateAfterCommit()': () => invalidateAfterCommit(withHole(region), 'name'),
  'the regions of outbox()': () => outbox({ regions: withHole(region) }),
  'the regions of sqlCache()': () => sqlCache({ regions: withHole(region), tables: { item: 'id' } }),
  'the key of a table': () => sqlCache({ regions: region, tables: { item: withHole('id') } }),
  'the servers of memcached()': () => memcached(withHole('localhost:1')),
}

describe('a hole in a list of a caller', () => {
  it.each(Object.entries(TAKES))('is refused: %s', async (_, take) => {
    await expect((async () => take())()).rejects.toMatchObject({ code: 'ERR_OPTION' })
  })
})

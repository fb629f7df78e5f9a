import { join } from 'node:path'
import { expect, test } from 'vitest'
import { lmdb } from '../../../backends/lmdb/index.js'
import { dependencies } from '../../../proxies/dependencies.js'
import { json } from '../../../proxies/json.js'
import { prefix } from '../../../proxies/prefix.js'
import { makeRegion, NO_VALUE, wrap } from '../../../src/index.js'
import { temporaryFolder } from './support.js'

const folder = temporaryFolder()
let files = 0

/** Two regions as two processes would have them: of one name, over one file. */
function twoRegions() {
  const file = join(folder, `${++files}.mdb`)
  const open = () =>
    makeRegion<{ n: number }>({
      name: 'users',
      expirationTime: '5m',
      backend: wrap(lmdb(file), json(), dependencies(), prefix('users:')),
    })
  return [open(), open()] as const
}

test('a region over lmdb peeks, in whichever process the value was made', async () => {
  const [one, two] = twoRegions()
  let runs = 0
  const create = async () => ({ n: ++runs })
  const made = await Promise.all(
    [one, two].flatMap((region) => [region.getOrCreate('k', create), region.getOrCreate('k', create)]),
  )
  expect(made).toEqual([{ n: 1 }, { n: 1 }, { n: 1 }, { n: 1 }])
  expect([one.peek('k'), two.peek('k')]).toEqual([{ n: 1 }, { n: 1 }])
  expect(two.peek('other')).toBe(NO_VALUE)
  expect(one.guarantees).toEqual({ reach: 'store', limits: [] })
  await one.close()
  await two.close()
})

test.each([Number.POSITIVE_INFINITY, '25d'])('marks that would last %s are refused', (pendingFor) => {
  const open = () => lmdb(join(folder, 'marks.mdb'), { pendingFor: pendingFor as '25d' })
  expect(open).toThrow(expect.objectContaining({ code: 'ERR_OPTION' }))
  expect(open).toThrow('at most 24 days')
})

test('a region without a name is refused over a file that others share', () => {
  expect(() => makeRegion({ backend: wrap(lmdb(join(folder, 'unnamed.mdb')), json()) })).toThrow(
    expect.objectContaining({ code: 'ERR_OPTION' }),
  )
})

test('invalidations of keys, dependencies and the region reach the other process at once', async () => {
  const [one, two] = twoRegions()
  const put = async () => {
    const asOf = await one.asOf()
    expect(await one.set('k', { n: 1 }, { dependencies: ['team 5'], asOf })).toBe('stored')
    expect(two.peek('k')).toEqual({ n: 1 })
    return asOf
  }
  await put()
  await two.delete('k')
  expect(one.peek('k')).toBe(NO_VALUE)

  await put()
  await two.invalidateDependencies(['team 6'])
  expect(one.peek('k')).toEqual({ n: 1 })
  const asOf = await one.asOf()
  await two.invalidateDependencies(['team 5'])
  expect(one.peek('k')).toBe(NO_VALUE)
  expect(await one.set('k', { n: 2 }, { dependencies: ['team 5'], asOf })).toBe('refused')
  expect(two.peek('k')).toBe(NO_VALUE)

  await put()
  await two.invalidate('soft')
  expect(one.peek('k')).toBe(NO_VALUE)
  expect(one.peek('k', { ignoreExpiration: true })).toEqual({ n: 1 })
  await two.invalidate()
  expect(one.peek('k', { ignoreExpiration: true })).toBe(NO_VALUE)
  await one.close()
  await two.close()
})

test('many keys of overlapping batches are made once each', async () => {
  const [one, two] = twoRegions()
  const made: string[] = []
  const create = async (keys: readonly string[]) => {
    made.push(...keys)
    return keys.map(() => ({ n: 1 }))
  }
  const keys = Array.from({ length: 40 }, (_, i) => `k${i}`)
  await Promise.all([
    one.getOrCreateMulti(keys.slice(0, 30), create),
    two.getOrCreateMulti([...keys].reverse().slice(0, 30), create),
  ])
  expect([...made].sort()).toEqual([...keys].sort())
  await one.close()
  await two.close()
})

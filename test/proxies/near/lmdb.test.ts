import { join } from 'node:path'
import { afterEach, expect, it } from 'vitest'
import { lmdb } from '../../../backends/lmdb/index.js'
import { dep, NO_VALUE, type Region } from '../../../src/index.js'
import { temporaryFolder } from '../../backends/lmdb/support.js'
import { turn } from '../../support/waiting.js'
import { copyOf, nearRegion, warm } from './support.js'

const folder = temporaryFolder()
const opened: Region<string>[] = []
afterEach(async () => {
  await Promise.all(opened.splice(0).map((region) => region.close()))
})
let files = 0
/** Two backends over one file: as two processes, they share nothing but the file. */
const pair = () => {
  const path = join(folder, `${++files}`)
  const both = [nearRegion(lmdb(path)), nearRegion(lmdb(path))] as const
  opened.push(...both)
  return both
}

it.each<[string, (region: Region<string>, key: string) => Promise<unknown>]>([
  ['delete', (region, key) => region.delete(key)],
  ['deleteMulti', (region, key) => region.deleteMulti([key])],
  ['set', (region, key) => region.set(key, 'new')],
  ['setMulti', (region, key) => region.setMulti([[key, 'new']])],
  [
    'refresh',
    (region, key) =>
      region.cacheOnArguments(async () => 'new', { functionKeyGenerator: () => () => key }).refresh(),
  ],
  ['expire', (region, key) => region.expire(key)],
  ['invalidate', (region) => region.invalidate()],
  ['invalidateDependencies', (region, key) => region.invalidateDependencies(dep.id('user', key))],
])('a near cache over LMDB sees %s at once, of this process and of another', async (_, change) => {
  const [here, there] = pair()
  for (const by of [here, there]) {
    await warm(here, 'key')
    expect((await here.explain('key')).tier).toBe('near')
    await change(by, 'key')
    expect(await here.get('key')).not.toBe('old')
    await here.delete('key')
  }
})

it('a near cache over LMDB serves a copy after other changes, and leaves it when the entry is stored again', async () => {
  const [here, there] = pair()
  await warm(here, 'key')
  await there.delete('other')
  await there.invalidateDependencies(dep.id('user', 'other'))
  expect((await here.explain('key')).tier).toBe('near')
  expect(copyOf(here, 'key')).toBe('old')
  const right = await there.reserve('key', { expirationTime: 1 })
  if ('fill' in right) await right.fill('new', { expirationTime: '1h' })
  else await there.set('key', 'new')
  expect(await here.get('key')).toBe('new')
  await there.delete('key')
  expect(await here.get('key')).toBe(NO_VALUE)
})

it('the first read after each change becomes a copy', async () => {
  const [here, there] = pair()
  for (let i = 0; i < 20; i++) {
    await there.set('key', `${i}`)
    await here.get('key')
    expect((await here.explain('key')).tier).toBe('near')
  }
})

it('a value stays in a full file while its copies are read', async () => {
  const backend = lmdb(join(folder, `${++files}`), { maxBytes: 2 ** 20, sweepEvery: 20 })
  const region = nearRegion(backend)
  opened.push(region)
  await region.set('hot', 'hot')
  const value = 'x'.repeat(10_000)
  for (let i = 0; i < 40; i++) {
    expect(await region.get('hot')).toBe('hot')
    await region.setMulti(Array.from({ length: 10 }, (_, j) => [`cold ${i} ${j}`, value] as const))
    // Sweeps take turns of the event loop.
    await turn()
  }
  expect(await region.get('cold 0 0')).toBe(NO_VALUE)
})

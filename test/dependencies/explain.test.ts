import { expect, it } from 'vitest'
import { memory } from '../../backends/memory/index.js'
import { dependencies } from '../../proxies/dependencies.js'
import { json } from '../../proxies/json.js'
import { prefix } from '../../proxies/prefix.js'
import { dep, dependsOn, diagnostics, makeRegion, wrap } from '../../src/index.js'

it('explains why a key hits or misses, and what it depends on', async () => {
  let now = 1_000
  const clock = { now: () => now }
  const store = memory({ stores: 'bytes', clock })
  const region = makeRegion<number>({
    name: 'r',
    clock,
    expirationTime: 100,
    backend: wrap(store, json(), dependencies(), prefix('p:')),
  })
  expect(await region.explain('k')).toMatchObject({
    verdict: 'miss',
    reason: expect.stringContaining('nothing is stored'),
    dependsOn: [],
  })
  const make = () =>
    region.getOrCreate('k', () => {
      dependsOn(dep.id('user', 5))
      return 1
    })
  await make()
  const noticed: unknown[] = []
  const listen = (message: unknown) => noticed.push(message)
  diagnostics('notice').subscribe(listen)
  expect(await region.explain('k')).toMatchObject({
    verdict: 'hit',
    reason: 'fresh',
    age: 0,
    expiresIn: 100,
    dependsOn: ['region:r', 'id:user:5'],
    invalidated: [],
    locked: false,
  })
  diagnostics('notice').unsubscribe(listen)
  expect(noticed).toEqual([])
  now += 101
  expect(await region.explain('k')).toMatchObject({ verdict: 'stale', reason: 'expired 1 ms ago', age: 101 })
  await make()
  await region.invalidateDependencies(dep.id('user', 5), 'soft')
  expect(await region.explain('k')).toMatchObject({
    verdict: 'stale',
    reason: 'softly invalidated: id:user:5',
  })
  await region.invalidateDependencies(dep.id('user', 5))
  expect(await region.explain('k')).toMatchObject({
    verdict: 'miss',
    reason: 'invalidated: id:user:5',
    invalidated: ['id:user:5'],
  })
  await make()
  await region.invalidate()
  expect(await region.explain('k')).toMatchObject({ verdict: 'miss', invalidated: ['region:r'] })
  await store.set('p:k', Buffer.from('garbage'), {})
  expect(await region.explain('k')).toMatchObject({
    verdict: 'miss',
    reason: expect.stringContaining('decoded'),
  })
  const making = region.getOrCreate(
    'busy',
    () => new Promise<number>((resolve) => setImmediate(() => resolve(1))),
  )
  expect(await region.explain('busy')).toMatchObject({ locked: true })
  await making
})

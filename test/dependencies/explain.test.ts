import { expect, it } from 'vitest'
import { memory } from '../../backends/memory/index.js'
import { dependencies } from '../../proxies/dependencies.js'
import { json } from '../../proxies/json.js'
import { prefix } from '../../proxies/prefix.js'
import {
  dep,
  dependsOn,
  diagnostics,
  localInvalidation,
  makeRegion,
  NO_VALUE,
  wrap,
} from '../../src/index.js'
import { held } from '../support/stage.js'
import { onStores } from './stores.js'

it('explains why a key hits or misses, and its dependencies', async () => {
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
  await store.set('p:r:k', Buffer.from('garbage'), {})
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

it('explains the verdict of a custom strategy, and an entry without any bookkeeping', async () => {
  const store = memory()
  const plain = makeRegion<number>({
    name: 'plain',
    backend: store,
    regionInvalidator: localInvalidation(),
    expirationTime: '1h',
  })
  await plain.set('k', 1)
  expect(await plain.explain('k')).toMatchObject({ verdict: 'hit' })
  await plain.invalidate('soft')
  expect(await plain.explain('k')).toMatchObject({ verdict: 'stale', reason: 'softly invalidated' })
  await plain.invalidate()
  expect(await plain.explain('k')).toMatchObject({
    verdict: 'miss',
    reason: 'the region was invalidated since',
  })
  const tracked = makeRegion<number>({ name: 'tracked', backend: wrap(store, dependencies()) })
  await store.set('tracked:bare', { payload: 1, metadata: { createdAt: Date.now(), startedAt: 1 } }, {})
  expect(await tracked.get('bare')).toBe(NO_VALUE)
  expect(await tracked.explain('bare')).toMatchObject({
    verdict: 'miss',
    reason: expect.stringContaining('without a record'),
    dependsOn: [],
  })
})

onStores('all', 'explain', (at) => {
  function site() {
    const stores = at()
    let now = Date.now()
    const [region, other] = stores.regions<number>({ clock: { now: () => now } })
    const make = () =>
      region.getOrCreate('k', () => {
        dependsOn(dep.id('user', 5), dep.tag('t'))
        return 1
      })
    return { ...stores, region, other, make, pass: (ms: number) => (now += ms) }
  }

  it('tells the same as a read, in every process and for each reason', async () => {
    const { region, other, make, pass } = site()
    const told = async () => {
      const both = [await region.explain('k'), await other.explain('k')] as const
      for (const at of both) {
        expect(at.verdict === 'hit').toBe((await region.get('k')) === 1)
        expect(at.verdict !== 'miss').toBe((await region.get('k', { ignoreExpiration: true })) === 1)
      }
      expect(both[1]).toEqual(both[0])
      return both[0]
    }
    const own = `region:${region.name}`
    expect(await told()).toMatchObject({ verdict: 'miss', dependsOn: [], invalidated: [], locked: false })
    await make()
    const hit = await told()
    expect(hit).toMatchObject({ verdict: 'hit', reason: 'fresh', expiresIn: 3_600_000, invalidated: [] })
    expect([...hit.dependsOn].sort()).toEqual([own, dep.id('user', 5), dep.tag('t')].sort())
    pass(3_600_001)
    expect(await told()).toMatchObject({ verdict: 'stale', reason: 'expired 1 ms ago', invalidated: [] })
    await make()
    await other.invalidateDependencies([dep.tag('t'), dep.tag('unrelated')], 'soft')
    expect(await told()).toMatchObject({
      verdict: 'stale',
      reason: `softly invalidated: ${dep.tag('t')}`,
      invalidated: [dep.tag('t')],
    })
    await other.invalidateDependencies(dep.id('user', 5))
    const dead = await told()
    expect(dead.verdict).toBe('miss')
    expect(dead.invalidated).toContain(dep.id('user', 5))
    await make()
    await other.invalidate('soft')
    expect(await told()).toMatchObject({ verdict: 'stale', invalidated: [own] })
    await other.invalidate()
    expect(await told()).toMatchObject({ verdict: 'miss', reason: `invalidated: ${own}`, invalidated: [own] })
    await make()
    await other.delete('k')
    expect(await told()).toMatchObject({ verdict: 'miss', reason: expect.stringContaining('nothing') })
  })

  it('reports that a creator of the key is running', async () => {
    const { region, other } = site()
    const creator = held<number>()
    const creating = region.getOrCreate('k', creator.create)
    await creator.started
    expect(await other.explain('k')).toMatchObject({ verdict: 'miss', locked: true })
    creator.resolve(1)
    await creating
    expect(await other.explain('k')).toMatchObject({ verdict: 'hit', locked: false })
  })

  it('distinguishes undecodable entries from invalidated ones', async () => {
    const { region, spoil, make } = site()
    await make()
    await spoil?.(`${region.name}:k`)
    expect(await region.get('k')).toBe(spoil === undefined ? 1 : NO_VALUE)
    if (spoil !== undefined)
      expect(await region.explain('k')).toMatchObject({
        verdict: 'miss',
        reason: expect.stringContaining('decoded'),
        invalidated: [],
      })
  })

  it('tells that bookkeeping was lost', async () => {
    const { region, lose, loseClock, make } = site()
    await make()
    await lose?.(dep.id('user', 5))
    // Something else was invalidated since, or else nothing need be looked at.
    await region.invalidateDependencies(dep.tag('unrelated'))
    if (lose !== undefined)
      expect(await region.explain('k')).toMatchObject({ verdict: 'miss', invalidated: [dep.id('user', 5)] })
    await make()
    await loseClock?.()
    if (loseClock !== undefined)
      expect(await region.explain('k')).toMatchObject({
        verdict: 'miss',
        reason: expect.stringContaining('clock'),
      })
  })
})

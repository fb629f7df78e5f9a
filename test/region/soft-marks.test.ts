import { describe, expect, it } from 'vitest'
import { memory } from '../../backends/memory/index.js'
import { broadcast } from '../../proxies/broadcast.js'
import { dependencies } from '../../proxies/dependencies.js'
import { json } from '../../proxies/json.js'
import { msgpack } from '../../proxies/msgpack.js'
import {
  type Backend,
  type CachedValue,
  delegate,
  dep,
  makeRegion,
  memoryLedger,
  NO_VALUE,
  type TransparentProxy,
  wrap,
} from '../../src/index.js'
import { session } from '../../src/session/index.js'
import { localBus } from '../../src/signals/index.js'
import { inEveryRegion, later, type ManualClock, manualClock } from '../support/stage.js'

describe('a soft mark on a key that cannot be read here and now', () => {
  it('reaches the stores of other processes that have it', async () => {
    const bus = localBus()
    const open = () =>
      makeRegion<string>({
        name: 'users',
        backend: wrap(memory(), broadcast(bus, { name: 'users' }), dependencies()),
      })
    const [here, there] = [open(), open()]
    await there.set('k', 'old')
    await here.expire('k')
    expect(await there.get('k')).toBe(NO_VALUE)
  })

  it('reaches those whose session knows another version', async () => {
    const region = makeRegion<string>({ name: 'versions', backend: wrap(memory(), dependencies()) })
    let version = 1
    let row = 'old'
    const schema = dep.version('soft marks', async () => version)
    const read = region.cacheOnArguments({ namespace: 'read', dependencies: () => schema() })(async () => row)
    await session.run(async () => {
      await schema.current()
      version = 2
      await session.run(() => read())
      row = 'new'
      await read.invalidate.soft()
    })
    expect(await session.run(() => read.get())).toBe(NO_VALUE)
    expect(await session.run(() => read())).toBe('new')
  })

  it('reaches the readers that can decode it', async () => {
    const store = memory({ stores: 'bytes' })
    const theirs = makeRegion<string>({ name: 'r', backend: wrap(store, json()) })
    const ours = makeRegion<string>({ name: 'r', backend: wrap(store, msgpack()) })
    await theirs.set('k', 'old')
    await ours.expire('k')
    expect(await theirs.get('k')).toBe(NO_VALUE)
  })
})

describe('a soft mark on an entry whose name is invalidated', () => {
  const cases = (['soft', 'hard'] as const).flatMap((mode) =>
    (['before it', 'at the same moment'] as const).map((when) => [mode, when] as const),
  )
  it.each(cases)('(%s, %s) reaches values of the key that depend on other names', async (mode, when) => {
    const bus = localBus()
    const open = () =>
      makeRegion<string>({
        name: 'users',
        backend: wrap(memory(), broadcast(bus, { name: 'users' }), dependencies()),
      })
    const [here, there] = [open(), open()]
    await here.set('k', 'old', { dependencies: ['here'], asOf: 'now' })
    await there.getOrCreate('k', (creation) => {
      creation.dependsOn('k', 'there')
      return 'old'
    })
    const invalidate = () => here.invalidateDependencies('here', mode)
    if (when === 'before it') await invalidate()
    await Promise.all([here.expire('k'), when === 'before it' || invalidate()])
    expect(await there.get('k')).toBe(NO_VALUE)
    expect(await here.get('k')).toBe(NO_VALUE)
  })

  const regions: Readonly<Record<string, (clock: ManualClock) => Backend<CachedValue>>> = {
    "the store's own ledger": (clock) => wrap(memory({ clock }), dependencies()),
    'a lent ledger': (clock) => wrap(memory({ clock }), dependencies({ ledger: memoryLedger() })),
    'a store that answers later': (clock) => wrap(memory({ clock }), later, dependencies()),
  }
  it.each(Object.entries(regions))('ends its grace: %s', async (_, make) => {
    const clock = manualClock()
    const region = makeRegion<string>({ name: 'r', backend: make(clock), clock, expirationTime: '1h' })
    await region.set('k', 'old', { dependencies: ['n'], asOf: 'now' })
    await region.invalidateDependencies('n', 'soft')
    await region.expire('k', {}, { grace: '5s' })
    clock.tick(4_000)
    expect(await region.get('k', { ignoreExpiration: true })).toBe('old')
    clock.tick(2_000)
    expect(await region.get('k', { ignoreExpiration: true })).toBe(NO_VALUE)
  })

  it('removes the entry where a layer refuses to write', async () => {
    const store = memory()
    const readOnly: TransparentProxy = (next) => delegate(next, { set: () => 'refused' })
    const writer = makeRegion<string>({ name: 'r', backend: store })
    await writer.set('k', 'old')
    await makeRegion<string>({ name: 'r', backend: wrap(store, readOnly) }).expire('k')
    expect(await writer.get('k', { ignoreExpiration: true })).toBe(NO_VALUE)
  })
})

inEveryRegion('marks of one moment', (open) => {
  it('leave the value, however many they are', async () => {
    const { region } = open<string>()
    await region.set('k', 'old')
    await Promise.all(Array.from({ length: 20 }, () => region.expire('k')))
    expect(await region.get('k')).toBe(NO_VALUE)
    expect(await region.get('k', { ignoreExpiration: true })).toBe('old')
    expect(await region.keyIsLocked('k')).toBe(false)
    expect(await region.getOrCreate('k', () => 'new')).toBe('new')
  })

  it('reach what was created after another mark had begun', async () => {
    const { region } = open<string>()
    for (const value of ['one', 'two', 'three']) {
      await region.set('k', value)
      await Promise.all([region.expire('k'), region.expire('k'), region.expire('k', {}, { grace: '1h' })])
      expect(await region.get('k'), value).toBe(NO_VALUE)
      expect(await region.get('k', { ignoreExpiration: true })).toBe(value)
    }
  })
})

describe('a listener', () => {
  it('prevents nothing by changing the names that it is passed', async () => {
    const region = makeRegion<string>({ name: 'r', backend: wrap(memory(), dependencies()) })
    await region.getOrCreate('k', (creation) => {
      creation.dependsOn('k', dep.tag('t'))
      return 'old'
    })
    region.on('invalidating', ({ names }) => {
      ;(names as string[]).length = 0
    })
    await region.invalidateDependencies([dep.tag('t')])
    expect(await region.get('k')).toBe(NO_VALUE)
    await region.set('k', 'old')
    await region.deleteMulti(['k'])
    expect(await region.get('k')).toBe(NO_VALUE)
  })
})

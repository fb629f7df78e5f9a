import { describe, expect, it } from 'vitest'
import { memory } from '../../backends/memory/index.js'
import { dependencies } from '../../proxies/dependencies.js'
import {
  type CachedValue,
  CorralError,
  defineBackend,
  dep,
  dependsOn,
  makeRegion,
  mapKeys,
  methodOf,
  NO_VALUE,
  optionsKeyGenerator,
  wrap,
} from '../../src/index.js'
import { threeMethods } from '../support/three-methods.js'
import { deferred, sleep } from '../support/waiting.js'

describe('a value that no snapshot vouches for', () => {
  it('is not shared with callers after an invalidation', async () => {
    const outer = makeRegion<string>({ name: 'outer', backend: wrap(memory(), dependencies()) })
    const inner = makeRegion<string>({ name: 'inner', backend: wrap(memory(), dependencies()) })
    const gate = deferred<void>()
    let row = 'old'
    const create = async () => {
      const seen = row
      await inner.getOrCreate('part', () => 'part')
      await gate.promise
      return seen
    }
    const first = outer.getOrCreate('k', create)
    await sleep(5)
    row = 'new'
    await outer.invalidate()
    const later = outer.getOrCreate('k', create)
    await sleep(5)
    gate.resolve()
    expect(await first).toBe('old')
    expect(await later).toBe('new')
  })
})

describe('a region that is configured again', () => {
  it('still invalidates the entries that it stored before, named or not', async () => {
    const backend = memory()
    const region = makeRegion<string>({ backend })
    await region.set('k', 'old')
    region.configure({ backend, replaceExistingBackend: true, expirationTime: '5m' })
    await region.invalidate()
    expect(await region.get('k')).toBe(NO_VALUE)
  })

  it('revives nothing over a backend without a ledger', async () => {
    const backend = defineBackend<CachedValue>(threeMethods())
    const region = makeRegion<string>({ backend })
    await region.set('k', 'old')
    await region.invalidate()
    region.configure({ backend, replaceExistingBackend: true })
    expect(await region.get('k')).toBe(NO_VALUE)
  })
})

describe('calling off', () => {
  it('a caller that aborts does not take a newcomer along', async () => {
    const region = makeRegion<number>({ backend: memory() })
    const gate = deferred<void>()
    const controller = new AbortController()
    const create = async () => {
      await gate.promise
      return 1
    }
    const first = region.getOrCreate('k', create, { signal: controller.signal })
    await sleep(2)
    controller.abort(new Error('gone'))
    const second = region.getOrCreate('k', create)
    gate.resolve()
    await expect(first).rejects.toThrow('gone')
    expect(await second).toBe(1)
  })

  it('a batch goes on while a caller waits for any of its keys', async () => {
    const region = makeRegion<number>({ backend: memory() })
    const gate = deferred<void>()
    const controller = new AbortController()
    let aborted = false
    const batch = region.getOrCreateMulti(
      ['a', 'b'],
      async (keys, { signal }) => {
        await gate.promise
        aborted = signal.aborted
        return keys.map(() => 1)
      },
      { signal: controller.signal },
    )
    await sleep(2)
    const other = region.getOrCreate('b', () => 2)
    controller.abort(new Error('gone'))
    gate.resolve()
    await expect(batch).rejects.toThrow('gone')
    expect(await other).toBe(1)
    expect(aborted).toBe(false)
  })

  it('a deletion spares newcomers the wait for a voided creation', async () => {
    const region = makeRegion<number>({ backend: memory() })
    const gate = deferred<void>()
    const doomed = region.getOrCreate('k', async () => {
      await gate.promise
      return 1
    })
    await sleep(2)
    await region.delete('k')
    expect(await region.getOrCreate('k', () => 2)).toBe(2)
    gate.resolve()
    await doomed
    expect(await region.get('k')).toBe(2)
  })

  it('renewals in the background end with their region', async () => {
    let now = 0
    const jobs: (() => Promise<void>)[] = []
    const region = makeRegion<number>({
      backend: memory(),
      expirationTime: 10,
      clock: { now: () => now },
      asyncCreationRunner: (job) => jobs.push(job.run),
    })
    await region.set('k', 1)
    now = 11
    let ran = false
    await region.getOrCreate('k', () => {
      ran = true
      return 2
    })
    await region.close()
    await Promise.all(jobs.map((job) => job()))
    expect(ran).toBe(false)
  })

  it('a runner that is an async function may fail', async () => {
    let now = 0
    const region = makeRegion<number>({
      backend: memory(),
      expirationTime: 10,
      clock: { now: () => now },
      asyncCreationRunner: (async () => {
        throw new Error('no queue')
      }) as () => void,
    })
    await region.set('k', 1)
    now = 11
    expect(await region.getOrCreate('k', () => 2)).toBe(1)
    await sleep(2)
    expect(await region.keyIsLocked('k')).toBe(false)
  })

  it('work that a creator leaves running is no part of it', async () => {
    const region = makeRegion<number>({ backend: memory() })
    const cached = region.cacheOnArguments({ namespace: 'n' })(async () => 1)
    const later = deferred<number>()
    await region.getOrCreate(cached.key(), async () => {
      setTimeout(() => later.resolve(cached.refresh() as unknown as number), 5)
      return 0
    })
    expect(await later.promise).toBe(1)
  })
})

describe('a mutex that cannot wait', () => {
  it('does not freeze the process', async () => {
    const region = makeRegion<number>({
      backend: defineBackend<CachedValue>({
        ...threeMethods(),
        mutex: () => ({ acquire: () => false, release: () => undefined }),
      }),
    })
    await expect(region.getOrCreate('k', () => 1, { hardTimeout: 100 })).rejects.toSatisfy((error) =>
      CorralError.is(error, 'ERR_CREATION_TIMEOUT'),
    )
  })
})

describe('errors that callers get at once', () => {
  const region = makeRegion<number>({ name: 'r', backend: wrap(memory(), dependencies()) })
  const code = (expected: string) => (error: unknown) => CorralError.is(error) && error.code === expected

  it.each([
    ['an expiration by position', () => region.getOrCreate('p', () => 1, 300 as never)],
    ['a misspelt option', () => region.getOrCreate('q', () => 1, { shouldCach: 1 } as never)],
    [
      'a shouldCache that is no function',
      () => region.getOrCreate('s', () => 1, { shouldCache: 'x' as never }),
    ],
    ['a signal that is none', () => region.getOrCreate('t', () => 1, { signal: {} as never })],
    ['a misspelt option of set', () => region.set('k', 1, { expirationTme: 1 } as never)],
    ['a name that is no string', () => region.getOrCreate('u', () => (dependsOn(5 as never), 1))],
  ])('%s', async (_, call) => {
    await expect(call()).rejects.toSatisfy(code('ERR_OPTION'))
  })

  it('a mangler that returns nothing would make one key of all', async () => {
    const backend = wrap(
      memory(),
      mapKeys(() => undefined as never),
    )
    expect(() => makeRegion<string>({ backend })).toThrow(expect.toSatisfy(code('ERR_KEY')))
  })

  it('a size that is no number would end the bound for good', async () => {
    const wrong = makeRegion<string>({ backend: memory({ maxBytes: 1000, sizeOf: () => Number.NaN }) })
    await expect(wrong.set('a', 'A')).rejects.toSatisfy(code('ERR_OPTION'))
  })

  it('a cached method without its instance', async () => {
    class Service {
      @region.cacheOnArguments({
        namespace: 'service',
        self: () => 1,
        functionKeyGenerator: optionsKeyGenerator(),
      })
      async find(query: { id: number }): Promise<number> {
        return query.id
      }
    }
    const service = new Service()
    expect(await service.find({ id: 3 })).toBe(3)
    expect(await methodOf(service, 'find').get({ id: 3 })).toBe(3)
    const { find } = service
    await expect(find({ id: 3 })).rejects.toSatisfy(code('ERR_OPTION'))
  })

  it('a middle region that tracks nothing keeps the outer one from being stored', async () => {
    const store = memory()
    const outer = makeRegion<number>({ name: 'outer', backend: wrap(store, dependencies()) })
    const middle = makeRegion<number>({ name: 'middle', backend: store })
    const inner = makeRegion<number>({ name: 'inner', backend: wrap(store, dependencies()) })
    const value = await outer.getOrCreate('o', () =>
      middle.getOrCreate('m', () =>
        inner.getOrCreate('i', () => {
          dependsOn(dep.tag('x'))
          return 1
        }),
      ),
    )
    expect(value).toBe(1)
    expect(await outer.get('o')).toBe(NO_VALUE)
  })
})

describe('a caller that has to start over', () => {
  it('keeps the deadline that it came with', async () => {
    const region = makeRegion<string>({ backend: memory() })
    const first = deferred<string>()
    const second = deferred<string>()
    const leader = region.getOrCreate('k', () => first.promise)
    await sleep(5)
    const began = performance.now()
    const joiner = region
      .getOrCreate('k', () => 'its own', { hardTimeout: 1_000 })
      .then(
        () => 'served',
        (error) => (CorralError.is(error, 'ERR_CREATION_TIMEOUT') ? 'late' : error),
      )
    await sleep(5)
    await region.delete('k')
    const next = region.getOrCreate('k', () => second.promise)
    await sleep(700)
    first.resolve('voided')
    expect(await leader).toBe('voided')
    // It waits for the second creation now, for the rest of its timeout of one second.
    expect(await joiner).toBe('late')
    expect(performance.now() - began).toBeLessThan(1_650)
    second.resolve('new')
    expect(await next).toBe('new')
  })
})

describe('a caller whose creation is its own alone', () => {
  it('is let go by its signal, though the creator does not listen', async () => {
    const region = makeRegion<string>({ backend: memory() })
    const controller = new AbortController()
    const outcome = region.getOrCreate('a', () =>
      region.getOrCreate('b', () => {
        const inner = region.getOrCreate('a', () => new Promise<string>(() => {}), {
          signal: controller.signal,
        })
        setImmediate(() => controller.abort(new Error('gone')))
        return inner
      }),
    )
    await expect(outcome).rejects.toThrow('gone')
  })
})

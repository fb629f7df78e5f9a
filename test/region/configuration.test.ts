import { describe, expect, it, vi } from 'vitest'
import { memory } from '../../backends/memory/index.js'
import { nullBackend } from '../../backends/null.js'
import { prefix } from '../../proxies/prefix.js'
import { defineBackend, delegate, intercept, makeRegion, NO_VALUE, wrap } from '../../src/index.js'
import { held, manualClock } from '../support/stage.js'
import { turn } from '../support/waiting.js'

const refusal = (code: string) => expect.objectContaining({ name: 'CorralError', code }) as Error

describe('a region', () => {
  it('has the name that it was given', () => {
    expect(makeRegion({ name: 'users' }).name).toBe('users')
    expect(makeRegion().name).toBeUndefined()
  })

  it('may be made first and configured later', async () => {
    const region = makeRegion<number>({ name: 'users' })
    expect(region.isConfigured).toBe(false)
    expect(region.configure({ backend: memory() })).toBe(region)
    expect(region.isConfigured).toBe(true)
    await region.set('key', 1)
    expect(await region.get('key')).toBe(1)
  })

  it('may be configured when it is made', () => {
    expect(makeRegion({ backend: memory() }).isConfigured).toBe(true)
  })

  it('keeps the options of its creation as they were at the call', async () => {
    const clock = manualClock()
    const options = { expirationTime: 100, clock, breaker: { failures: 1, cooldown: 1_000 } }
    const region = makeRegion<number>(options)
    options.expirationTime = 1
    options.breaker.failures = 100
    region.configure({ backend: memory({ clock }) })
    await region.set('key', 1)
    clock.tick(50)
    expect(await region.get('key')).toBe(1)
    await expect(region.getOrCreate('a', () => Promise.reject(new Error('no')))).rejects.toThrow('no')
    await expect(region.getOrCreate('b', () => 1)).rejects.toEqual(refusal('ERR_UNAVAILABLE'))
  })

  it('keeps the options of its creation unless its configuration replaces them', async () => {
    const clock = manualClock()
    const region = makeRegion({ expirationTime: 100, clock })
    region.configure({ backend: memory({ clock }) })
    await region.set('key', 1)
    clock.tick(101)
    expect(await region.get('key')).toBe(NO_VALUE)
    region.configure({ backend: memory({ clock }), expirationTime: 200, replaceExistingBackend: true })
    await region.set('key', 1)
    clock.tick(101)
    expect(await region.get('key')).toBe(1)
  })

  it('refuses every operation until it is configured', async () => {
    const region = makeRegion<number>({ name: 'users' })
    const never = () => expect.unreachable()
    const operations: Record<string, () => unknown> = {
      get: () => region.get('key'),
      getMulti: () => region.getMulti(['key']),
      has: () => region.has('key'),
      getValueMetadata: () => region.getValueMetadata('key'),
      getOrCreate: () => region.getOrCreate('key', never),
      getOrCreateMulti: () => region.getOrCreateMulti(['key'], never),
      set: () => region.set('key', 1),
      setMulti: () => region.setMulti([['key', 1]]),
      delete: () => region.delete('key'),
      deleteMulti: () => region.deleteMulti(['key']),
      invalidate: () => region.invalidate(),
      expire: () => region.expire('key'),
      invalidateDependencies: () => region.invalidateDependencies('name'),
      asOf: () => region.asOf(),
      keyIsLocked: () => region.keyIsLocked('key'),
      'a decorated function': () => region.cacheOnArguments({ namespace: 'f' })(() => 1)(),
    }
    for (const [name, run] of Object.entries(operations)) {
      const result = run()
      expect(result, name).toBeInstanceOf(Promise)
      await expect(result, name).rejects.toEqual(refusal('ERR_NOT_CONFIGURED'))
    }
    expect(() => region.peek('key')).toThrow(refusal('ERR_NOT_CONFIGURED'))
    expect(() => region.actualBackend).toThrow(refusal('ERR_NOT_CONFIGURED'))
    expect(() => region.guarantees).toThrow(refusal('ERR_NOT_CONFIGURED'))
    await expect(region.get('key')).rejects.toThrow("Region 'users' is used before it is configured")
    await region.close()
  })

  it('refuses a second configuration', () => {
    const region = makeRegion({ backend: memory() })
    expect(() => region.configure({ backend: nullBackend() })).toThrow(refusal('ERR_ALREADY_CONFIGURED'))
    expect(region.guarantees.reach).toBe('store')
  })

  it('replaces its backend when told to', async () => {
    const region = makeRegion<number>({ backend: memory() })
    await region.set('key', 1)
    region.configure({ backend: memory(), replaceExistingBackend: true })
    expect(await region.get('key')).toBe(NO_VALUE)
    await region.set('key', 2)
    expect(await region.get('key')).toBe(2)
  })

  it('may be configured with replaceExistingBackend when there is none', () => {
    expect(makeRegion().configure({ backend: memory(), replaceExistingBackend: true }).isConfigured).toBe(
      true,
    )
  })

  it('keeps its key generators when its backend is replaced', () => {
    const region = makeRegion({
      backend: memory(),
      functionKeyGenerator:
        () =>
        (...args) =>
          `mine:${args.join()}`,
    })
    region.configure({ backend: memory(), replaceExistingBackend: true })
    expect(
      region
        .cacheOnArguments({ namespace: 'n' })((a: number) => a)
        .key(1),
    ).toBe('mine:1')
  })

  it('is left as it was by a configuration that fails', async () => {
    const region = makeRegion<number>()
    const wrong: readonly unknown[] = [
      {},
      { backend: undefined },
      { backend: 'memory' },
      { backend: memory },
      { backend: memory(), expirationTime: 'invalid' },
      { backend: memory(), expirationTime: -1 },
      { backend: memory(), expiration_time: 5 },
      { backend: memory({ stores: 'bytes' }) },
      { backend: memory(), clock: {} },
      { backend: memory(), lease: { ms: 0 } },
      { backend: memory(), lease: { milliseconds: 5 } },
      { backend: memory(), asyncCreationRunner: 'background' },
      { backend: memory(), regionInvalidator: { invalidate() {} } },
      undefined,
      null,
      [],
      'memory',
    ]
    for (const options of wrong) {
      expect(() => region.configure(options as never), JSON.stringify(options)).toThrow(
        expect.objectContaining({ code: expect.stringMatching(/^ERR_(OPTION|CHAIN)$/) as string }) as Error,
      )
      expect(region.isConfigured).toBe(false)
    }
    region.configure({ backend: memory() })
    await region.set('key', 1)
    for (const options of wrong)
      expect(() =>
        region.configure({ ...(options as object), replaceExistingBackend: true } as never),
      ).toThrow()
    expect(await region.get('key')).toBe(1)
  })

  it('leaves the options that it was given as they were', () => {
    const backend = memory()
    const options = Object.freeze({
      backend,
      expirationTime: '5m',
      lease: Object.freeze({ ms: '1s' }),
    } as const)
    makeRegion().configure(options)
    expect(options).toEqual({ backend, expirationTime: '5m', lease: { ms: '1s' } })
  })
})

describe('the actual backend', () => {
  const spec = { name: 'own', get: () => undefined, set: () => {}, delete: () => {} }

  it('is the object that was passed to defineBackend, under any number of proxies', () => {
    const plain = makeRegion({ name: 'plain', backend: defineBackend(spec) as never })
    expect(plain.actualBackend).toBe(spec)
    const wrapped = wrap(
      defineBackend(spec),
      prefix('a:'),
      intercept((_, proceed) => proceed()),
      (next) => delegate(next, {}),
    )
    expect(makeRegion({ name: 'wrapped', backend: wrapped as never }).actualBackend).toBe(spec)
  })

  it('is the new one after a replacement', () => {
    const region = makeRegion({ name: 'replaced', backend: memory() })
    const former = region.actualBackend
    region.configure({ backend: defineBackend(spec) as never, replaceExistingBackend: true })
    expect(region.actualBackend).not.toBe(former)
    expect(region.actualBackend).toBe(spec)
  })
})

describe('the lease of a region', () => {
  it('returns how far it reaches, and the promises that the backend keeps it from', () => {
    expect(makeRegion({ backend: memory() }).guarantees).toEqual({ reach: 'store', limits: [] })
    const own = makeRegion({
      backend: defineBackend({ name: 'own', get: () => undefined, set: () => {}, delete: () => {} }) as never,
    })
    expect(own.guarantees.reach).toBe('process')
    expect(own.guarantees.limits.join(' ')).toMatch(/has no lease.*has no ledger/)
    const mutex = makeRegion({
      backend: defineBackend({
        name: 'own',
        get: () => undefined,
        set: () => {},
        delete: () => {},
        mutex: () => ({ acquire: () => true, release: () => {} }),
      }) as never,
    })
    expect(mutex.guarantees.reach).toBe('mutex')
    expect(mutex.guarantees.limits.join(' ')).toMatch(/plain mutex/)
  })
})

describe('closing', () => {
  const closing = () => {
    let closed = 0
    const backend = defineBackend({
      name: 'own',
      get: () => undefined,
      set: () => {},
      delete: () => {},
      close: () => {
        closed++
      },
    })
    return { backend: backend as never, closed: () => closed }
  }

  it('leaves a region unconfigured, and may be repeated', async () => {
    const { backend, closed } = closing()
    const region = makeRegion({ backend })
    await region.close()
    await region.close()
    expect(closed()).toBe(1)
    expect(region.isConfigured).toBe(false)
    await expect(region.get('key')).rejects.toEqual(refusal('ERR_CLOSED'))
    region.configure({ backend: memory() })
    expect(await region.get('key')).toBe(NO_VALUE)
  })

  it('closes the backend with the last region over it', async () => {
    const { backend, closed } = closing()
    const one = makeRegion({ name: 'one', backend })
    const other = makeRegion({ name: 'other', backend: wrap(backend, prefix('p:')) as never })
    await one.close()
    expect(closed()).toBe(0)
    await other.close()
    expect(closed()).toBe(1)
  })

  it('closes the proxies of its chain, which another chain may contain, with the last region over the backend', async () => {
    const { backend } = closing()
    let open = 1
    const shared = wrap(backend, (next) =>
      delegate(next, {
        close() {
          open--
          return next.close()
        },
      }),
    )
    const one = makeRegion({ name: 'one', backend: wrap(shared, prefix('p:')) as never })
    const other = makeRegion({ name: 'other', backend: wrap(shared, prefix('q:')) as never })
    await one.close()
    expect(open).toBe(1)
    await other.close()
    expect(open).toBe(0)
  })

  it('closes a backend that is replaced, once nothing is being created for it', async () => {
    const { backend, closed } = closing()
    const region = makeRegion({ backend })
    const creator = held<number>()
    const creating = region.getOrCreate('key', creator.create)
    await creator.started
    region.configure({ backend: memory(), replaceExistingBackend: true })
    await turn()
    expect(closed()).toBe(0)
    creator.resolve(1)
    expect(await creating).toBe(1)
    await vi.waitFor(() => expect(closed()).toBe(1))
  })
})

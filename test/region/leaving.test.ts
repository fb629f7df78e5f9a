/** Callers that leave early, by a deadline, a signal or a failure, leave nothing running behind. */
import { describe, expect, it } from 'vitest'
import { memory } from '../../backends/memory/index.js'
import { dependencies } from '../../proxies/dependencies.js'
import { dogpile, type Lookup } from '../../src/dogpile/index.js'
import { type CachedValue, delegate, dep, diagnostics, makeRegion, NO_VALUE, wrap } from '../../src/index.js'
import { versioned } from '../../src/session/index.js'
import { held } from '../support/stage.js'
import { idle, isPending, turn } from '../support/waiting.js'

describe('a caller that leaves', () => {
  it('ends the wait for the lease of another process', async () => {
    let left = 0
    const shared = dogpile<string>()
    const aborted = new AbortController()
    const waiting = shared.run(
      'key',
      {
        read: () => [{ state: 'missing' } as Lookup<string>],
        acquire: () => ({
          remaining: 60_000,
          settled: new Promise<undefined>(() => {}),
          leave: () => void left++,
        }),
        create: () => expect.unreachable(),
      },
      { signal: aborted.signal },
    )
    await idle()
    aborted.abort(new Error('left'))
    await expect(waiting).rejects.toThrow('left')
    await idle()
    expect(left).toBe(1)
  })

  it('starts no creator when the store grants the lease at last, and gives the lease back', async () => {
    const granted = held<void>()
    const slow = wrap(memory(), (next) =>
      delegate(next, {
        async acquire(...given) {
          await granted.create()
          return next.acquire(...given)
        },
      }),
    )
    const region = makeRegion<string>({ backend: slow })
    const aborted = new AbortController()
    const call = region.getOrCreate('key', () => expect.unreachable(), { signal: aborted.signal })
    await granted.started
    aborted.abort(new Error('left'))
    await expect(call).rejects.toThrow('left')
    granted.resolve()
    await idle()
    expect(await region.keyIsLocked('key')).toBe(false)
    expect(region.stats().creations).toBe(0)
  })

  it.each(['call', 'many', 'refresh', 'get', 'rows', 'rows refresh', 'rows get', 'reserve'] as const)(
    'by its signal waits no longer for a store that hangs: %s',
    async (how) => {
      const { region, load, rows } = overHangingStore()
      const leaving = new AbortController()
      const { signal } = leaving
      const calls = {
        call: () => region.getOrCreate('key', () => 'v', { signal }),
        many: () => region.getOrCreateMulti(['key', 'other'], (keys) => [...keys], { signal }),
        refresh: () => load.with({ signal }).refresh(5),
        get: () => load.with({ signal }).get(5),
        rows: () => rows.with({ signal })(5, 6),
        'rows refresh': () => rows.with({ signal }).refresh(5, 6),
        'rows get': () => rows.with({ signal }).get(5, 6),
        reserve: () => region.reserve('key', { signal }),
      }
      const call = calls[how]()
      expect(await isPending(call)).toBe(true)
      leaving.abort(new Error('left'))
      await expect(call).rejects.toThrow('left')
      await expect(calls[how]()).rejects.toThrow('left')
    },
  )

  it.each(['call', 'refresh', 'get'] as const)(
    'by its signal waits no longer for a version: %s',
    async (how) => {
      const page = versioned(() => 'page', {
        namespace: 'page',
        version: () => new Promise<number>(() => {}),
      })
      const leaving = new AbortController()
      const leaves = page.with({ signal: leaving.signal })
      const call = how === 'call' ? leaves() : leaves[how]()
      expect(await isPending(call)).toBe(true)
      leaving.abort(new Error('left'))
      await expect(call).rejects.toThrow('left')
    },
  )

  it('by its signal waits no longer for a second read, or for the check of its session', async () => {
    const shared = dogpile<string>()
    const leaving = new AbortController()
    const { signal } = leaving
    const never = new Promise<never>(() => {})
    const read = shared.run('read', { read: () => never, create: () => expect.unreachable() }, { signal })
    const gate = held<string>()
    const driver = {
      read: () => never,
      acquire: () => ({ token: 'token', found: undefined }),
      create: async () => [await gate.create()],
    }
    const seen = [{ state: 'missing' } as const]
    const leader = shared.run('key', driver, { seen })
    const joins = shared.run('key', driver, { seen, signal, accept: () => never })
    gate.resolve('v')
    await leader
    expect(await isPending(Promise.race([read, joins]))).toBe(true)
    leaving.abort(new Error('left'))
    await expect(read).rejects.toThrow('left')
    await expect(joins).rejects.toThrow('left')
  })

  it('by the failure of one key calls off the creations of the others', async () => {
    const region = makeRegion<string>({ backend: memory() })
    const failing = held<string>()
    const leader = region.getOrCreate('a', () => failing.create().then(() => Promise.reject(new Error('a'))))
    await failing.started
    let signal: AbortSignal | undefined
    const both = region.getOrCreateMulti(['a', 'b'], (_, creation) => {
      signal = creation.signal
      return new Promise(() => {})
    })
    await idle()
    failing.resolve('')
    await expect(leader).rejects.toThrow('a')
    await expect(both).rejects.toThrow('a')
    expect(signal?.aborted).toBe(true)
  })
})

/** A region whose store never replies, and two functions of it. */
function overHangingStore() {
  const never = () => new Promise<never>(() => {})
  const backend = wrap(memory(), (next) =>
    delegate<CachedValue>(next, { get: never, getMulti: never, acquire: never }),
  )
  const region = makeRegion<string>({ backend })
  const load = region.cacheOnArguments((id: number) => `${id}`, { namespace: 'load' })
  const rows = region.cacheMultiOnArguments((...ids: number[]) => ids.map(String), { namespace: 'rows' })
  return { region, load, rows }
}

it('a creation of several keys has one signal', async () => {
  const region = makeRegion<string>({ backend: memory() })
  await region.getOrCreateMulti(['a', 'b'], (keys, creation) => {
    expect(creation.signal).toBe(creation.signal)
    return [...keys]
  })
})

it('a fallsBack that fails leaves no caller waiting', async () => {
  const told: unknown[] = []
  const listen = (message: unknown) => void told.push(message)
  diagnostics('failure').subscribe(listen)
  const shared = dogpile<string>()
  const run = () =>
    shared.run(
      'key',
      {
        read: () => [{ state: 'stale', value: 'old' } as Lookup<string>],
        create: async () => {
          await turn()
          throw new Error('source')
        },
        failed: () => 0,
      },
      {
        seen: [{ state: 'missing' }],
        fallsBack: () => {
          throw new Error('fallsBack')
        },
      },
    )
  const ended = await Promise.allSettled([run(), run()])
  diagnostics('failure').unsubscribe(listen)
  expect(ended.map(({ status }) => status)).toEqual(['rejected', 'rejected'])
  expect(told).toContainEqual(expect.objectContaining({ where: 'fallsBack' }))
})

describe('a remembered failure', () => {
  const failing = () => Promise.reject(new Error('source'))

  it('is forgotten when another region over the store invalidates names', async () => {
    const backend = wrap(memory(), dependencies())
    const [one, other] = ['one', 'other'].map((name) => makeRegion<string>({ name, backend }))
    await one?.getOrCreate('k', failing, { errorExpirationTime: '1h' }).catch(() => {})
    await expect(one?.getOrCreate('k', () => 'made')).rejects.toThrow('source')
    await other?.invalidateDependencies(dep.id('row', 5))
    expect(await one?.getOrCreate('k', () => 'made')).toBe('made')
  })

  it('does not answer a call that remembers none', async () => {
    const region = makeRegion<string>({ backend: memory(), errorExpirationTime: '1h' })
    await region.getOrCreate('k', failing).catch(() => {})
    await expect(region.getOrCreate('k', () => 'made')).rejects.toThrow('source')
    expect(await region.getOrCreate('k', () => 'made', { errorExpirationTime: 0 })).toBe('made')
  })
})

describe('a function with a grace of its own', () => {
  it('of 0 marks its values stale by removing them, whatever the region retries', async () => {
    const region = makeRegion<string>({ backend: memory(), retryAfter: '10s' })
    const load = region.cacheOnArguments(() => 'v', { namespace: 'load', grace: 0, retryAfter: 0 })
    await load()
    await load.invalidate.soft()
    expect(await load.get()).toBe(NO_VALUE)
    await region.set('k', 'v')
    await region.expire('k', undefined, { grace: 0 })
    expect(await region.get('k', { ignoreExpiration: true })).toBe(NO_VALUE)
  })

  it('and a longer lifetime than the region keeps a value that was marked stale', async () => {
    let now = 1_000_000
    const clock = { now: () => now }
    const region = makeRegion<string>({
      backend: memory({ clock }),
      clock,
      expirationTime: '1m',
      grace: '10m',
    })
    let fails = false
    const load = region.cacheOnArguments(
      () => {
        if (fails) throw new Error('source')
        return 'v'
      },
      { namespace: 'load', expirationTime: '1h' },
    )
    await load()
    now += 30 * 60_000
    fails = true
    await load.invalidate.soft()
    now += 60_000
    expect(await load()).toBe('v')
  })

  it('keeps for as long what is set', async () => {
    let now = 1_000_000
    const clock = { now: () => now }
    const region = makeRegion<string>({ backend: memory({ clock }), clock, expirationTime: '5m' })
    const load = region.cacheOnArguments((): string => expect.unreachable(), {
      namespace: 'load',
      grace: '1d',
      jitter: 0.5,
    })
    await load.set('v')
    expect((await region.getValueMetadata(load.key()))?.metadata.expiresIn).toBeLessThan(300_000)
    now += 3_600_000
    expect(await region.get(load.key(), { ignoreExpiration: true })).toBe('v')
    await expect(region.set('k', 'v', { grace: -1 })).rejects.toMatchObject({ code: 'ERR_OPTION' })
    await expect(region.set('k', 'v', { jitter: 2 })).rejects.toMatchObject({ code: 'ERR_OPTION' })
  })
})

import { describe, expect, it } from 'vitest'
import { type Creation, NO_VALUE } from '../../src/index.js'
import { counting, held, inEveryRegion, open as openMemory } from '../support/stage.js'
import { idle, isPending, sleep } from '../support/waiting.js'

inEveryRegion('getOrCreate', (open) => {
  it('creates and stores a missing value', async () => {
    const { region } = open()
    expect(await region.getOrCreate('key', () => 'value')).toBe('value')
    expect(await region.get('key')).toBe('value')
  })

  it('does not call the creator for a stored value', async () => {
    const { region } = open()
    await region.set('key', 'value')
    expect(await region.getOrCreate('key', () => expect.unreachable())).toBe('value')
  })

  it('passes the creator its keys', async () => {
    const { region } = open()
    let told: Creation | undefined
    await region.getOrCreate('key', (creation) => {
      told = creation
      return 1
    })
    expect(told).toMatchObject({ key: 'key', keys: ['key'] })
    expect(told?.signal.aborted).toBe(false)
    expect(typeof told?.startedAt).toBe('number')
  })

  it('gives an entry the expiration time that its creator learnt', async () => {
    const { region, clock } = open({ expirationTime: 1_000 })
    await region.getOrCreate('key', ({ expireIn }) => {
      expireIn('10s')
      return 1
    })
    clock.tick(9_999)
    expect(await region.get('key')).toBe(1)
    clock.tick(2)
    expect(await region.get('key')).toBe(NO_VALUE)
  })

  it('runs one creator for all concurrent callers of a cold key', async () => {
    const { region } = open<string>()
    const creator = held<string>()
    const callers = Array.from({ length: 10 }, () => region.getOrCreate('key', creator.create))
    await creator.started
    await idle()
    creator.resolve('value')
    expect(await Promise.all(callers)).toEqual(Array(10).fill('value'))
    expect(creator.runs).toBe(1)
  })

  it('passes the error of a creator on, and leaves no lease', async () => {
    const { region } = open<string>()
    const boom = new Error('boom')
    await expect(
      region.getOrCreate('key', () => {
        throw boom
      }),
    ).rejects.toBe(boom)
    expect(await region.keyIsLocked('key')).toBe(false)
    await expect(region.getOrCreate('key', () => Promise.reject(boom))).rejects.toBe(boom)
    expect(await region.keyIsLocked('key')).toBe(false)
    expect(await region.getOrCreate('key', () => 'then')).toBe('then')
  })

  it('rejects all waiters of a creator with its error, running it once', async () => {
    const { region } = open<string>()
    const creator = held<string>()
    const boom = new Error('boom')
    const callers = Array.from({ length: 5 }, () => region.getOrCreate('key', creator.create))
    await creator.started
    await idle()
    creator.reject(boom)
    for (const caller of callers) await expect(caller).rejects.toBe(boom)
    expect(creator.runs).toBe(1)
  })

  it('keeps a stale value when its renewal fails, and serves it to others meanwhile', async () => {
    const { region, clock } = open<string>({ expirationTime: 100 })
    await region.set('key', 'old')
    clock.tick(101)
    const creator = held<string>()
    const leader = region.getOrCreate('key', creator.create)
    await creator.started
    expect(await region.getOrCreate('key', () => expect.unreachable())).toBe('old')
    creator.reject(new Error('boom'))
    expect(await leader).toBe('old')
    expect(await region.get('key', { ignoreExpiration: true })).toBe('old')
    expect(await region.keyIsLocked('key')).toBe(false)
  })

  it('serves the old value at once to all callers except the one that renews it', async () => {
    const { region, clock } = open<string>({ expirationTime: 100 })
    await region.set('key', 'old')
    clock.tick(101)
    const creator = held<string>()
    const leader = region.getOrCreate('key', creator.create)
    await creator.started
    const others = await Promise.all(
      Array.from({ length: 4 }, () => region.getOrCreate('key', () => expect.unreachable())),
    )
    expect(others).toEqual(['old', 'old', 'old', 'old'])
    expect(await isPending(leader)).toBe(true)
    creator.resolve('new')
    expect(await leader).toBe('new')
    expect(await region.getOrCreate('key', () => expect.unreachable())).toBe('new')
  })

  it('tells whether a key is being created, without taking its lease', async () => {
    const { region } = open<string>()
    expect(await region.keyIsLocked('key')).toBe(false)
    expect(await region.keyIsLocked('key')).toBe(false)
    const creator = held<string>()
    const created = region.getOrCreate('key', creator.create)
    await creator.started
    expect(await region.keyIsLocked('key')).toBe(true)
    expect(await region.keyIsLocked('other')).toBe(false)
    creator.resolve('value')
    await created
    expect(await region.keyIsLocked('key')).toBe(false)
  })
})

inEveryRegion('getOrCreateMulti', (open) => {
  it('answers no keys with nothing, and does not consult the creator', async () => {
    const { region } = open()
    expect(await region.getOrCreateMulti([], () => expect.unreachable())).toEqual([])
  })

  it('keeps the order of the caller, and hands the creator sorted keys', async () => {
    const { region } = open<string>()
    const asked: (readonly string[])[] = []
    const values = await region.getOrCreateMulti(['k3', 'k2', 'k5'], (keys) => {
      asked.push(keys)
      return keys.map((key) => `value of ${key}`)
    })
    expect(values).toEqual(['value of k3', 'value of k2', 'value of k5'])
    expect(asked).toEqual([['k2', 'k3', 'k5']])
    expect(await region.get('k5')).toBe('value of k5')
  })

  it('creates only the missing values', async () => {
    const { region } = open<string>()
    await region.set('b', 'stored')
    const asked: (readonly string[])[] = []
    const values = await region.getOrCreateMulti(['a', 'b', 'c'], (keys) => {
      asked.push(keys)
      return keys.map(() => 'created')
    })
    expect(values).toEqual(['created', 'stored', 'created'])
    expect(asked).toEqual([['a', 'c']])
  })

  it('asks for a key once, however often it is listed', async () => {
    const { region } = open<string>()
    const values = await region.getOrCreateMulti(['a', 'b', 'a'], (keys) => {
      expect(keys).toEqual(['a', 'b'])
      return keys
    })
    expect(values).toEqual(['a', 'b', 'a'])
  })

  it('does not store a key for which the creator answers NO_VALUE', async () => {
    const { region } = open<string>()
    const create = () =>
      region.getOrCreateMulti(['a', 'b'], (keys) => keys.map((key) => (key === 'a' ? 'A' : NO_VALUE)))
    expect(await create()).toEqual(['A', NO_VALUE])
    expect(await region.getMulti(['a', 'b'])).toEqual(['A', NO_VALUE])
    expect(await create()).toEqual(['A', NO_VALUE])
  })

  it('runs one creator for all concurrent callers of cold keys', async () => {
    const { region } = open<string>()
    const creator = held<readonly string[]>()
    const callers = Array.from({ length: 5 }, () => region.getOrCreateMulti(['a', 'b'], creator.create))
    await creator.started
    await idle()
    creator.resolve(['A', 'B'])
    expect(await Promise.all(callers)).toEqual(Array(5).fill(['A', 'B']))
    expect(creator.runs).toBe(1)
  })

  it('waits for keys that others create, and reads them again', async () => {
    const { region } = open<string>()
    const creator = held<string>()
    const single = region.getOrCreate('b', creator.create)
    await creator.started
    const asked: (readonly string[])[] = []
    const many = region.getOrCreateMulti(['a', 'b', 'c'], (keys) => {
      asked.push(keys)
      return keys.map((key) => `${key}, together`)
    })
    expect(await isPending(many)).toBe(true)
    // The keys without another creator are stored already: no lease is held while waiting.
    expect(await region.get('a')).toBe('a, together')
    expect(await region.keyIsLocked('a')).toBe(false)
    creator.resolve('b, alone')
    expect(await single).toBe('b, alone')
    expect(await many).toEqual(['a, together', 'b, alone', 'c, together'])
    expect(asked).toEqual([['a', 'c']])
  })

  it('serves stale keys that others renew, and renews the others', async () => {
    const { region, clock } = open<string>({ expirationTime: 100 })
    await region.setMulti([
      ['a', 'old a'],
      ['b', 'old b'],
    ])
    clock.tick(101)
    const creator = held<string>()
    const single = region.getOrCreate('a', creator.create)
    await creator.started
    expect(await region.getOrCreateMulti(['a', 'b'], (keys) => keys.map((key) => `new ${key}`))).toEqual([
      'old a',
      'new b',
    ])
    creator.resolve('new a')
    expect(await single).toBe('new a')
  })

  it('passes the error of a creator on, and leaves no lease', async () => {
    const { region } = open<string>()
    await expect(
      region.getOrCreateMulti(['a', 'b'], () => Promise.reject(new Error('boom'))),
    ).rejects.toThrow('boom')
    expect(await region.keyIsLocked('a')).toBe(false)
    expect(await region.keyIsLocked('b')).toBe(false)
    expect(await region.getOrCreateMulti(['a', 'b'], (keys) => keys)).toEqual(['a', 'b'])
  })

  it('creates keys that two callers ask for in opposite orders without a deadlock', async () => {
    const { region } = open<string>()
    const made: string[] = []
    const ask = (keys: readonly string[]) =>
      region.getOrCreateMulti(keys, async (missing) => {
        await idle(3)
        made.push(...missing)
        return missing
      })
    const results = await Promise.all([ask(['a', 'b', 'c', 'd']), ask(['d', 'c', 'b', 'a'])])
    expect(results).toEqual([
      ['a', 'b', 'c', 'd'],
      ['d', 'c', 'b', 'a'],
    ])
    expect(made.sort()).toEqual(['a', 'b', 'c', 'd'])
  })
})

inEveryRegion('a creator that uses its region', (open) => {
  it('may create another key', async () => {
    const { region } = open<string>()
    const create = () =>
      region.getOrCreate('foo', async () => `foo${await region.getOrCreate('bar', () => 'bar')}`)
    expect(await create()).toBe('foobar')
    expect(await create()).toBe('foobar')
    expect(await region.get('bar')).toBe('bar')
  })

  it('does not deadlock on its own key', async () => {
    const { region } = open<string>()
    let runs = 0
    const value = await region.getOrCreate('key', async () => {
      runs++
      return `outer of ${await region.getOrCreate('key', () => 'inner')}`
    })
    expect(value).toBe('outer of inner')
    expect(runs).toBe(1)
    expect(await region.get('key')).toBe('outer of inner')
  })

  it('fails when it asks for itself without end', async () => {
    const { region } = open<string>()
    const create = (): Promise<string> => region.getOrCreate('key', create)
    await expect(create()).rejects.toMatchObject({ code: 'ERR_CREATION_CYCLE' })
    expect(await region.keyIsLocked('key')).toBe(false)
  })

  it('does not deadlock in a cycle of keys', async () => {
    const { region } = open<string>()
    const inA = held<void>()
    const inB = held<void>()
    const a = region.getOrCreate('a', async () => {
      await inA.create()
      return `a(${await region.getOrCreate('b', () => 'b for a')})`
    })
    const b = region.getOrCreate('b', async () => {
      await inB.create()
      return `b(${await region.getOrCreate('a', () => 'a for b')})`
    })
    await Promise.all([inA.started, inB.started])
    inA.resolve()
    inB.resolve()
    const results = await Promise.all([a, b])
    expect(results[0]).toMatch(/^a\(b/)
    expect(results[1]).toMatch(/^b\(a/)
    expect(await region.keyIsLocked('a')).toBe(false)
    expect(await region.keyIsLocked('b')).toBe(false)
  })

  it('may read many keys, its own among them, in a batch', async () => {
    const { region } = open<string>()
    const value = await region.getOrCreate('key', async () =>
      (await region.getOrCreateMulti(['key', 'other'], (keys) => keys.map((key) => `${key}!`))).join(),
    )
    expect(value).toBe('key!,other!')
    expect(await region.get('key')).toBe('key!,other!')
  })
})

describe('waiting for another creation', () => {
  it('ends at the deadline, while the creation goes on', async () => {
    const { region } = openMemory<string>({ lease: { wait: 5 } })
    const creator = held<string>()
    const leader = region.getOrCreate('key', creator.create)
    await creator.started
    await expect(region.getOrCreate('key', () => expect.unreachable())).rejects.toMatchObject({
      code: 'ERR_WAIT_TIMEOUT',
    })
    creator.resolve('value')
    expect(await leader).toBe('value')
    expect(await region.get('key')).toBe('value')
  })

  it('ends when its signal is aborted, with the reason', async () => {
    const { region } = openMemory<string>()
    const creator = held<string>()
    const leader = region.getOrCreate('key', creator.create)
    await creator.started
    const controller = new AbortController()
    const waiter = region.getOrCreate('key', () => expect.unreachable(), { signal: controller.signal })
    waiter.catch(() => {})
    await idle()
    const reason = new Error('client went away')
    controller.abort(reason)
    await expect(waiter).rejects.toBe(reason)
    creator.resolve('value')
    expect(await leader).toBe('value')
  })

  it('of many callers may end with one signal, without a warning', async () => {
    const { region } = openMemory<string>()
    const warnings: Error[] = []
    const listen = (warning: Error) => void warnings.push(warning)
    process.on('warning', listen)
    const controller = new AbortController()
    const { signal } = controller
    const creator = held<string>()
    const leader = region.getOrCreate('key', creator.create)
    await creator.started
    const waiters = Array.from({ length: 30 }, () =>
      region.getOrCreate('key', () => expect.unreachable(), { signal }),
    )
    const others = Array.from({ length: 30 }, (_, i) =>
      region.getOrCreate(`key ${i}`, creator.create, { signal }),
    )
    const settled = Promise.allSettled([...waiters, ...others])
    await idle()
    const reason = new Error('client went away')
    controller.abort(reason)
    for (const outcome of await settled) expect(outcome).toEqual({ status: 'rejected', reason })
    creator.resolve('value')
    expect(await leader).toBe('value')
    await idle()
    process.off('warning', listen)
    expect(warnings).toEqual([])
  })

  it('does not begin under a signal that is aborted already', async () => {
    const { region } = openMemory<number>()
    const reason = new Error('gone')
    const signal = AbortSignal.abort(reason)
    const calls = counting()
    await expect(region.getOrCreate('key', calls.next, { signal })).rejects.toBe(reason)
    await expect(
      region.getOrCreateMulti(['a', 'b'], (keys) => keys.map(calls.next), { signal }),
    ).rejects.toBe(reason)
    await idle()
    expect(calls.runs).toBe(0)
    expect(await region.keyIsLocked('key')).toBe(false)
    expect(await region.getOrCreate('key', calls.next)).toBe(1)
  })

  it('does not apply to the caller whose creator runs', async () => {
    const { region } = openMemory<string>({ lease: { wait: 5 } })
    const value = await region.getOrCreate('key', async () => (await sleep(40), 'slow'))
    expect(value).toBe('slow')
  })

  it('aborts the signal of a creation for which no caller waits any more', async () => {
    const { region } = openMemory<string>()
    const creator = held<string>()
    let signal: AbortSignal | undefined
    const controller = new AbortController()
    const caller = region.getOrCreate(
      'key',
      (creation) => {
        signal = creation.signal
        return creator.create()
      },
      { signal: controller.signal },
    )
    caller.catch(() => {})
    await creator.started
    expect(signal?.aborted).toBe(false)
    controller.abort(new Error('gone'))
    await expect(caller).rejects.toThrow('gone')
    expect(signal?.aborted).toBe(true)
    creator.resolve('value')
  })
})

describe('a counting creator', () => {
  it('is called again for each key', async () => {
    const { region } = openMemory<number>()
    const counter = counting()
    expect(await region.getOrCreate('a', counter.next)).toBe(1)
    expect(await region.getOrCreate('b', counter.next)).toBe(2)
    expect(await region.getOrCreate('a', counter.next)).toBe(1)
  })
})

import { describe, expect, it } from 'vitest'
import { memory } from '../../backends/memory/index.js'
import { dependencies } from '../../proxies/dependencies.js'
import {
  type CachedValue,
  CorralError,
  dep,
  dependsOn,
  diagnostics,
  inBackground,
  makeRegion,
  memoryLedger,
  NO_VALUE,
  wrap,
} from '../../src/index.js'
import { session } from '../../src/session/index.js'
import { tracked } from '../session/support.js'
import { manualClock } from '../support/stage.js'
import { gate, idle, turn } from '../support/waiting.js'

const code = (wanted: string) => (error: unknown) => CorralError.is(error, wanted as never)

let unique = 0
/** A version under a name of its own: names are known to the whole process. */
function source(options: Parameters<typeof dep.version>[2] = {}) {
  const state = { version: 'v1' as unknown, asked: 0 }
  const name = `source ${++unique}: 100%`
  const dependency = dep.version(
    name,
    (..._parts: (string | number | bigint)[]) => {
      state.asked++
      if (state.version instanceof Error) throw state.version
      return state.version as string
    },
    options,
  )
  return { state, name, dependency }
}

function heard(kind: 'notice' | 'failure' | 'unstored') {
  const messages: unknown[] = []
  const listener = (message: unknown) => messages.push(message)
  diagnostics(kind).subscribe(listener)
  return { messages, stop: () => diagnostics(kind).unsubscribe(listener) }
}

describe('dep.version', () => {
  it('makes an entry of another version a miss', async () => {
    const region = tracked()
    const { state, dependency } = source()
    let count = 0
    const cached = region.cacheOnArguments({
      namespace: 'c',
      dependencies: (id: number) => [dep.id('user', id), dependency()],
    })(async (id: number) => `${id} ${++count}`)
    expect(await cached(5)).toBe('5 1')
    expect(await cached(5)).toBe('5 1')
    state.version = 'v2'
    expect(await cached.get(5)).toBe(NO_VALUE)
    expect(await cached(5)).toBe('5 2')
    await region.invalidateDependencies(dep.id('user', 5))
    expect(await cached(5)).toBe('5 3')
  })

  it('hands its parts to the check, each with its type', async () => {
    const region = tracked()
    const parts: unknown[] = []
    const dependency = dep.version(`parts ${++unique}`, (...given: (string | number | bigint)[]) => {
      parts.push(given)
      return 1
    })
    const value = await region.getOrCreate('k', async () => {
      dependsOn(await dependency.current(5, '5', 5n, 'a:b%\\'))
      return 'v'
    })
    expect(value).toBe('v')
    expect(await region.get('k')).toBe('v')
    expect(parts).toEqual([
      [5, '5', 5n, 'a:b%\\'],
      [5, '5', 5n, 'a:b%\\'],
    ])
  })

  it('is asked once in a session, by reads and by creations', async () => {
    const region = tracked()
    const { state, dependency } = source()
    const cached = region.cacheOnArguments({ namespace: 'c', dependencies: () => dependency(1) })(
      async (id: number) => id,
    )
    await session.run(async () => {
      await cached(1)
      await cached(1)
      await cached(2)
      expect(await region.getMulti([cached.key(1), cached.key(2)])).toEqual([1, 2])
      expect(state.asked).toBe(1)
      state.version = 'v2'
      expect(await cached.get(1)).toBe(1)
    })
    expect(await session.run(() => cached.get(1))).toBe(NO_VALUE)
  })

  it('must be read before the data: dependsOn() refuses one that was not', async () => {
    const region = tracked()
    const { dependency } = source()
    await expect(
      region.getOrCreate('k', () => {
        dependsOn(dependency(5))
        return 'v'
      }),
    ).rejects.toSatisfy(code('ERR_VERSION'))
    const late = region.cacheOnArguments({ namespace: 'late', resultDependencies: () => dependency() })(
      async () => 'v',
    )
    await expect(late()).rejects.toSatisfy(code('ERR_VERSION'))
    await region.getOrCreate('k', async () => {
      const seen = await dependency.current(5)
      dependsOn(seen)
      return 'v'
    })
    expect(await region.get('k')).toBe('v')
  })

  it('is read before the function runs: a change in between makes a miss of its entry', async () => {
    const region = tracked()
    const { state, dependency } = source()
    const cached = region.cacheOnArguments({ namespace: 'c', dependencies: () => dependency() })(async () => {
      state.version = 'v2'
      return 'made while it changed'
    })
    await cached()
    expect(await cached.get()).toBe(NO_VALUE)
  })

  it('may be put with data that was loaded before', async () => {
    const region = tracked()
    const { state, dependency } = source()
    const asOf = await region.asOf()
    const seen = await dependency.current(5)
    expect(await region.set('k', 'v', { dependencies: [dep.id('row', 1), seen], asOf })).toBe('stored')
    expect(await region.get('k')).toBe('v')
    state.version = 'v2'
    expect(await region.get('k')).toBe(NO_VALUE)
    state.version = 'v1'
    expect(await region.get('k')).toBe('v')
    await region.invalidateDependencies(dep.id('row', 1))
    expect(await region.get('k')).toBe(NO_VALUE)
    await expect(region.set('k', 'v', { dependencies: [dependency(5)], asOf })).rejects.toSatisfy(
      code('ERR_VERSION'),
    )
  })

  it('is handed up through any depth', async () => {
    const region = tracked()
    const { state, dependency } = source()
    const part = region.cacheOnArguments({ namespace: 'part', dependencies: () => dependency() })(
      async () => state.version as string,
    )
    const whole = region.cacheOnArguments({ namespace: 'whole' })(async () => `${await part()}!`)
    const front = region.cacheOnArguments({ namespace: 'front' })(async () => `${await whole()}!`)
    expect(await front()).toBe('v1!!')
    expect(await front.get()).toBe('v1!!')
    state.version = 'v2'
    expect(await front.get()).toBe(NO_VALUE)
    expect(await front()).toBe('v2!!')
  })

  it('makes a miss of a value that was made from two versions of it', async () => {
    const region = tracked()
    const { state, dependency } = source()
    await region.getOrCreate('k', async () => {
      dependsOn(await dependency.current())
      state.version = 'v2'
      dependsOn(await dependency.current())
      return 'v'
    })
    expect(await region.get('k')).toBe(NO_VALUE)
    state.version = 'v1'
    expect(await region.get('k')).toBe(NO_VALUE)
  })

  it('counts as changed when its check fails, which the failure channel tells', async () => {
    const region = tracked()
    const { state, dependency } = source()
    const cached = region.cacheOnArguments({ namespace: 'c', dependencies: () => dependency() })(
      async () => 'v',
    )
    await cached()
    state.version = new Error('down')
    const failures = heard('failure')
    expect(await cached.get()).toBe(NO_VALUE)
    failures.stop()
    expect(failures.messages).toEqual([expect.objectContaining({ where: 'version', error: state.version })])
    await expect(cached()).rejects.toThrow('down')
    state.version = { no: 'version' }
    await expect(cached()).rejects.toSatisfy(code('ERR_VERSION'))
    state.version = 'v1'
    expect(await cached.get()).toBe('v')
  })

  it('counts as changed when its check hangs, which the failure channel tells', async () => {
    const region = tracked()
    const { state, dependency } = source({ timeout: 20 })
    const cached = region.cacheOnArguments({ namespace: 'c', dependencies: () => dependency() })(
      async () => 'v',
    )
    await cached()
    state.version = new Promise(() => {})
    const failures = heard('failure')
    expect(await cached.get()).toBe(NO_VALUE)
    failures.stop()
    expect(failures.messages).toEqual([
      expect.objectContaining({ where: 'version', error: expect.objectContaining({ code: 'ERR_TIMEOUT' }) }),
    ])
    await expect(cached()).rejects.toSatisfy(code('ERR_TIMEOUT'))
    state.version = 'v1'
    expect(await cached.get()).toBe('v')
  })

  const own = {}
  it.each([
    ['session.run()', {}],
    ['an object of its own', { session: () => own }],
  ])('is not asked for from within itself, in a session of %s', async (_name, options) => {
    const region = tracked()
    const name = `loop ${++unique}`
    const settings = region.cacheOnArguments({ namespace: name })(async () => {
      dependsOn(await loop.current())
      return 1
    })
    const loop: { current(): Promise<string> } = dep.version(name, async () => settings(), options)
    await session.run(() => expect(loop.current()).rejects.toSatisfy(code('ERR_VERSION')))
    const nested: { current(): Promise<string> } = dep.version(
      `nested ${name}`,
      () => session.run(() => nested.current()),
      options,
    )
    await session.run(() => expect(nested.current()).rejects.toSatisfy(code('ERR_VERSION')))
    // A call that outlives its check, or belongs to another check, is no loop.
    const inner = dep.version(`inner ${name}`, async () => 1, options)
    let later: Promise<string> | undefined
    const outer: { current(): Promise<string> } = dep.version(
      `outer ${name}`,
      async () => {
        const left = gate()
        setImmediate(left.open)
        later = left.opened.then(() => outer.current())
        return inner.current()
      },
      options,
    )
    await session.run(async () => {
      await outer.current()
      expect(session.current()).toBeDefined()
      expect(await later).toBe(await outer.current())
    })
  })

  it('fails alone: of several that fail at once or later, none is left unhandled', async () => {
    const region = tracked()
    const unheard: unknown[] = []
    const listener = (error: unknown) => unheard.push(error)
    process.on('unhandledRejection', listener)
    const late = dep.version(`late ${++unique}`, async () => {
      await null
      throw new Error('late')
    })
    const soon = dep.version(`soon ${++unique}`, () => {
      throw new Error('soon')
    })
    const one = region.cacheOnArguments({ namespace: 'one', dependencies: () => [late(), soon()] })(
      async () => 1,
    )
    await expect(one()).rejects.toThrow('soon')
    const many = region.cacheMultiOnArguments({
      namespace: 'many',
      dependencies: (id: string) => {
        if (id === 'z') throw new Error('no such id')
        return late()
      },
    })(async (...ids: string[]) => ids)
    await expect(many('a', 'z')).rejects.toThrow('no such id')
    for (let i = 0; i < 3; i++) await turn()
    process.off('unhandledRejection', listener)
    expect(unheard).toEqual([])
  })

  it('counts as changed where it was not declared, and the notice channel reports that', async () => {
    const store = memory()
    const region = makeRegion({ name: 'r', backend: wrap(store, dependencies()) })
    const asOf = await region.asOf()
    await region.set('k', 'v', { dependencies: ['~version:stranger:[]:v1'], asOf })
    const notices = heard('notice')
    expect(await region.get('k')).toBe(NO_VALUE)
    notices.stop()
    expect(notices.messages).toEqual([
      expect.objectContaining({ where: 'version', key: '~version:stranger:[]:v1' }),
    ])
  })

  it('is a miss when a foreign writer left something else for versions', async () => {
    const ledger = memoryLedger()
    const store = memory()
    const region = makeRegion({ name: 'r', backend: wrap(store, dependencies({ ledger })) })
    await region.set('k', 'v')
    const entry = (await store.get('r:k')) as CachedValue
    for (const versions of ['text', [5], [undefined], [''], ['~version:'], {}, null]) {
      await store.set(
        'r:k',
        {
          ...entry,
          metadata: { ...entry.metadata, snapshot: { ...entry.metadata.snapshot, versions } },
        } as never,
        {},
      )
      expect(await region.get('k'), JSON.stringify(versions)).toBe(NO_VALUE)
    }
    await store.set('r:k', entry, {})
    expect(await region.get('k')).toBe('v')
  })

  it('refuses a second check of its name, unless it takes the place of the first', async () => {
    const { name } = source()
    expect(() => dep.version(name, () => 1)).toThrow(expect.objectContaining({ code: 'ERR_OPTION' }))
    const region = tracked()
    const replaced = dep.version(name, () => 'w', { replace: true })
    await region.getOrCreate('k', async () => {
      dependsOn(await replaced.current())
      return 'v'
    })
    expect(await region.get('k')).toBe('v')
  })

  it('refuses unusable arguments', async () => {
    for (const [name, check, options] of [
      ['', () => 1, {}],
      [5, () => 1, {}],
      [`x ${++unique}`, 5, {}],
      [`x ${++unique}`, () => 1, { ttl: 5 }],
      [`x ${++unique}`, () => 1, { withoutSession: 'never' }],
    ] as const)
      expect(() => dep.version(name as never, check as never, options as never)).toThrow(
        expect.objectContaining({ code: 'ERR_OPTION' }),
      )
    const { dependency } = source()
    for (const part of [Number.NaN, {}, true, undefined])
      expect(() => dependency(part as never)).toThrow(expect.objectContaining({ code: 'ERR_OPTION' }))
    const region = tracked()
    for (const name of [dependency(), await dependency.current()]) {
      const refused = region.invalidateDependencies(name)
      await expect(refused).rejects.toSatisfy(code('ERR_VERSION'))
      await expect(refused).rejects.toThrow('names that can be invalidated')
    }
  })

  it('is explained', async () => {
    const region = tracked()
    const { state, name, dependency } = source()
    const cached = region.cacheOnArguments({ namespace: 'c', dependencies: () => dependency(5) })(
      async () => 'v',
    )
    await cached()
    const version = `~version:${name.replace('%', '%25').replace(':', '%3A')}:[5]:v1`
    expect(await region.explain(cached.key())).toMatchObject({
      verdict: 'hit',
      dependsOn: ['region:tracked', version],
      invalidated: [],
    })
    state.version = 'v2'
    expect(await region.explain(cached.key())).toMatchObject({ verdict: 'miss', invalidated: [version] })
  })

  it('keeps peek() synchronous as long as its check is', async () => {
    const region = tracked()
    const { state, dependency } = source()
    const cached = region.cacheOnArguments({ namespace: 'c', dependencies: () => dependency() })(
      async () => 'v',
    )
    await cached()
    expect(region.peek(cached.key())).toBe('v')
    state.version = 'v2'
    expect(region.peek(cached.key())).toBe(NO_VALUE)
    state.version = Promise.resolve('v1')
    expect(() => region.peek(cached.key())).toThrow(expect.objectContaining({ code: 'ERR_ASYNC_BACKEND' }))
    await session.run(async () => {
      await cached.get()
      expect(region.peek(cached.key())).toBe('v')
    })
  })

  it('works with a ledger that is lent', async () => {
    const region = makeRegion({
      name: 'r',
      backend: wrap(memory(), dependencies({ ledger: memoryLedger() })),
    })
    const { state, dependency } = source()
    const cached = region.cacheOnArguments({ namespace: 'c', dependencies: () => dependency() })(
      async () => 'v',
    )
    await cached()
    expect(await cached.get()).toBe('v')
    state.version = 'v2'
    expect(await cached.get()).toBe(NO_VALUE)
  })

  it('may demand a session: outside of one its dependents are misses, and cannot be created', async () => {
    const region = tracked()
    const { dependency } = source({ withoutSession: 'throw' })
    const cached = region.cacheOnArguments({ namespace: 'c', dependencies: () => dependency() })(
      async () => 'v',
    )
    await session.run(() => cached())
    expect(await session.run(() => cached.get())).toBe('v')
    expect(await cached.get()).toBe(NO_VALUE)
    await expect(cached()).rejects.toSatisfy(code('ERR_NO_SESSION'))
  })
})

describe('callers of several sessions', () => {
  function slow() {
    const region = tracked()
    const { state, dependency } = source()
    const made = [gate(), gate()]
    const runs: string[] = []
    const cached = region.cacheOnArguments({ namespace: 'c', dependencies: () => dependency() })(async () => {
      const version = String(state.version)
      runs.push(version)
      await made[runs.length - 1]?.opened
      return version
    })
    return { state, made, runs, cached, region }
  }

  it('do not take from a creation under way a value of an older version than theirs', async () => {
    const { state, made, runs, cached } = slow()
    const first = session.run(() => cached())
    await turn()
    state.version = 'v2'
    const second = session.run(() => cached())
    await turn()
    made[0]?.open()
    made[1]?.open()
    expect(await first).toBe('v1')
    expect(await second).toBe('v2')
    expect(runs).toEqual(['v1', 'v2'])
  })

  it('share a creation while the version stays', async () => {
    const { made, runs, cached } = slow()
    const all = Promise.all([1, 2, 3].map(() => session.run(() => cached())))
    await turn()
    made[0]?.open()
    expect(await all).toEqual(['v1', 'v1', 'v1'])
    expect(runs).toEqual(['v1'])
  })

  it('do not take in a batch a value of an older version either', async () => {
    const region = tracked()
    const { state, dependency } = source()
    const made = gate()
    const create = async (keys: readonly string[]) => {
      dependsOn(await dependency.current())
      const version = String(state.version)
      if (version === 'v1') await made.opened
      return keys.map((key) => `${key} ${version}`)
    }
    const first = session.run(() => region.getOrCreateMulti(['a', 'b'], create))
    await turn()
    state.version = 'v2'
    const second = session.run(() => region.getOrCreateMulti(['b', 'c'], create))
    await turn()
    made.open()
    expect(await first).toEqual(['a v1', 'b v1'])
    expect(await second).toEqual(['b v2', 'c v2'])
  })

  it('leave a renewal in the background to a session of its own', async () => {
    const clock = manualClock()
    const region = makeRegion<string>({
      name: 'background',
      clock,
      expirationTime: 100,
      backend: wrap(memory({ clock }), dependencies()),
      asyncCreationRunner: inBackground(),
    })
    const { state, dependency } = source({ withoutSession: 'throw' })
    const cached = region.cacheOnArguments({ namespace: 'c', dependencies: () => dependency() })(
      async () => state.version as string,
    )
    await session.run(async () => {
      expect(await cached()).toBe('v1')
      state.version = 'v2'
      clock.tick(101)
      expect(await cached()).toBe('v1')
      await idle()
    })
    expect(await session.run(() => cached.get())).toBe('v2')
  })

  it('that know an older version are given nothing older than it, nor fight for ever', async () => {
    const { state, cached, made, runs } = slow()
    for (const one of made) one.open()
    await session.run(async () => {
      await cached()
      state.version = 'v2'
      expect(await session.run(() => cached())).toBe('v2')
      // The stored value has another version, so it is created again, for this session.
      expect(await cached()).toBe('v2')
    })
    expect(runs).toEqual(['v1', 'v2', 'v2'])
  })
})

import { describe, expect, it } from 'vitest'
import { memory } from '../../backends/memory/index.js'
import { dependencies } from '../../proxies/dependencies.js'
import { CorralError, dependsOn, makeRegion, NO_VALUE, wrap } from '../../src/index.js'
import { session, versioned } from '../../src/session/index.js'
import { manualClock } from '../support/stage.js'
import { gate, turn } from '../support/waiting.js'
import { cachedTable, tracked } from './support.js'

const code = (wanted: string) => (error: unknown) => CorralError.is(error, wanted as never)

describe('a versioned function', () => {
  it('runs once in a session, with one check of the version', async () => {
    const { seen, write, cached } = cachedTable()
    write('a', 'one')
    await session.run(async () => {
      expect(await cached('a')).toBe('one')
      expect(await cached('a')).toBe('one')
    })
    expect(seen).toEqual({ versions: 1, reads: 1 })
  })

  it('runs once for many sessions while the version stays', async () => {
    const { seen, cached } = cachedTable()
    for (let i = 0; i < 3; i++) await session.run(() => cached('a'))
    expect(seen).toEqual({ versions: 3, reads: 1 })
  })

  it('runs again in the first session that sees another version', async () => {
    const { seen, write, cached } = cachedTable()
    write('a', 'one')
    await session.run(() => cached('a'))
    write('a', 'two')
    expect(await session.run(() => cached('a'))).toBe('two')
    expect(seen).toEqual({ versions: 2, reads: 2 })
  })

  it('keeps to one version within a session, also when it changes meanwhile', async () => {
    const { seen, write, cached } = cachedTable()
    write('a', 'one')
    await session.run(async () => {
      expect(await cached('a')).toBe('one')
      write('a', 'two')
      expect(await session.run(() => cached('a'))).toBe('two')
      expect(await cached('a')).toBe('one')
    })
    expect(seen).toEqual({ versions: 2, reads: 2 })
  })

  it('asks each time outside of a session', async () => {
    const { seen, write, cached } = cachedTable()
    write('a', 'one')
    expect(await cached('a')).toBe('one')
    write('a', 'two')
    expect(await cached('a')).toBe('two')
    expect(seen.versions).toBe(2)
  })

  it('may demand a session', async () => {
    const { cached, seen } = cachedTable({ withoutSession: 'throw' })
    await expect(cached('a')).rejects.toSatisfy(code('ERR_NO_SESSION'))
    expect(seen).toEqual({ versions: 0, reads: 0 })
    expect(await session.run(() => cached('a'))).toBe('')
  })

  it('keeps its versions on any object that stands for a session', async () => {
    let request: object | undefined = {}
    const { seen, cached } = cachedTable({ session: () => request })
    await cached('a')
    await cached('a')
    expect(seen.versions).toBe(1)
    request = {}
    await cached('a')
    expect(seen.versions).toBe(2)
    request = undefined
    await cached('a')
    await cached('a')
    expect(seen).toEqual({ versions: 4, reads: 1 })
  })

  it('reads the version before it creates the value: a change meanwhile leaves an entry of the older version', async () => {
    const made = gate()
    let row = { version: 1, text: 'old' }
    const cached = versioned({ namespace: 'slow', version: () => row.version })(async () => {
      const { text } = row
      await made.opened
      return text
    })
    const first = cached()
    await turn()
    row = { version: 2, text: 'new' }
    const second = cached()
    made.open()
    expect(await first).toBe('old')
    expect(await second).toBe('new')
    expect(await cached()).toBe('new')
  })

  it('makes one value and asks for one version when a session calls it many times at once', async () => {
    const seen = { versions: 0, values: 0 }
    const cached = versioned({
      namespace: 'once',
      version: async (_id: number) => {
        seen.versions++
        await turn()
        return 'v'
      },
    })(async (id: number) => {
      seen.values++
      await turn()
      return id
    })
    const all = await session.run(() => Promise.all(Array.from({ length: 6 }, () => cached(7))))
    expect(all).toEqual([7, 7, 7, 7, 7, 7])
    expect(seen).toEqual({ versions: 1, values: 1 })
    await Promise.all(Array.from({ length: 6 }, () => session.run(() => cached(8))))
    expect(seen).toEqual({ versions: 7, values: 2 })
  })

  it('takes numbers, bigints, texts and dates for versions, 0 among them, and a default for none', async () => {
    let version: unknown
    const cached = versioned({ namespace: 'kinds', version: () => version as string })(() => 'v')
    for (const [given, text] of [
      [0, '0'],
      [5n, '5'],
      ['W/"abc"', 'W/"abc"'],
      [new Date(86_400_000), '86400000'],
      ['', '-1'],
      [undefined, '-1'],
      [null, '-1'],
    ] as const) {
      version = given
      expect(await cached.version()).toBe(text)
    }
    for (const wrong of [Number.NaN, {}, false, Symbol('v'), new Date(Number.NaN)]) {
      version = wrong
      await expect(cached()).rejects.toSatisfy(code('ERR_VERSION'))
    }
  })

  it('has a default version of the caller’s', async () => {
    const cached = versioned({ namespace: 'none', version: () => undefined, defaultVersion: 'empty' })(
      () => 1,
    )
    expect(await cached()).toBe(1)
    expect(await cached.version()).toBe('empty')
  })

  it('tells the default from a version that reads the same', async () => {
    for (const options of [{}, { defaultVersion: 'none' }]) {
      const [none] = Object.values(options)
      let version: unknown
      let runs = 0
      const cached = versioned({ namespace: 'default', version: () => version as string, ...options })(
        () => ++runs,
      )
      const tokens = new Set<string>()
      const all = [undefined, none ?? -1, `~${none ?? -1}`, `~~${none ?? -1}`, '~']
      for (version of all) {
        await cached()
        tokens.add(await cached.version())
      }
      expect([runs, tokens.size]).toEqual([all.length, all.length])
    }
  })

  it('waits for a version only so long: ERR_TIMEOUT, and the next call of the session asks again', async () => {
    let hangs = true
    const cached = versioned({
      namespace: 'hanging',
      version: () => (hangs ? new Promise<number>(() => {}) : 1),
      timeout: 20,
    })(() => 'v')
    await expect(cached()).rejects.toSatisfy(code('ERR_TIMEOUT'))
    await session.run(async () => {
      await expect(cached()).rejects.toSatisfy(code('ERR_TIMEOUT'))
      hangs = false
      expect(await cached()).toBe('v')
    })
  })

  it('keeps to the newer version when an earlier question is answered late', async () => {
    const late = gate()
    let version = 1
    let asked = 0
    const cached = versioned({
      namespace: 'late',
      version: async () => {
        const read = version
        if (++asked === 1) await late.opened
        return read
      },
    })(() => `made at ${version}`)
    await session.run(async () => {
      const first = cached()
      version = 2
      session.forget()
      await cached()
      await cached.invalidate()
      expect(await cached()).toBe('made at 2')
      late.open()
      await first
      expect(await cached.version()).toBe('2')
      expect(asked).toBe(3)
    })
    // The same where the session's own memory was not thrown away: a refresh overtakes the first question.
    await session.run(async () => {
      const slow = gate()
      let turn = 0
      const other = versioned({
        namespace: 'overtaken',
        version: async () => {
          if (++turn > 1) return 'newer'
          await slow.opened
          return 'older'
        },
      })(() => turn)
      const first = other.version()
      await other.refresh()
      slow.open()
      expect(await first).toBe('older')
      expect(await other.version()).toBe('newer')
    })
  })

  it('knows nothing after a refresh that could not read the version', async () => {
    let version: number | undefined = 1
    const cached = versioned({
      namespace: 'lost',
      version: () => {
        if (version === undefined) throw new Error('down')
        return version
      },
    })(() => version)
    await session.run(async () => {
      expect(await cached()).toBe(1)
      version = undefined
      await expect(cached.refresh()).rejects.toThrow('down')
      version = 2
      expect(await cached()).toBe(2)
    })
  })

  it('asks for the version again in the session that invalidated', async () => {
    const { write, version, cached } = cachedTable()
    await session.run(async () => {
      await cached('a')
      write('a', 'one')
      expect(await cached('a')).toBe('')
      await cached.invalidate('a')
      expect(await cached.version('a')).toBe(String(version('a')))
      expect(await cached('a')).toBe('one')
    })
  })

  it('rejects when its version cannot be read, caches nothing, and asks again in the same session', async () => {
    let fails = true
    const seen = { versions: 0, values: 0 }
    for (const later of [false, true]) {
      fails = true
      const cached = versioned({
        namespace: 'failing',
        version: () => {
          seen.versions++
          if (later) return fails ? Promise.reject(new Error('down')) : Promise.resolve('v')
          if (fails) throw new Error('down')
          return 'v'
        },
      })(() => ++seen.values)
      await session.run(async () => {
        await expect(Promise.all([cached(), cached()])).rejects.toThrow('down')
        await expect(cached.get()).rejects.toThrow('down')
        fails = false
        expect(await cached()).toBe(later ? 2 : 1)
        expect(await cached()).toBe(later ? 2 : 1)
      })
    }
    expect(seen.values).toBe(2)
  })

  it('does not cache a failure of the function', async () => {
    let fails = true
    const cached = versioned({ namespace: 'f', version: () => 1 })(() => {
      if (fails) throw new Error('once')
      return 'made'
    })
    await session.run(async () => {
      await expect(cached()).rejects.toThrow('once')
      fails = false
      expect(await cached()).toBe('made')
    })
  })

  it('returns the stored value without calling the function', async () => {
    const { seen, write, cached } = cachedTable()
    expect(await cached.get('a')).toBe(NO_VALUE)
    await cached('a')
    expect(await cached.get('a')).toBe('')
    write('a', 'one')
    expect(await cached.get('a')).toBe(NO_VALUE)
    expect(seen.reads).toBe(1)
  })

  it('refreshes under the version that it finds then, also in a session that knew an older one', async () => {
    const { write, cached, version } = cachedTable()
    await session.run(async () => {
      expect(await cached('a')).toBe('')
      write('a', 'one')
      expect(await cached('a')).toBe('')
      expect(await cached.refresh('a')).toBe('one')
      expect(await cached('a')).toBe('one')
      expect(await cached.version('a')).toBe(String(version('a')))
    })
  })

  it('forgets the versions of a session that changes the data', async () => {
    const { write, cached } = cachedTable()
    await session.run(async () => {
      expect(await cached('a')).toBe('')
      write('a', 'one')
      session.forget()
      expect(await cached('a')).toBe('one')
    })
  })

  it('invalidates the results of all versions, also for sessions that began before', async () => {
    let text = 'one'
    let version = 1
    const cached = versioned({ namespace: 'all', version: () => version })(() => text)
    await session.run(async () => {
      expect(await cached()).toBe('one')
      version = 2
      expect(await session.run(cached)).toBe('one')
      text = 'two'
      await session.run(() => cached.invalidate())
      expect(await cached()).toBe('two')
      expect(await session.run(cached)).toBe('two')
    })
  })

  it('invalidates softly: the old result is served while one caller renews it', async () => {
    let count = 0
    const made = gate()
    const cached = versioned({ namespace: 'soft', version: () => 1 })(async () => {
      if (count > 0) await made.opened
      return ++count
    })
    expect(await cached()).toBe(1)
    await cached.invalidate.soft()
    const renewing = cached()
    expect(await cached()).toBe(1)
    made.open()
    expect(await renewing).toBe(2)
    expect(await cached()).toBe(2)
  })

  it('is not brought back by a call under way when it was invalidated', async () => {
    const made = gate()
    let text = 'old'
    const cached = versioned({ namespace: 'fenced', version: () => 1 })(async () => {
      const read = text
      await made.opened
      return read
    })
    const first = cached()
    await turn()
    text = 'new'
    await cached.invalidate()
    made.open()
    expect(await first).toBe('old')
    expect(await cached()).toBe('new')
  })

  it('needs a region that tracks dependencies to be invalidated', async () => {
    const { cached } = cachedTable({ region: makeRegion({ backend: memory() }) })
    await cached('a')
    await expect(cached.invalidate('a')).rejects.toSatisfy(code('ERR_NO_LEDGER'))
  })

  it('keeps name, length and the function itself', () => {
    const fn = function readRow(_id: string, _more: number) {
      return 'v'
    }
    const cached = versioned({ namespace: 'n', version: () => 1 })(fn)
    expect([cached.name, cached.length]).toEqual(['readRow', 2])
    expect(cached.original('a', 1)).toBe('v')
    expect(cached.key('v', 'a', 1)).toBe('n|"a",1@"v"')
    for (const version of [7, 7n, undefined, new Date(7)])
      expect(() => cached.key(version as never, 'a', 1)).toThrow(
        expect.objectContaining({ code: 'ERR_OPTION' }),
      )
  })

  it('takes the function first, and gives it as the original', async () => {
    const load = async (id: string, more = '') => `${id}${more}`
    const cached = versioned(load, {
      namespace: 'first',
      version: (id) => id.length,
      shouldCache: (value) => value !== 'x',
    })
    expect(await cached('a', 'b')).toBe('ab')
    expect(await cached.get('a', 'b')).toBe('ab')
    expect([await cached('x'), await cached.get('x')]).toEqual(['x', NO_VALUE])
    expect(cached.original).toBe(load)
    expect([cached.name, cached.length]).toEqual(['load', 1])
    expect(() => versioned(load, undefined as never)).toThrow(
      expect.objectContaining({ code: 'ERR_OPTION' }) as Error,
    )
  })

  it('gives each entry the lifetime of its arguments or result', async () => {
    for (const expirationTime of [
      (lasts: number) => lasts,
      { ofResult: (result: string, lasts: number) => (result === `lasts ${lasts}` ? lasts : 1) },
    ]) {
      const clock = manualClock()
      const region = makeRegion<string>({ name: 'r', backend: wrap(memory(), dependencies()), clock })
      const cached = versioned(async (lasts: number) => `lasts ${lasts}`, {
        namespace: 'lasting',
        version: () => 1,
        region,
        expirationTime,
      })
      await Promise.all([cached(100), cached(200)])
      clock.tick(101)
      expect([await cached.get(100), await cached.get(200)]).toEqual([NO_VALUE, 'lasts 200'])
      clock.tick(100)
      expect(await cached.get(200)).toBe(NO_VALUE)
    }
  })

  it('takes options for one call, also the reason of an invalidation', async () => {
    const region = makeRegion<string>({ name: 'r', backend: wrap(memory(), dependencies()) })
    const reasons: unknown[] = []
    region.on('invalidate', ({ reason }) => void reasons.push(reason))
    const slow = gate()
    let held = true
    const cached = versioned(
      async (id: string) => {
        if (held) await slow.opened
        return id
      },
      { namespace: 'calls', version: () => 1, region },
    )
    const stop = new AbortController()
    const impatient = cached.with({ signal: stop.signal })('a')
    const patient = cached('a')
    await turn()
    stop.abort(new Error('enough'))
    await expect(impatient).rejects.toThrow('enough')
    held = false
    slow.open()
    expect(await patient).toBe('a')
    expect(await cached.with({ shouldCache: () => false }).with({ reason: 'moved' })('b')).toBe('b')
    expect(await cached.get('b')).toBe(NO_VALUE)
    await cached.with({ reason: 'moved' }).with({ hardTimeout: '1s' }).invalidate('a')
    await cached.with({ reason: 'aged' }).invalidate.soft('a')
    expect(reasons).toEqual(['moved', 'aged'])
    expect(() => cached.with({ sginal: stop.signal } as never)).toThrow(/sginal/)
  })

  it('refuses options that cannot be right', () => {
    const version = () => 1
    const region = tracked()
    for (const [options, wanted] of [
      [{ version }, 'ERR_NAMESPACE'],
      [{ namespace: 'n' }, 'ERR_OPTION'],
      [{ version, namespace: 'n', expirationTime: 0 }, 'ERR_OPTION'],
      [{ version, namespace: 'n', maxSize: 0 }, 'ERR_OPTION'],
      [{ version, namespace: 'n', maxSize: Number.POSITIVE_INFINITY }, 'ERR_OPTION'],
      [{ version, namespace: 'n', maxSize: 5, region }, 'ERR_OPTION'],
      [{ version, namespace: 'n', region: {} }, 'ERR_OPTION'],
      [{ version, namespace: 'n', session: {} }, 'ERR_OPTION'],
      [{ version, namespace: 'n', withoutSession: 'no' }, 'ERR_OPTION'],
      [{ version, namespace: 'n', defaultVersion: '' }, 'ERR_OPTION'],
      [{ version, namespace: 'n', defaultVersion: '~1' }, 'ERR_OPTION'],
      [{ version, namespace: 'n', timeout: 0 }, 'ERR_OPTION'],
      [{ version, namespace: 'n', functionKeyGenerator: 5 }, 'ERR_OPTION'],
      [{ version, namespace: 'n', time_to_live_seconds: 5 }, 'ERR_OPTION'],
    ] as const)
      expect(() => versioned(options as never), JSON.stringify(options)).toThrow(
        expect.objectContaining({ code: wanted }),
      )
    expect(() => versioned({ version, namespace: 'n' })(5 as never)).toThrow(
      expect.objectContaining({ code: 'ERR_OPTION' }),
    )
    const stray = versioned({ version, namespace: 'n', session: () => 5 as never })(() => 1)
    return expect(stray()).rejects.toSatisfy(code('ERR_OPTION'))
  })

  it('a promise of a session, whose versions no later call would find', async () => {
    const late = versioned({ version: () => 1, namespace: 'late', session: async () => ({}) })(() => 1)
    await expect(late()).rejects.toMatchObject({
      code: 'ERR_OPTION',
      message: expect.stringContaining('`session`'),
    })
  })
})

describe('a versioned function inside another one’s creator', () => {
  it('hands up its version: when that changes, values made from it are misses', async () => {
    const region = tracked('outer')
    const { seen, write, cached } = cachedTable({ namespace: 'handed', region })
    write('a', 'one')
    const page = region.cacheOnArguments({ namespace: 'page' })(async (id: string) => `<${await cached(id)}>`)
    expect(await page('a')).toBe('<one>')
    expect(await page.get('a')).toBe('<one>')
    write('a', 'two')
    expect(await page.get('a')).toBe(NO_VALUE)
    expect(await page('a')).toBe('<two>')
    await session.run(async () => {
      const { versions } = seen
      expect(await page('a')).toBe('<two>')
      expect(await page('a')).toBe('<two>')
      expect(seen.versions).toBe(versions + 1)
    })
  })

  it('hands up its invalidation', async () => {
    const region = tracked('outer')
    let text = 'one'
    const part = versioned({ namespace: 'part', version: () => 1, region })(() => text)
    const page = region.cacheOnArguments({ namespace: 'page' })(async () => `<${await part()}>`)
    expect(await page()).toBe('<one>')
    text = 'two'
    await part.invalidate()
    expect(await page()).toBe('<two>')
  })

  it('keeps values made from it from being stored where its version cannot be asked for by name', async () => {
    const region = tracked('outer')
    const part = versioned({ namespace: 'object', version: () => 1, region })(({ id }) => id)
    const page = region.cacheOnArguments({ namespace: 'page' })(async () => part({ id: 1 }))
    expect(await page()).toBe(1)
    expect(await page.get()).toBe(NO_VALUE)
    const twins = [1, 2].map((n) => versioned({ namespace: 'twin', version: () => 1, region })(() => n))
    for (const [i, twin] of twins.entries()) {
      const other = region.cacheOnArguments({ namespace: `other ${i}` })(async () => twin())
      expect(await other()).toBe(1)
      expect(await other.get()).toBe(NO_VALUE)
    }
  })

  it('may declare dependencies of its own', async () => {
    const region = tracked('own')
    let text = 'one'
    const part = versioned({ namespace: 'declaring', version: () => 1, region })(() => {
      dependsOn('row')
      return text
    })
    expect(await part()).toBe('one')
    text = 'two'
    await region.invalidateDependencies('row')
    expect(await part()).toBe('two')
  })
})

it('versioned() keeps its options as they were at the call', async () => {
  const options = { namespace: 'early', version: () => 1 }
  const cached = versioned(options)
  Object.assign(options, { namespace: 'late', version: () => 2 })
  const page = cached(async () => 'page')
  expect(page.key('1')).toMatch(/^early/)
  expect(await page.version()).toBe('1')
})

it('a version may be a thenable whose then returns nothing', async () => {
  // biome-ignore lint/suspicious/noThenProperty: the test needs a thenable
  const later = { then: (resolve: (value: string) => void) => void setImmediate(resolve, 'v5') }
  const page = versioned(async () => 'page', { namespace: 'thenable', version: () => later as never })
  expect(await page.version()).toBe('v5')
})

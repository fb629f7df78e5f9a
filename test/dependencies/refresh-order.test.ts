/** refreshDependencies renews nested values from the inside out, so that each creator runs once and on renewed parts. */
import { AsyncLocalStorage } from 'node:async_hooks'
import { describe, expect, it } from 'vitest'
import { memory } from '../../backends/memory/index.js'
import { dependencies } from '../../proxies/dependencies.js'
import {
  type BackendProxy,
  type CachedValue,
  delegate,
  dep,
  inBackground,
  makeRegion,
  NO_VALUE,
  type Region,
  type RegionOptions,
  wrap,
} from '../../src/index.js'
import { deferred, turn } from '../support/waiting.js'
import { onStores } from './stores.js'

const USER = dep.group('user', 1)
const ofUser = { group: { user: ([id]: [number]) => id } }
const USERS = { dependencies: (id: number) => dep.group('user', id) }

function site(options: Partial<RegionOptions> = {}) {
  const store = wrap(memory(), dependencies())
  const open = (name: string, more: Partial<RegionOptions> = {}): Region<string> =>
    makeRegion<string>({ name, backend: store, ...options, ...more })
  return { open, region: open('site') }
}

/** Creators that record their runs, over a row that changes. */
function recorder() {
  const row = { value: 'old' }
  const runs: string[] = []
  const creator =
    (name: string, part?: (id: number) => Promise<unknown>) =>
    async (id: number): Promise<string> => {
      runs.push(name)
      const { value } = row
      await turn()
      return part === undefined ? value : `<${String(await part(id))}>`
    }
  const change = () => {
    runs.length = 0
    row.value = 'new'
  }
  return { runs, creator, change }
}

describe('a refresh of nested functions', () => {
  it.each<[string, Partial<RegionOptions>]>([
    ['of a region', {}],
    ['of a region that renews in the background', { asyncCreationRunner: inBackground() }],
  ])('runs each creator once, the parts first, %s', async (_, options) => {
    const { region } = site(options)
    const { runs, creator, change } = recorder()
    const part = region.cacheOnArguments({ namespace: 'part', ...ofUser })(creator('part'))
    const middle = region.cacheOnArguments({ namespace: 'middle', ...USERS })(creator('middle', part))
    const whole = region.cacheOnArguments({ namespace: 'whole', ...ofUser })(creator('whole', middle))
    await whole(1)
    change()
    await region.refreshDependencies(USER)
    expect(runs.sort()).toEqual(['middle', 'part', 'whole'])
    expect(await Promise.all([part, middle, whole].map((one) => one.get(1)))).toEqual([
      'new',
      '<new>',
      '<<new>>',
    ])
  })

  it('runs each once where more of them wait than run at a time', async () => {
    const { region } = site()
    const { runs, creator, change } = recorder()
    const part = { read: undefined as undefined | ((id: number) => Promise<string>) }
    const wholes = Array.from({ length: 20 }, (_, i) =>
      region.cacheOnArguments({ namespace: `whole ${i}`, ...ofUser })(
        creator(`whole ${i}`, (id) => part.read?.(id) as Promise<string>),
      ),
    )
    // Called after the others, so that it stands behind them.
    part.read = async () => 'none yet'
    for (const whole of wholes) await whole(1)
    const cached = region.cacheOnArguments({ namespace: 'part', ...ofUser })(creator('part'))
    part.read = cached
    await cached(1)
    change()
    await region.refreshDependencies(USER)
    expect(runs).toHaveLength(21)
    expect(new Set(runs).size).toBe(21)
    for (const whole of wholes) expect(await whole.get(1)).toBe('<new>')
  })

  it('runs a part that another creator needs in the context of the refresh, not in that of the creator', async () => {
    const { region } = site()
    const tenants = new AsyncLocalStorage<string>()
    const seen: (string | undefined)[] = []
    const part: { read?: (id: number) => Promise<string> } = {}
    const wholes = Array.from({ length: 20 }, (_, i) =>
      region.cacheOnArguments({ namespace: `whole ${i}`, ...ofUser })((id: number) =>
        tenants.run(`whole ${i}`, async () => (await part.read?.(id)) ?? 'none yet'),
      ),
    )
    for (const whole of wholes) await whole(1)
    const cached = region.cacheOnArguments({ namespace: 'part', ...ofUser })(async (_: number) => {
      seen.push(tenants.getStore())
      return 'part'
    })
    await tenants.run('first call', () => cached(1))
    part.read = cached
    await tenants.run('refresh', () => region.refreshDependencies(USER))
    expect(seen).toEqual(['first call', 'refresh'])
  })

  it('never takes a value that was softly invalidated after it was stored', async () => {
    const reply = deferred<void>()
    const stored = deferred<void>()
    let holding = false
    const slow: BackendProxy<CachedValue> = (next) =>
      delegate(next, {
        async set(key, value, options) {
          const outcome = await next.set(key, value, options)
          if (holding) {
            holding = false
            stored.resolve()
            await reply.promise
          }
          return outcome
        },
      })
    const region = makeRegion<string>({ name: 'r', backend: wrap(memory(), slow, dependencies()) })
    let version = 1
    const go = deferred<void>()
    const seen: string[] = []
    const part = region.cacheOnArguments({ namespace: 'part', ...ofUser })(async (_: number) => `v${version}`)
    const whole = region.cacheOnArguments({ namespace: 'whole', ...ofUser })(async (id: number) => {
      if (version > 1) await go.promise
      seen.push(await part(id))
      return `<${seen.at(-1)}>`
    })
    await whole(1)
    version = 2
    holding = true
    const refreshed = region.refreshDependencies(USER)
    await stored.promise
    version = 3
    await region.invalidateDependencies(USER, 'soft')
    go.resolve()
    await turn()
    reply.resolve()
    await refreshed
    expect(seen).not.toContain('v2')
    expect(await whole.get(1)).toBe('<v3>')
  })

  it('runs each once through a function that declares nothing ahead', async () => {
    const { region } = site()
    const { runs, creator, change } = recorder()
    const part = region.cacheOnArguments({ namespace: 'part', ...ofUser })(creator('part'))
    const between = region.cacheOnArguments({ namespace: 'between' })(creator('between', part))
    const wholes = ['a', 'b', 'c'].map((name) =>
      region.cacheOnArguments({ namespace: name, ...ofUser })(creator(name, between)),
    )
    for (const whole of wholes) await whole(1)
    change()
    await region.refreshDependencies(USER)
    expect(runs.sort()).toEqual(['a', 'b', 'between', 'c', 'part'])
    for (const whole of wholes) expect(await whole.get(1)).toBe('<<new>>')
  })

  it.each<[string, Partial<RegionOptions>]>([
    ['', {}],
    [', which renews in the background', { asyncCreationRunner: inBackground() }],
  ])('runs each once across regions over one ledger%s', async (_, options) => {
    const { open, region } = site()
    const { runs, creator, change } = recorder()
    const part = open('parts', options).cacheOnArguments({ namespace: 'part', ...ofUser })(creator('part'))
    const wholes = ['a', 'b', 'c'].map((name) =>
      region.cacheOnArguments({ namespace: name, ...ofUser })(creator(name, part)),
    )
    for (const whole of wholes) await whole(1)
    change()
    await region.refreshDependencies(USER)
    expect(runs.sort()).toEqual(['a', 'b', 'c', 'part'])
    for (const whole of wholes) expect(await whole.get(1)).toBe('<new>')
  })

  it('runs each id once where functions of many ids nest', async () => {
    const { region } = site()
    let version = 1
    const ids: number[] = []
    const parts = region.cacheMultiOnArguments({
      namespace: 'part',
      group: { all: () => 1 },
    })(async (...wanted: number[]) => {
      ids.push(...wanted)
      await turn()
      return wanted.map((id) => `${id} v${version}`)
    })
    const wholes: string[] = []
    const whole = region.cacheOnArguments({ namespace: 'whole', group: { all: () => 1 } })(
      async (name: string) => {
        wholes.push(name)
        return (await parts(1, 2, 3)).join()
      },
    )
    await Promise.all([whole('a'), whole('b')])
    version = 2
    ids.length = wholes.length = 0
    await region.refreshDependencies(dep.group('all', 1))
    expect([ids.sort(), wholes.sort()]).toEqual([
      [1, 2, 3],
      ['a', 'b'],
    ])
    expect(await Promise.all([whole.get('a'), whole.get('b')])).toEqual(Array(2).fill('1 v2,2 v2,3 v2'))
  })

  it('runs each once where a part has no value any more', async () => {
    const { region } = site()
    const runs: string[] = []
    let gone = false
    const part = region.cacheOnArguments({ namespace: 'part', ...ofUser })(async (_: number) => {
      runs.push('part')
      await turn()
      return gone ? (NO_VALUE as never) : 'part'
    })
    const whole = region.cacheOnArguments({ namespace: 'whole', ...ofUser })(async (id: number) => {
      runs.push('whole')
      const found: unknown = await part(id)
      return found === NO_VALUE ? 'without' : `<${String(found)}>`
    })
    await whole(1)
    gone = true
    runs.length = 0
    await region.refreshDependencies(USER)
    expect(runs.sort()).toEqual(['part', 'whole'])
    expect([await part.get(1), await whole.get(1)]).toEqual([NO_VALUE, 'without'])
  })

  it('fails with a part that fails, and leaves both values stale', async () => {
    const { region } = site()
    let runs = 0
    let broken = false
    const part = region.cacheOnArguments({ namespace: 'part', ...ofUser })(async (_: number) => {
      runs++
      if (broken) throw new Error('no part')
      return 'part'
    })
    const whole = region.cacheOnArguments({ namespace: 'whole', ...ofUser })(async (id: number) => part(id))
    await whole(1)
    broken = true
    runs = 0
    await expect(region.refreshDependencies(USER)).rejects.toThrow('no part')
    expect(runs).toBe(1)
    for (const one of [part, whole])
      expect(await region.get(one.key(1), { ignoreExpiration: true })).toBe('part')
  })

  it('ends where functions call each other in a circle, and runs none of them more than twice', async () => {
    const { region } = site()
    const runs: string[] = []
    const other: { read?: (id: number) => Promise<string> } = {}
    const one = region.cacheOnArguments({ namespace: 'one', ...ofUser })(async (id: number) => {
      runs.push('one')
      await turn()
      return `one of ${((await other.read?.(id)) ?? '').slice(0, 5)}`
    })
    const cached = region.cacheOnArguments({ namespace: 'other', ...ofUser })(async (id: number) => {
      runs.push('other')
      await turn()
      return `other of ${(await one(id)).slice(0, 3)}`
    })
    await one(1)
    await cached(1)
    other.read = cached
    runs.length = 0
    await region.refreshDependencies(USER)
    expect(runs.filter((name) => name === 'one').length).toBeLessThanOrEqual(2)
    expect(runs.filter((name) => name === 'other').length).toBeLessThanOrEqual(2)
  })

  it('serves callers outside of it the stale values meanwhile', async () => {
    const { region } = site()
    let release: (() => void) | undefined
    let renewing = false
    const part = region.cacheOnArguments({ namespace: 'part', ...ofUser })(async (_: number) => {
      if (!renewing) return 'old'
      await new Promise<void>((resolve) => (release = resolve))
      return 'new'
    })
    const whole = region.cacheOnArguments({ namespace: 'whole', ...ofUser })((id: number) => part(id))
    await whole(1)
    renewing = true
    const refreshed = region.refreshDependencies(USER)
    while (release === undefined) await turn()
    expect(await Promise.all([part(1), whole(1)])).toEqual(['old', 'old'])
    release()
    await refreshed
    expect(await Promise.all([part.get(1), whole.get(1)])).toEqual(['new', 'new'])
  })
})

onStores('all', 'a refresh of nested functions', (at) => {
  it('runs each creator once', async () => {
    const [region] = at().regions<string>()
    const { runs, creator, change } = recorder()
    const part = region.cacheOnArguments({ namespace: 'part', ...ofUser })(creator('part'))
    const whole = region.cacheOnArguments({ namespace: 'whole', ...USERS })(creator('whole', part))
    await whole(1)
    change()
    await region.refreshDependencies(USER)
    expect(runs.sort()).toEqual(['part', 'whole'])
    expect([await part.get(1), await whole.get(1)]).toEqual(['new', '<new>'])
  })
})

/** Signals and brokers over every store: whether listeners and the bus work or fail, an invalidated value is gone everywhere. */

import { afterEach, describe, expect, it } from 'vitest'
import { memory } from '../../backends/memory/index.js'
import { broadcast } from '../../proxies/broadcast.js'
import { dependencies } from '../../proxies/dependencies.js'
import {
  type Backend,
  dep,
  dependsOn,
  diagnostics,
  makeRegion,
  NO_VALUE,
  type Region,
  wrap,
} from '../../src/index.js'
import { afterCommit, type Bus, broker, isNotInvalidated, localBus, relay } from '../../src/signals/index.js'
import { onStores } from '../dependencies/stores.js'
import { held } from '../support/stage.js'
import { deferred, idle } from '../support/waiting.js'

const endings: (() => unknown)[] = []
afterEach(async () => {
  for (const end of endings.splice(0)) await end()
})

function failures(): unknown[] {
  const errors: unknown[] = []
  const listen = (message: unknown) => void errors.push((message as { error: unknown }).error)
  diagnostics('failure').subscribe(listen)
  endings.push(() => diagnostics('failure').unsubscribe(listen))
  return errors
}

interface Book {
  readonly id: number
  readonly shelf: string
}
const shelves = dep.scopes<Book>('book').describes(['shelf'], ({ shelf }) => ({ shelf }))

/** The cached functions of books. */
function library(region: Region<string>) {
  const book = region.cacheOnArguments({
    namespace: 'book',
    dependencies: (id: number) => dep.id('book', id),
  })(async (id: number) => `book ${id}`)
  const list = region.cacheOnArguments({
    namespace: 'list',
    dependencies: (shelf: string) => shelves.condition({ shelf }),
  })(async (shelf: string) => `books of ${shelf}`)
  return { book, list }
}

const thrown = new Error('thrown')
const listeners: readonly [string, (event: unknown) => unknown][] = [
  [
    'throw',
    () => {
      throw thrown
    },
  ],
  ['reject', async () => Promise.reject(thrown)],
  ['answer a rejected promise', () => Promise.reject(thrown)],
  ['never end', () => new Promise(() => {})],
  [
    'answer what only looks like a promise',
    () =>
      Object.defineProperty({}, 'then', {
        get() {
          throw thrown
        },
      }),
  ],
  [
    'throw nothing',
    () => {
      throw undefined
    },
  ],
  [
    'write to what they are told',
    (event) => {
      ;(event as { names: string[] }).names.length = 0
    },
  ],
]

onStores('all', 'listeners', (at) => {
  it.each(listeners)(
    'that %s keep nothing from being invalidated, nor others from hearing',
    async (kind, listener) => {
      const [region, other] = at().regions<string>()
      const reported = failures()
      const heard: string[] = []
      for (const event of ['invalidating', 'invalidate'] as const) region.on(event, listener)
      region.on('invalidate', ({ what }) => heard.push(what))
      const fill = () =>
        region.getOrCreate('k', () => {
          dependsOn(dep.tag('t'))
          return 'v'
        })
      for (const invalidate of [
        () => region.delete('k'),
        () => region.invalidateDependencies([dep.tag('t')]),
        () => region.invalidate(),
      ]) {
        await fill()
        expect(await other.get('k')).toBe('v')
        await invalidate()
        expect(await other.get('k')).toBe(NO_VALUE)
      }
      await fill()
      await region.invalidateDependencies(dep.tag('t'), 'soft')
      expect(await other.get('k')).toBe(NO_VALUE)
      expect(heard).toEqual(['key', 'dependencies', 'region', 'dependencies'])
      await idle(3)
      expect(reported).toHaveLength(kind === 'never end' ? 0 : 8)
    },
  )
})

/** A bus on which messages do not get through, each in a way of its own. */
const broken: readonly [string, (bus: Bus) => Bus][] = [
  [
    'throws',
    (bus) => ({
      ...bus,
      publish() {
        throw thrown
      },
    }),
  ],
  ['rejects', (bus) => ({ ...bus, publish: () => Promise.reject(thrown) })],
  ['hangs', (bus) => ({ ...bus, publish: () => new Promise(() => {}) })],
  ['never comes up', (bus) => ({ ...bus, subscribe: () => ({ live: () => false, close() {} }) })],
  ['loses messages in silence', (bus) => ({ ...bus, publish() {} })],
]

onStores('all', 'a broker', (at) => {
  it.each(broken)(
    'invalidates everywhere while the bus of its relay %s, and its listeners fail',
    async (_, spoil) => {
      const [region, other] = at().regions<string>()
      failures()
      const books = broker<Book>('book', { regions: [region], id: ({ id }) => id, scopes: shelves })
      const bus = relay(spoil(localBus()), [region, books], { timeout: 50 })
      endings.push(() => bus.close())
      for (const [, listener] of listeners) books.on('change', listener)
      const [here, there] = [library(region), library(other)]
      await Promise.all([here.book(1), here.book(2), here.list('a'), here.list('b'), here.list('c')])
      const saved = await books.apply({ id: 1, shelf: 'b' }, async () => 'saved', {
        before: { id: 1, shelf: 'a' },
        reason: 'moved',
      })
      expect(saved).toBe('saved')
      expect([await there.book.get(1), await there.list.get('a'), await there.list.get('b')]).toEqual([
        NO_VALUE,
        NO_VALUE,
        NO_VALUE,
      ])
      expect([await there.book.get(2), await there.list.get('c')]).toEqual(['book 2', 'books of c'])
    },
  )

  it('keeps out the creations of another process during the change', async () => {
    const [region, other] = at().regions<string>()
    const books = broker<Book>('book', { regions: [region], id: ({ id }) => id })
    const { create, started, resolve } = held<string>()
    const making = other.getOrCreate('k', async () => {
      dependsOn(dep.id('book', 1))
      return create()
    })
    await started
    await books.apply({ id: 1, shelf: 'a' }, () => {})
    resolve('of before the change')
    expect(await making).toBe('of before the change')
    expect([await region.get('k'), await other.get('k')]).toEqual([NO_VALUE, NO_VALUE])
  })

  it('invalidates when a transaction is committed, and only then', async () => {
    const [region, other] = at().regions<string>()
    const books = broker<Book>('book', { regions: [region], id: ({ id }) => id, scopes: shelves })
    const [here, there] = [library(region), library(other)]
    const apply = () => books.apply({ id: 1, shelf: 'a' }, () => {}, { created: true })
    await Promise.all([here.book(1), here.list('a')])
    const rolledBack = afterCommit(async () => {
      await apply()
      throw thrown
    })
    await expect(rolledBack).rejects.toBe(thrown)
    // Where the ledger keeps marks the rows that a transaction changes are misses until its end, and invalid after it.
    const keepsMarks = (other.actualBackend as Partial<Backend>).ledger?.open('~clock').pending !== undefined
    const left = keepsMarks ? [NO_VALUE, NO_VALUE] : ['book 1', 'books of a']
    expect([await there.book.get(1), await there.list.get('a')]).toEqual(left)
    await Promise.all([here.book(1), here.list('a')])
    await afterCommit(async () => {
      await apply()
      expect([await there.book.get(1), await there.list.get('a')]).toEqual(left)
    })
    expect([await there.book.get(1), await there.list.get('a')]).toEqual([NO_VALUE, NO_VALUE])
  })

  it('is heard by a creator that reads in a transaction of its own, begun before the change', async () => {
    const [region, other] = at().regions<number>()
    const books = broker<Book>('book', { regions: [other], id: ({ id }) => id })
    let row = 0
    for (let round = 0; round < 5; round++) {
      const [began, changed] = [deferred(), deferred()]
      const outer = () =>
        region.getOrCreate('outer', () =>
          afterCommit(async () => {
            const snapshot = row
            began.resolve()
            await changed.promise
            return region.getOrCreate('inner', () => {
              dependsOn(dep.id('book', 1))
              return snapshot
            })
          }),
        )
      const making = outer()
      await began.promise
      await books.apply({ id: 1, shelf: 'a' }, () => void row++)
      changed.resolve()
      expect(await making).toBe(round)
      expect(await region.get('outer')).toBe(NO_VALUE)
      expect(await outer()).toBe(row)
      expect(await other.get('outer')).toBe(row)
      await other.invalidateDependencies(dep.id('book', 1))
    }
  })

  it('tells other processes through a bus, which carries no values', async () => {
    const [region, other] = at().regions<string>()
    const said: string[] = []
    const bus = localBus()
    const tapped: Bus = { ...bus, publish: (message) => (said.push(message), bus.publish(message)) }
    const options = { id: ({ id }: Book) => id }
    const mine = broker<Book>('book', { regions: [region], ...options })
    const theirs = broker<Book>('book', { regions: [other], ...options })
    for (const sources of [
      [region, mine],
      [other, theirs],
    ]) {
      const { close } = relay(tapped, sources)
      endings.push(close)
    }
    const heard: unknown[] = []
    theirs.on('change', ({ origin, reason, meta, names }) => heard.push([origin, reason, meta, names]))
    await library(region).book(1)
    await mine.apply({ id: 1, shelf: 'a secret' }, () => 'a secret', { reason: 'why', meta: { by: 7 } })
    expect(heard).toEqual([['remote', 'why', { by: 7 }, [dep.id('book', 1)]]])
    expect(said.join()).not.toContain('secret')
    expect(said.join()).not.toContain('book 1"')
    expect(await library(other).book.get(1)).toBe(NO_VALUE)
  })
})

describe('a bus that is down while a broker applies a change, over stores that need it', () => {
  const processOn = (bus: Bus) =>
    makeRegion<string>({
      name: 'books',
      backend: wrap(memory(), broadcast(bus, { name: 'store', timeout: 50 }), dependencies()),
    })

  it.each(broken.slice(0, 3))(
    'which %s: the change is done, says so, and is told when it is tried again',
    async (_, spoil) => {
      const bus = localBus()
      let down = false
      const bad = spoil(bus)
      const failing: Bus = { ...bus, publish: (message) => (down ? bad : bus).publish(message) }
      const [one, other] = [processOn(failing), processOn(failing)]
      const books = broker<Book>('book', { regions: [one], id: ({ id }) => id })
      const changes: unknown[] = []
      books.on('change', (change) => changes.push(change))
      for (const region of [one, other]) await library(region).book(1)
      down = true
      const error: unknown = await books.apply({ id: 1, shelf: 'a' }, () => 'saved').catch((e: unknown) => e)
      expect(error).toMatchObject({
        code: 'ERR_NOT_INVALIDATED',
        result: 'saved',
        cause: { code: 'ERR_BUS' },
      })
      if (!isNotInvalidated(error)) throw error
      expect(await library(one).book.get(1)).toBe(NO_VALUE)
      expect(changes).toEqual([])
      await expect(error.retry()).rejects.toMatchObject({ code: 'ERR_NOT_INVALIDATED' })
      down = false
      await error.retry()
      expect(await library(other).book.get(1)).toBe(NO_VALUE)
      expect(changes).toHaveLength(1)
    },
  )

  it('which is cut: no process returns anything older, not even before the retry', async () => {
    const bus = localBus()
    const [one, other] = [processOn(bus), processOn(bus)]
    const books = broker<Book>('book', { regions: [one], id: ({ id }) => id })
    for (const region of [one, other]) await library(region).book(1)
    bus.cut()
    const error: unknown = await books.apply({ id: 1, shelf: 'a' }, () => 'saved').catch((e: unknown) => e)
    if (!isNotInvalidated(error)) throw error
    expect(await library(other).book.get(1)).toBe(NO_VALUE)
    bus.mend()
    expect(await library(other).book.get(1)).toBe(NO_VALUE)
    await error.retry()
    expect(await library(other).book.get(1)).toBe(NO_VALUE)
  })
})

/** What the tests of the integrations without entities have in common: tables, regions, and values that depend on rows. */
import { expect } from 'vitest'
import { memory } from '../../backends/memory/index.js'
import { dependencies } from '../../proxies/dependencies.js'
import {
  dep,
  diagnostics,
  type Messages,
  makeRegion,
  memoryLedger,
  NO_VALUE,
  type Region,
  wrap,
} from '../../src/index.js'
import { type RowCache, type RowOptions, sqlCache } from '../../src/integrations/sql.js'
import { drainRefreshes, refreshAfterCommit } from '../../src/signals/index.js'
import { withOperations } from '../support/ledgers.js'

const TABLES = { article: 'id', order_line: ['order', 'line'] } as const

export const DDL = [
  'CREATE TABLE author (id INTEGER PRIMARY KEY, name TEXT)',
  `CREATE TABLE article (id INTEGER PRIMARY KEY, title TEXT, category TEXT,
     author INTEGER REFERENCES author (id) DEFERRABLE INITIALLY DEFERRED)`,
  'CREATE TABLE order_line ("order" INTEGER, line INTEGER, text TEXT, PRIMARY KEY ("order", line))',
]

interface Article {
  readonly id: number
  readonly title: string | null
  readonly category: string | null
}

const lists = dep
  .scopes<Article>('article')
  .describes(['category'], ({ category }) => ({ category: category as string }))

/** A region whose invalidations can be made to fail. */
export function stage() {
  const region = makeRegion<string>({ name: 'pages', backend: wrap(memory(), dependencies()) })
  const state = { away: false }
  const { invalidateDependencies } = region
  const regions: Region<string> = {
    ...region,
    invalidateDependencies: (...given) =>
      state.away ? Promise.reject(new Error('away')) : invalidateDependencies(...given),
  }
  const options: RowOptions = { regions, tables: TABLES, scopes: { article: lists } }
  return { region, state, options }
}

/** A region whose ledger logs the marks of rows, and the invalidations that end them. */
export function markedStage() {
  const log: string[] = []
  const ids = (names: readonly string[]) => names.filter((name) => name.startsWith('id:')).join(' ')
  const ledger = withOperations(memoryLedger(), (opened) => ({
    pending(names, ...more) {
      log.push(`mark ${ids(names)}`)
      return opened.pending?.(names, ...more) ?? 0
    },
    invalidate(names, mode, transaction) {
      log.push(`${transaction === undefined ? 'invalidate' : 'end'} ${ids(names)}`)
      return opened.invalidate(names, mode, transaction)
    },
  }))
  const region = makeRegion<string>({ name: 'pages', backend: wrap(memory(), dependencies({ ledger })) })
  return { log, region }
}

/** Runs work and returns the notices of it. */
export async function noticesOf(work: () => Promise<unknown>): Promise<readonly string[]> {
  const notices: string[] = []
  const note = (message: unknown) => notices.push((message as Messages['notice']).message)
  diagnostics('notice').subscribe(note)
  try {
    await work()
  } finally {
    diagnostics('notice').unsubscribe(note)
  }
  return notices
}

/** The failure of a statement that the database has done: the connection ended before the reply. */
export const replyLost = () => Object.assign(new Error('read ECONNRESET'), { code: 'ECONNRESET' })

/** Two tables, of which the database deletes the rows of one with those of the other. */
export const PARTS = [
  'CREATE TABLE box (id INTEGER PRIMARY KEY)',
  'CREATE TABLE part (id INTEGER PRIMARY KEY, box INTEGER REFERENCES box (id) ON DELETE CASCADE ON UPDATE CASCADE)',
  'INSERT INTO box (id) VALUES (1)',
  'INSERT INTO part (id, box) VALUES (7, 1)',
]

/** Deletes a box: whether the value of its part stands, after the deletion, and after the call for which the application is asked. */
export async function deletedPart(
  region: Region<string>,
  cache: RowCache,
  deleteBox: () => Promise<unknown>,
): Promise<readonly boolean[]> {
  await region.set('part', 'x', { dependencies: cache.dependenciesOf('part', { id: 7 }), asOf: 'now' })
  const stands = async () => (await region.get('part')) !== NO_VALUE
  await deleteBox()
  const before = await stands()
  await cache.invalidate('part')
  return [before, await stands()]
}

/** Changes a list by hand inside of a unit of work of a cache without lists: the values that stand before its commit and after it. */
export async function changedByHand(
  { region, options }: ReturnType<typeof stage>,
  database: RowCache,
  unit: (work: () => Promise<void>) => Promise<unknown>,
): Promise<readonly (readonly string[])[]> {
  const byHand = sqlCache(options)
  const left = await cached(region, database)
  let inside: readonly string[] = []
  await unit(async () => {
    const row = { id: 1, title: 'a', category: 'sport' }
    await byHand.changed('article', row, { before: { ...row, category: 'news' }, modified: ['category'] })
    inside = await left()
  })
  return [inside, await left()]
}

/**
 * A refresh in a unit of work that renames an article to 'new' runs after its commit, and not after a rollback.
 * @param host - `read` reads the title with a connection of its own, which a pool of one has only after the commit
 */
export async function expectRefresh(
  region: Region<string>,
  host: {
    readonly unit: (work: () => Promise<void>) => Promise<unknown>
    readonly read: () => Promise<string | null>
  },
): Promise<void> {
  const title = region.cacheOnArguments(async () => (await host.read()) ?? '', { namespace: 'title' })
  const before = await title()
  const refresh = () => refreshAfterCommit(() => title.refresh())
  const undone = host.unit(async () => {
    await refresh()
    throw new Error('undo')
  })
  await expect(undone).rejects.toThrow('undo')
  await drainRefreshes()
  expect(await title.get()).toBe(before)
  await host.unit(refresh)
  await drainRefreshes()
  expect(await title.get()).toBe('new')
}

/** Caches a value for each of these names: two articles, all articles, two lists, a line of an order. */
export async function cached(region: Region<string>, database: RowCache) {
  const values = {
    one: database.dependenciesOf('article', { id: 1 }),
    two: database.dependenciesOf('article', { id: 2 }),
    news: lists.condition({ category: 'news' }),
    sport: lists.condition({ category: 'sport' }),
    line: database.dependenciesOf('order_line', { order: 1, line: 2 }),
  }
  for (const [key, dependencies] of Object.entries(values))
    await region.set(key, key, { dependencies, asOf: 'now' })
  return async () => {
    const keys = Object.keys(values)
    const found = await region.getMulti(keys)
    return keys.filter((_, at) => found[at] !== NO_VALUE)
  }
}

export const ALL = ['one', 'two', 'news', 'sport', 'line']

/** Caches what a function reads, without saying it, and says whether the value was stored, and whether it stands after a change. */
export async function trackedRead(
  region: Region<string>,
  read: () => Promise<unknown>,
  change: () => Promise<unknown>,
): Promise<readonly [isStored: boolean, stands: boolean]> {
  const fn = region.cacheOnArguments(async () => JSON.stringify(await read()) ?? '', {
    namespace: 'tracked',
    sharesNamespace: true,
  })
  await fn()
  const isStored = (await fn.get()) !== NO_VALUE
  await change()
  const stands = (await fn.get()) !== NO_VALUE
  await fn.invalidate()
  return [isStored, stands]
}

/** The caches of query results in the idiom of TypeORM and of Drizzle; that of MikroORM is among the cases of its versions. */
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createClient } from '@libsql/client'
import type { CacheAdapter } from '@mikro-orm/core'
import type { Cache } from 'drizzle-orm/cache/core'
import { drizzle } from 'drizzle-orm/libsql'
import { integer, sqliteTable, text } from 'drizzle-orm/sqlite-core'
import initSqlJs from 'sql.js'
import { DataSource, EntitySchema } from 'typeorm'
import type { QueryResultCache } from 'typeorm/cache/QueryResultCache.js'
import { afterEach, describe, expect, it } from 'vitest'
import { memory } from '../../backends/memory/index.js'
import { dependencies } from '../../proxies/dependencies.js'
import { makeRegion, wrap } from '../../src/index.js'
import { drizzleCache, drizzleResultCache } from '../../src/integrations/drizzle.js'
import { mikroOrmResultCache } from '../../src/integrations/mikro-orm/index.js'
import { typeOrm, typeOrmResultCache } from '../../src/integrations/typeorm/index.js'

const ends: (() => unknown)[] = []
afterEach(async () => {
  for (const end of ends.splice(0).reverse()) await end()
})

const resultsOf = () => makeRegion<unknown>({ name: 'results', backend: wrap(memory(), dependencies()) })

it('fit the types of the ORMs', () => {
  const region = resultsOf()
  const Adapter = mikroOrmResultCache(region, () => ({}) as never)
  expect(new Adapter() satisfies CacheAdapter).toBeDefined()
  const provided = typeOrmResultCache(region) satisfies (source: DataSource) => QueryResultCache
  expect(provided).toBeTypeOf('function')
  expect(drizzleResultCache(region) satisfies Cache).toBeDefined()
  expect(() => drizzleResultCache(region, { strategy: 'some' as never })).toThrow(/strategy/)
  expect(() => typeOrmResultCache({} as never)).toThrow(/region/)
})

it('read the query of TypeORM at the call', async () => {
  const cache = typeOrmResultCache(resultsOf())({ entityMetadatas: [] })
  const query = { query: 'SELECT 1', duration: 60_000, result: undefined as unknown }
  const missing = await cache.getFromCache(query)
  await cache.storeInCache({ ...query, result: [1] }, missing)
  const reading = cache.getFromCache(query)
  query.query = 'SELECT 2'
  expect(await reading).toMatchObject({ query: 'SELECT 1', result: [1] })
})

class Author {
  declare id: number
  declare name: string
}
class Article {
  declare id: number
  declare title: string
  declare author?: Author | null
}

describe('the query result cache of TypeORM', () => {
  async function shop() {
    const id = { type: Number, primary: true, generated: true } as const
    const results = resultsOf()
    const source = new DataSource({
      type: 'sqljs',
      driver: await initSqlJs(),
      synchronize: true,
      cache: { provider: typeOrmResultCache(results) },
      entities: [
        new EntitySchema<Author>({ name: 'Author', target: Author, columns: { id, name: { type: String } } }),
        new EntitySchema<Article>({
          name: 'Article',
          target: Article,
          columns: { id, title: { type: String } },
          relations: { author: { type: 'many-to-one', target: 'Author', nullable: true } },
        }),
      ],
    })
    await source.initialize()
    ends.push(() => source.destroy())
    typeOrm(source, { regions: results })
    const { manager } = source
    await manager.save(Article, { title: 'one' })
    const titles = async (options: object = {}) => {
      const before = results.stats().hits
      const found = await manager.find(Article, { cache: 60_000, ...options })
      return [found.map(({ title }) => title).join(), results.stats().hits - before] as const
    }
    return { source, manager, results, titles }
  }

  it('answers until a commit changes an entity whose table is in the query', async () => {
    const { manager, source, titles } = await shop()
    expect(await titles()).toEqual(['one', 0])
    expect(await titles()).toEqual(['one', 1])
    await manager.save(Author, { name: 'Ada' })
    expect(await titles()).toEqual(['one', 1])
    expect(await titles({ relations: { author: true } })).toEqual(['one', 0])
    await source.transaction(async (own) => {
      await own.save(Article, { title: 'two' })
      expect(await titles()).toEqual(['one', 1])
    })
    expect(await titles()).toEqual(['one,two', 0])
    await manager.save(Author, { name: 'Bob' })
    expect(await titles({ relations: { author: true } })).toEqual(['one,two', 0])
    await manager.update(Article, { id: 1 }, { title: 'bulk' })
    expect(await titles()).toEqual(['bulk,two', 0])
  })

  it('does not keep a result that a commit overtook, and forgets by identifier and all', async () => {
    const { manager, source, results, titles } = await shop()
    const cache = source.queryResultCache as QueryResultCache
    const query = { identifier: 'late', query: 'SELECT * FROM "article"', duration: 60_000 }
    const missing = await cache.getFromCache(query)
    expect(missing && cache.isExpired(missing)).toBe(true)
    await manager.save(Article, { title: 'two' })
    await cache.storeInCache({ ...query, result: '[]' }, missing)
    expect(await results.has('late')).toBe(false)

    const named = { cache: { id: 'mine', milliseconds: 60_000 } }
    await titles(named)
    expect((await titles(named))[1]).toBe(1)
    await cache.remove(['mine'])
    expect((await titles(named))[1]).toBe(0)
    await cache.clear()
    expect((await titles(named))[1]).toBe(0)
  })
})

describe('the cache of Drizzle', () => {
  const articles = sqliteTable('article', { id: integer().primaryKey(), title: text() })
  const authors = sqliteTable('author', { id: integer().primaryKey(), name: text() })

  async function shop() {
    const folder = mkdtempSync(join(tmpdir(), 'corral-drizzle-cache-'))
    const client = createClient({ url: `file:${join(folder, 'db')}` })
    ends.push(
      () => rmSync(folder, { recursive: true, force: true }),
      () => client.close(),
    )
    for (const table of [
      'article (id INTEGER PRIMARY KEY, title TEXT)',
      'author (id INTEGER PRIMARY KEY, name TEXT)',
    ])
      await client.execute(`CREATE TABLE ${table}`)
    const results = resultsOf()
    const cache = drizzleResultCache(results)
    const db = drizzle(client, { cache: cache as never })
    drizzleCache(db, { regions: results, tables: { article: 'id', author: 'id' } })
    await db.insert(articles).values({ id: 1, title: 'one' })
    const titles = async (config?: object) => {
      const before = results.stats().hits
      const found = await db
        .select()
        .from(articles)
        .$withCache(config as never)
      return [found.map(({ title }) => title).join(), results.stats().hits - before] as const
    }
    return { client, db, results, cache, titles }
  }

  it('answers until a commit changes a table of the query', async () => {
    const { db, titles } = await shop()
    expect(await titles()).toEqual(['one', 0])
    expect(await titles()).toEqual(['one', 1])
    await db.insert(authors).values({ name: 'Ada' })
    expect(await titles()).toEqual(['one', 1])
    await db.transaction(async (tx) => {
      await tx.insert(articles).values({ id: 2, title: 'two' })
      // Drizzle tells of the change at once. What is read before the commit is invalidated by it.
      expect((await titles())[0]).toBe('one')
    })
    expect(await titles()).toEqual(['one,two', 0])
    expect(await titles()).toEqual(['one,two', 1])
  })

  it('does not keep a result that a change overtook, and forgets by tag', async () => {
    const { db, results, cache, titles } = await shop()
    expect(await cache.get('late', ['article'], false)).toBeUndefined()
    await db.insert(articles).values({ id: 3, title: 'three' })
    await cache.put('late', [], ['article'], false)
    expect(await results.has('late')).toBe(false)

    const tagged = { tag: 'mine', autoInvalidate: false }
    await titles(tagged)
    expect((await titles(tagged))[1]).toBe(1)
    await db.insert(articles).values({ id: 4, title: 'four' })
    expect((await titles(tagged))[1]).toBe(1)
    await db.$cache.invalidate({ tags: 'mine' })
    expect((await titles(tagged))[1]).toBe(0)
  })
})

/** Changes and transactions, with every version of MikroORM. */
import { deepEqual, equal, ok, rejects } from 'node:assert/strict'
import type { EntityManager } from '@mikro-orm/libsql'
import { dep, NO_VALUE } from '../../../src/index.js'
import { mikroOrm } from '../../../src/integrations/mikro-orm/index.js'
import { afterCommit, drainRefreshes } from '../../../src/signals/index.js'
import { standing } from '../standing.js'
import type { Case } from './reads-suite.js'
import { Article, Author, Comment, type Shop, Tag } from './shop.js'

const rollback = new Error('rollback')

async function added(em: EntityManager, category = 'news'): Promise<number> {
  const article = em.create(Article, { title: 'x', category } as never)
  await em.flush()
  return article.id
}

/** Of MikroORM 7, which tells of savepoints. */
export const CASES_OF_7: readonly Case[] = [
  [
    'a savepoint: that is rolled back drops its own changes, and no others',
    async (shop) => {
      await shop.fill()
      const list = (category: string) => shop.articles.condition({ category })
      const left = await standing(shop.region, {
        news: list('news'),
        sport: list('sport'),
        x: list('x'),
        y: list('y'),
      })
      await shop.fork().transactional(async (em) => {
        await added(em as EntityManager, 'news')
        await rejects(
          em.transactional(async (nested) => {
            await added(nested as EntityManager, 'sport')
            await nested.transactional((inner) => added(inner as EntityManager, 'y'))
            throw rollback
          }),
          rollback,
        )
        await em.transactional((nested) => added(nested as EntityManager, 'x'))
        deepEqual(await left(), ['news', 'sport', 'x', 'y'])
      })
      deepEqual(await left(), ['sport', 'y'])
    },
  ],
]

/** The titles of articles by the result cache, and how many of these queries went to the database. */
async function titles({ results, fork }: Shop, where: object, options: object = {}) {
  const before = results.stats().hits
  const found = await fork().find(Article, where, {
    cache: 60_000,
    orderBy: { id: 'asc' },
    ...options,
  } as never)
  return [found.map(({ title }) => title).join(), results.stats().hits - before] as const
}

const UNTOLD: Readonly<Record<string, (em: EntityManager, id: number) => Promise<unknown>>> = {
  nativeUpdate: (em, id) => em.nativeUpdate(Article, { id }, { title: 'raw' }),
  insertMany: (em) => em.insertMany(Article, [{ title: 'raw', category: 'news' }] as never),
  'a query builder': (em, id) =>
    em.createQueryBuilder(Article).update({ title: 'raw' }).where({ id }).execute(),
  'raw SQL': (em, id) => em.getConnection().execute(`UPDATE article SET title = 'raw' WHERE id = ${id}`),
  nativeDelete: async (em, id) => {
    await em.getConnection().execute('DELETE FROM article_tags')
    await em.nativeDelete(Comment, {})
    await em.nativeDelete(Article, { id })
  },
}

const failsAtCommit =
  (transact: (shop: Shop, work: (em: unknown) => Promise<void>) => Promise<unknown>) =>
  async (shop: Shop) => {
    const { one, two } = await shop.fill()
    const left = await standing(shop.region, { one: dep.id('Article', one), two: dep.id('Article', two) })
    const work = async (own: unknown) => {
      const em = own as EntityManager
      const run = (sql: string) => em.getConnection().execute(sql, [], 'run', em.getTransactionContext())
      await run('PRAGMA defer_foreign_keys = ON')
      ;(await em.findOneOrFail(Article, one)).title = 'new'
      await em.flush()
      await run("INSERT INTO comment (text, article_id) VALUES ('x', 77)")
    }
    await rejects(transact(shop, work), /FOREIGN KEY/)
    deepEqual(await left(), ['two'])
  }

export const CASES: readonly Case[] = [
  ['a commit that fails: is invalidated', failsAtCommit(({ fork }, work) => fork().transactional(work))],
  [
    'a commit of a unit of work that fails: is invalidated',
    failsAtCommit(({ orm, fork }, work) => orm.unitOfWork(fork(), work)),
  ],
  [
    'a commit by hand that fails: is invalidated by the rollback that follows',
    failsAtCommit(async ({ fork }, work) => {
      const em = fork()
      await em.begin()
      try {
        await work(em)
        await em.commit()
      } catch (error) {
        await em.rollback()
        throw error
      }
    }),
  ],
  [
    'a changed key: concerns the rows of both keys',
    async (shop) => {
      const em = shop.fork()
      const tag = em.create(Tag, { label: 'moved' } as never)
      await em.flush()
      const names = [tag.id, tag.id + 1_000, tag.id + 1].map((id) => dep.id('Tag', id))
      const [former = '', next = '', other = ''] = names
      const left = await standing(shop.region, { former, next, other })
      tag.id += 1_000
      await em.flush()
      deepEqual(await left(), ['other'])
    },
  ],
  [
    'a transaction of MikroORM alone: is a unit of work with `patch`',
    async (shop) => {
      const orm = mikroOrm(shop.database, { regions: shop.region, patch: true })
      const before = await shop.fork().count(Article)
      await rejects(
        shop.fork().transactional(async (em) => {
          await added(em as EntityManager)
          await em.transactional((nested) => added(nested as EntityManager))
          equal(await shop.region.getOrCreate('count', () => em.count(Article)), before + 2)
          throw rollback
        }),
        rollback,
      )
      equal(await shop.region.get('count'), NO_VALUE)
      const left = await standing(shop.region, {
        all: orm.dependenciesOf([]),
        list: shop.articles.condition({ category: 'news' }),
      })
      await shop.fork().transactional((em) => added(em as EntityManager))
      deepEqual(await left(), ['all'])
    },
  ],
  [
    'the result cache: answers until a commit changes a type of the query',
    async (shop) => {
      const { one, ada } = await shop.fill()
      deepEqual(await titles(shop, {}), ['1,2', 0])
      deepEqual(await titles(shop, {}), ['1,2', 1])
      await shop.fork().transactional(async (em) => {
        ;(await em.findOneOrFail(Article, one)).title = 'new'
        await em.flush()
        deepEqual(await titles(shop, {}), ['1,2', 1])
      })
      deepEqual(await titles(shop, {}), ['new,2', 0])
      deepEqual(await titles(shop, { author: { name: 'Ada' } }), ['new,2', 0])
      deepEqual(await titles(shop, {}, { populate: ['author'] }), ['new,2', 0])
      const em = shop.fork()
      ;(await em.findOneOrFail(Author, ada)).name = 'new'
      await em.flush()
      deepEqual(await titles(shop, { author: { name: 'Ada' } }), ['', 0])
      deepEqual(await titles(shop, {}, { populate: ['author'] }), ['new,2', 0])
      deepEqual(await titles(shop, {}), ['new,2', 1])
    },
  ],
  [
    'the result cache: of a stampede sends one query, gives copies, and forgets by name',
    async (shop) => {
      await shop.fill()
      const named = { cache: ['mine', 60_000] }
      await Promise.all(Array.from({ length: 5 }, () => titles(shop, {}, named)))
      const [found] = await shop.fork().find(Article, {}, named as never)
      if (found !== undefined) found.title = 'changed'
      deepEqual((await titles(shop, {}, named))[0], '1,2')
      equal(shop.results.stats().misses >= 1, true)
      const before = shop.results.stats().hits
      await shop.fork().clearCache('mine')
      await titles(shop, {}, named)
      equal(shop.results.stats().hits, before)
    },
  ],
  [
    'the result cache: does not keep a result that a commit overtook',
    async (shop) => {
      const { one } = await shop.fill()
      const key = ['late', 60_000] as const
      const adapter = shop.database.config.getResultCacheAdapter()
      const late = (async () => {
        equal(await adapter.get(key[0]), undefined)
        const em = shop.fork()
        ;(await em.findOneOrFail(Article, one)).title = 'new'
        await em.flush()
        await adapter.set(key[0], [{ id: one, title: 'old' }], '', key[1])
      })()
      await late
      equal(await shop.results.get(key[0]), NO_VALUE)
    },
  ],
  [
    'a flush: invalidates the entity and the lists that it enters and leaves',
    async (shop) => {
      const { one } = await shop.fill()
      const em = shop.fork()
      const article = await em.findOneOrFail(Article, one)
      const list = (category: string) => shop.articles.condition({ category })
      const left = await standing(shop.region, {
        ...{ one: dep.id('Article', one), two: dep.id('Article', 2) },
        ...{ news: list('news'), sport: list('sport'), x: list('x') },
      })
      article.category = 'x'
      await em.flush()
      deepEqual(await left(), ['two', 'sport'])
    },
  ],
  [
    'a deletion and an upsert: name their rows',
    async (shop) => {
      const { two } = await shop.fill()
      const em = shop.fork()
      const left = await standing(shop.region, { one: dep.id('Article', 1), two: dep.id('Article', two) })
      await em.remove(await em.findOneOrFail(Article, two)).flush()
      deepEqual(await left(), ['one'])
      await shop.fork().upsert(Article, { id: 1, title: 'y', category: 'news' } as never)
      deepEqual(await left(), [])
    },
  ],
  [
    'a relation of many to many: concerns both sides',
    async (shop) => {
      const { one } = await shop.fill()
      const em = shop.fork()
      const article = await em.findOneOrFail(Article, one, { populate: ['tags'] })
      const left = await standing(shop.region, {
        article: dep.id('Article', one),
        tag: dep.id('Tag', 2),
        a: dep.id('Tag', 1),
      })
      article.tags.add(await em.findOneOrFail(Tag, { label: 'b' }))
      await em.flush()
      deepEqual(await left(), ['a'])
    },
  ],
  [
    'a transaction: invalidates after its commit, and nothing after a rollback',
    async (shop) => {
      await shop.fill()
      const left = await standing(shop.region, { list: shop.articles.condition({ category: 'news' }) })
      await rejects(
        shop.fork().transactional(async (em) => {
          await added(em as EntityManager)
          throw rollback
        }),
        rollback,
      )
      deepEqual(await left(), ['list'])
      await shop.fork().transactional(async (em) => {
        await added(em as EntityManager)
        deepEqual(await left(), ['list'])
      })
      deepEqual(await left(), [])
    },
  ],
  [
    'a savepoint: that is released waits for the commit',
    async (shop) => {
      await shop.fill()
      const left = await standing(shop.region, { list: shop.articles.condition({ category: 'news' }) })
      await shop.fork().transactional(async (em) => {
        await em.transactional(async (nested) => {
          await added(nested as EntityManager)
        })
        deepEqual(await left(), ['list'])
      })
      deepEqual(await left(), [])
    },
  ],
  [
    'a transaction by hand: is one too',
    async (shop) => {
      await shop.fill()
      const left = await standing(shop.region, { list: shop.articles.condition({ category: 'news' }) })
      const em = shop.fork()
      await em.begin()
      await added(em)
      await em.rollback()
      deepEqual(await left(), ['list'])
      await em.begin()
      await added(em)
      deepEqual(await left(), ['list'])
      await em.commit()
      deepEqual(await left(), [])
    },
  ],
  ...(['before the integration', 'after it'] as const).map(
    (when): Case => [
      `a subscriber that throws, registered ${when}: hides no commit, also of transactions by hand`,
      async (shop) => {
        const { one } = await shop.fill()
        const em = shop.fork()
        const article = await em.findOneOrFail(Article, one)
        const fails = async (): Promise<void> => {
          throw new Error('of another')
        }
        const other = { afterTransactionCommit: fails, afterFlush: fails, afterUpsert: fails }
        const register = () => shop.database.em.getEventManager().registerSubscriber(other as never)
        const told: (readonly string[])[] = []
        const region = {
          name: 'second',
          invalidateDependencies: async (names: readonly string[]) => void told.push(names),
        }
        if (when === 'before the integration') register()
        mikroOrm(shop.database, { regions: region })
        if (when === 'after it') register()
        const invalidated = () => told.splice(0).flat().includes(dep.id('Article', one))
        article.title = 'by hand'
        await em.begin()
        other.afterFlush = async () => {}
        await rejects(em.commit(), /of another/)
        equal(invalidated(), true)
        const own = shop.fork()
        ;(await own.findOneOrFail(Article, one)).title = 'flushed'
        await rejects(own.flush(), /of another/)
        equal(invalidated(), true)
        await rejects(
          shop.fork().upsert(Article, { id: one, title: 'x', category: 'y' } as never),
          /of another/,
        )
        equal(invalidated(), true)
      },
    ],
  ),
  [
    'a subscriber of others: adds changes at onFlush, and hears of a commit that could not be invalidated',
    async (shop) => {
      const { one, two } = await shop.fill()
      const region = { name: 'away', invalidateDependencies: () => Promise.reject(new Error('away')) }
      mikroOrm(shop.database, { regions: region })
      let commits = 0
      shop.database.em.getEventManager().registerSubscriber({
        async onFlush({ uow }: { uow: { computeChangeSet(entity: object): void } }) {
          const [, other] = loaded
          if (other === undefined) return
          other.title = 'added'
          uow.computeChangeSet(other)
        },
        afterTransactionCommit: async () => void commits++,
      } as never)
      const em = shop.fork()
      const loaded = [await em.findOneOrFail(Article, one), await em.findOneOrFail(Article, two)]
      const left = await standing(shop.region, { one: dep.id('Article', one), two: dep.id('Article', two) })
      ;(loaded[0] as Article).title = 'new'
      await rejects(em.flush(), { code: 'ERR_NOT_INVALIDATED' })
      deepEqual([await left(), commits], [[], 1])
    },
  ],
  [
    'an event manager of its own: is heard as that of all, in flushes, upserts and transactions',
    async (shop) => {
      const { one, two, ada } = await shop.fill()
      const fresh = () => shop.database.em.fork({ freshEventManager: true }) as EntityManager
      const left = await standing(shop.region, {
        one: dep.id('Article', one),
        two: dep.id('Article', two),
        ada: dep.id('Author', ada),
      })
      const rename = async (em: EntityManager, id: number) => {
        ;(await em.findOneOrFail(Article, id)).title = 'new'
        await em.flush()
      }
      await rename(fresh(), one)
      deepEqual(await left(), ['two', 'ada'])
      await rejects(
        fresh().transactional(async (em) => {
          await rename(em as EntityManager, two)
          throw rollback
        }),
        rollback,
      )
      deepEqual(await left(), ['two', 'ada'])
      await fresh().transactional(async (em) => {
        await rename(em as EntityManager, two)
        deepEqual(await left(), ['two', 'ada'])
      })
      deepEqual(await left(), ['ada'])
      await (fresh().fork() as EntityManager).upsert(Author, { id: ada, name: 'new' })
      deepEqual(await left(), [])
    },
  ],
  [
    'a transaction that MikroORM did not begin: invalidates at once, and after the `afterCommit` around it',
    async (shop) => {
      const { one } = await shop.fill()
      const left = () => standing(shop.region, { one: dep.id('Article', one) })
      const connection = shop.fork().getConnection()
      const change = async (more: () => unknown) => {
        const ctx = await connection.begin()
        await shop.fork().transactional(
          async (em) => {
            const article = await em.findOneOrFail(Article, one)
            article.title += '!'
          },
          { ctx },
        )
        await more()
        await connection.commit(ctx)
      }
      const stood = await left()
      await change(() => {})
      deepEqual(await stood(), [])
      const again = await left()
      await afterCommit(() => change(left))
      deepEqual(await again(), [])
    },
  ],
  [
    'a unit of work: lets cached functions read and fill nothing',
    async (shop) => {
      await shop.fill()
      await rejects(
        shop.orm.unitOfWork(shop.fork(), async (em) => {
          await added(em as EntityManager)
          equal(await shop.region.getOrCreate('count', () => em.count(Article)), 3)
          throw rollback
        }),
        rollback,
      )
      equal(await shop.region.get('count'), NO_VALUE)
    },
  ],
  [
    'a refresh after the commit: sees committed data, with the one connection of the pool',
    async (shop) => {
      await shop.fill()
      const count = shop.region.cacheOnArguments(() => shop.fork().count(Article), { namespace: 'count' })
      equal(await count(), 2)
      await shop.fork().transactional(async (em) => {
        await added(em as EntityManager)
        await shop.orm.refreshAfterCommit(em, () => count.refresh())
        equal(await count.get(), 2)
      })
      await drainRefreshes()
      equal(await count.get(), 3)
    },
  ],
  [
    'writes by a condition, with `patch`: invalidate all of their type, after the commit',
    async (shop) => {
      const { one } = await shop.fill()
      const orm = mikroOrm(shop.database, {
        ...{ regions: shop.region, patch: true },
        scopes: { Article: shop.articles },
      })
      const em = shop.fork()
      const names = {
        one: orm.dependenciesOf(await em.findOneOrFail(Article, one)),
        list: shop.articles.condition({ category: 'news' }),
        author: orm.dependenciesOf(await em.findOneOrFail(Author, 1)),
      }
      const writes: readonly ((own: EntityManager) => Promise<unknown>)[] = [
        (own) => own.nativeUpdate(Article, { id: one }, { title: 'raw' }),
        (own) => own.insert(Article, { title: 'raw', category: 'news' } as never),
        (own) => own.insertMany('Article' as never, [{ title: 'raw', category: 'news' }] as never),
        (own) =>
          own.insert(own.create(Article, { title: 'raw', category: 'news' } as never, { persist: false })),
        (own) => own.getRepository(Article).nativeDelete({ title: 'none' }),
      ]
      for (const write of writes) {
        const left = await standing(shop.region, names)
        await write(shop.fork())
        deepEqual(await left(), ['author'], String(write))
      }
      const left = await standing(shop.region, names)
      await shop.fork().transactional(async (own) => {
        await own.nativeUpdate(Article, { id: one }, { title: 'raw' })
        deepEqual(await left(), ['one', 'list', 'author'])
      })
      deepEqual(await left(), ['author'])
      const again = await standing(shop.region, names)
      // Its articles lose their author, by the foreign key.
      await shop.fork().nativeDelete(Author, { name: 'none' })
      deepEqual(await again(), [])
      const refused = await standing(shop.region, names)
      await rejects(shop.fork().insert(Article, { id: one, title: 'twice' } as never), /constraint/i)
      deepEqual(await refused(), ['one', 'list', 'author'])
      const connection = shop.database.em.getConnection()
      const { execute } = connection
      connection.execute = async (...given: Parameters<typeof execute>) => {
        await execute.apply(connection, given)
        throw Object.assign(new Error('the reply is lost'), { code: 'ECONNRESET' })
      }
      try {
        await rejects(shop.fork().nativeUpdate(Article, { id: one }, { title: 'lost' }), /lost/)
      } finally {
        connection.execute = execute
      }
      deepEqual(await refused(), ['author'])
    },
  ],
  ...Object.entries(UNTOLD).map(
    ([title, change]): Case => [
      `${title}, of which MikroORM tells nothing: leaves values until invalidate()`,
      async (shop) => {
        const { one } = await shop.fill()
        const { orm, articles, fork } = shop
        const read = orm.dependenciesOf(await fork().findOneOrFail(Article, one))
        const left = await standing(shop.region, {
          one: read,
          list: articles.condition({ category: 'news' }),
        })
        await change(fork(), one)
        deepEqual(await left(), ['one', 'list'])
        await orm.invalidate('Article')
        deepEqual(await left(), [])
      },
    ],
  ),
  [
    'an upsert whose reply is lost: is of all of its type, also in a transaction that goes on',
    async (shop) => {
      const { one, ada } = await shop.fill()
      const names = {
        ...{ one: shop.orm.dependenciesOf(await shop.fork().findOneOrFail(Article, one)) },
        ada: shop.orm.dependenciesOf(await shop.fork().findOneOrFail(Author, ada)),
      }
      const refused = await standing(shop.region, names)
      await rejects(shop.fork().upsert(Article, { id: one, category: 'x' } as never), /constraint/i)
      deepEqual(await refused(), ['one', 'ada'])
      const connection = shop.database.em.getConnection()
      const { execute } = connection
      connection.execute = async (...given: Parameters<typeof execute>) => {
        await execute.apply(connection, given)
        if (/^insert/i.test(given[0] as string))
          throw Object.assign(new Error('the reply is lost'), { code: 'ECONNRESET' })
        return [] as never
      }
      const row = { id: one, title: 'new', category: 'x' } as never
      for (const upsert of [
        () => shop.fork().upsert(Article, row),
        () => shop.fork().upsertMany(Article, [row]),
        () =>
          shop
            .fork()
            .transactional(async (em) => {
              const error = await em.upsert(Article, row).catch((reason: unknown) => reason)
              return () => Promise.reject(error)
            })
            .then((failed) => failed()),
      ]) {
        const left = await standing(shop.region, names)
        await rejects(upsert, /lost/, String(upsert))
        deepEqual(await left(), ['ada'], String(upsert))
      }
      connection.execute = execute
    },
  ],
  [
    'a change that MikroORM does not tell of: is told by invalidate()',
    async (shop) => {
      const { one } = await shop.fill()
      const dependencies = shop.orm.dependenciesOf(await shop.fork().findOneOrFail(Article, one))
      const left = await standing(shop.region, { one: dependencies })
      await shop.fork().nativeUpdate(Article, { id: one }, { title: 'raw' })
      deepEqual(await left(), ['one'])
      await shop.orm.invalidate('Article')
      deepEqual(await left(), [])
    },
  ],
  [
    'the dependencies of entities: with relations, as far as they are loaded',
    async (shop) => {
      const { one } = await shop.fill()
      const found = await shop.fork().findOneOrFail(Article, one, { populate: ['tags'] })
      const names = shop.orm.dependenciesOf([found], { author: true, tags: true })
      for (const name of [dep.id('Article', one), dep.id('Author', 1), dep.id('Tag', 1)])
        ok(names.includes(name))
      const bare = await shop.fork().findOneOrFail(Article, one)
      try {
        shop.orm.dependenciesOf(bare, { tags: true })
      } catch (error) {
        equal((error as { code?: string }).code, 'ERR_OPTION')
        return
      }
      throw new Error('Expected the relation that is not loaded to be refused')
    },
  ],
]

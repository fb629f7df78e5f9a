import { type DataSource, type EntityManager, EntitySchema } from 'typeorm'
import { afterEach, describe, expect, it } from 'vitest'
import { memory } from '../../backends/memory/index.js'
import { dependencies } from '../../proxies/dependencies.js'
import { diagnostics } from '../../src/base/diagnostics.js'
import { dep, dependsOn, makeRegion, NO_VALUE, wrap } from '../../src/index.js'
import { type TypeOrmCache, type TypeOrmDataSource, typeOrm } from '../../src/integrations/typeorm/index.js'
import { drainRefreshes, isNotInvalidated } from '../../src/signals/index.js'
import { openSqlJs } from './typeorm-source.js'

class Author {
  declare id: number
  declare name: string
}
class Tag {
  declare id: number
  declare label: string
}
class Article {
  declare id: number
  declare title: string
  declare category: string
  declare author?: Author | null
  declare tags?: Tag[]
  declare deletedAt?: Date | null
}
class OrderLine {
  declare order: number
  declare line: number
  declare text: string
}
class Media {
  declare id: number
  declare url: string
}
class Video extends Media {
  declare seconds: number
}

const ENTITIES = [
  new EntitySchema<Author>({
    name: 'Author',
    target: Author,
    columns: { id: { type: Number, primary: true, generated: true }, name: { type: String } },
  }),
  new EntitySchema<Tag>({
    name: 'Tag',
    target: Tag,
    columns: { id: { type: Number, primary: true, generated: true }, label: { type: String } },
  }),
  new EntitySchema<Article>({
    name: 'Article',
    target: Article,
    columns: {
      id: { type: Number, primary: true, generated: true },
      title: { type: String },
      category: { type: String, default: 'news' },
      deletedAt: { type: 'datetime', deleteDate: true, nullable: true },
    },
    relations: {
      author: { type: 'many-to-one', target: 'Author', nullable: true },
      tags: { type: 'many-to-many', target: 'Tag', joinTable: true },
    },
  }),
  new EntitySchema<OrderLine>({
    name: 'OrderLine',
    target: OrderLine,
    columns: {
      order: { type: Number, primary: true },
      line: { type: Number, primary: true },
      text: { type: String },
    },
  }),
  new EntitySchema<Media>({
    name: 'Media',
    target: Media,
    inheritance: { pattern: 'STI', column: 'kind' },
    columns: {
      id: { type: Number, primary: true, generated: true },
      url: { type: String },
      kind: { type: String },
    } as never,
  }),
  new EntitySchema<Video>({
    name: 'Video',
    type: 'entity-child',
    target: Video,
    columns: {
      id: { type: Number, primary: true, generated: true },
      url: { type: String },
      seconds: { type: Number, nullable: true },
    },
  }),
]

const open: DataSource[] = []
afterEach(async () => {
  for (const source of open.splice(0)) await source.destroy()
})

/** Names that were invalidated, call by call. */
async function shop(options: { readonly fails?: () => boolean; readonly patch?: boolean } = {}) {
  const source = await openSqlJs(ENTITIES)
  open.push(source)
  const region = makeRegion<unknown>({ name: 'shop', backend: wrap(memory(), dependencies()) })
  const articles = dep.scopes<Article>('Article').describes(['category'], ({ category }) => ({ category }))
  const invalidated: (readonly string[])[] = []
  const target = {
    name: 'shop',
    async invalidateDependencies(names: readonly string[], mode?: 'hard' | 'soft') {
      if (options.fails?.()) throw new Error('away')
      invalidated.push([...names])
      await region.invalidateDependencies(names, mode)
    },
  }
  const orm = typeOrm(source, {
    regions: target,
    scopes: { Article: articles },
    patch: options.patch ?? false,
  })
  const list = (category: string) => articles.condition({ category })[1] as string
  const kind = articles.condition({ category: '' })[0] as string
  // Each change also has the name of all changes of its type, for lists that nothing describes.
  const told = () =>
    invalidated
      .splice(0)
      .flat()
      .filter((name) => !name.startsWith('tag:changes:'))
  return { source, manager: source.manager, region, orm, told, list, kind, articles }
}

type Shop = Awaited<ReturnType<typeof shop>>
type Work = (own: EntityManager) => Promise<void>

const rollback = new Error('rollback')
const added = (manager: EntityManager, more: Partial<Article> = {}) =>
  manager.save(Object.assign(new Article(), { title: 'one', category: 'news', ...more }))

describe('the types of TypeORM', () => {
  it('fit those of the integration', () => {
    const fits = (source: DataSource) => source satisfies TypeOrmDataSource<EntityManager>
    expect(fits).toBeTypeOf('function')
    const typed = (orm: TypeOrmCache<EntityManager>) => orm.unitOfWork((manager) => manager.save(new Tag()))
    expect(typed).toBeTypeOf('function')
  })
})

describe('a change that is committed', () => {
  it('invalidates the entity and the lists that it enters and leaves', async () => {
    const { manager, told, list } = await shop()
    const article = await added(manager)
    expect(told()).toEqual([dep.id('Article', article.id), list('news')])
    article.category = 'sport'
    await manager.save(article)
    expect(new Set(told())).toEqual(new Set([dep.id('Article', article.id), list('news'), list('sport')]))
    article.title = 'two'
    await manager.save(article)
    expect(told()).toEqual([dep.id('Article', article.id)])
    await manager.save(article)
    expect(told()).toEqual([])
    const { id } = article
    await manager.remove(article)
    expect(told()).toEqual([dep.id('Article', id), list('sport')])
  })

  it('knows the lists of an entity of which only a part is saved', async () => {
    const { manager, told, list } = await shop()
    const { id } = await added(manager)
    told()
    await manager.save(Article, { id, title: 'part' })
    expect(told()).toEqual([dep.id('Article', id)])
    await manager.save(Article, { id, category: 'sport' })
    expect(new Set(told())).toEqual(new Set([dep.id('Article', id), list('news'), list('sport')]))
  })

  it('invalidates when an entity is removed softly and when it comes back', async () => {
    const { manager, told, list } = await shop()
    const article = await added(manager)
    told()
    await manager.softRemove(article)
    expect(told()).toEqual([dep.id('Article', article.id), list('news')])
    await manager.recover(article)
    expect(told()).toEqual([dep.id('Article', article.id), list('news')])
  })

  it('of a removal invalidates the list that the row was in, not the one that the entity was moved to before', async () => {
    const { manager, told, list } = await shop()
    const article = await added(manager)
    told()
    article.category = 'sport'
    await manager.remove(article)
    expect(told()).toContain(list('news'))
  })

  it('names all parts of a composite key, in the order of the table', async () => {
    const { manager, told } = await shop()
    await manager.save(Object.assign(new OrderLine(), { order: 2026, line: 17, text: 'x' }))
    expect(told()).toEqual([dep.id('OrderLine', 2026, 17)])
  })

  it('has the name of the root for a class that shares its table', async () => {
    const { manager, told, orm } = await shop()
    const video = await manager.save(Object.assign(new Video(), { url: 'u', seconds: 5 }))
    expect(told()).toEqual([dep.id('Media', video.id)])
    expect(orm.dependenciesOf(video)).toContain(dep.id('Media', video.id))
  })

  it('concerns both sides of a relation of many to many', async () => {
    const { manager, told } = await shop()
    const tag = await manager.save(Object.assign(new Tag(), { label: 't' }))
    const article = await added(manager, { tags: [] })
    told()
    article.tags = [tag]
    await manager.save(article)
    expect(new Set(told())).toEqual(new Set([dep.id('Article', article.id), dep.id('Tag', tag.id)]))
    article.tags = []
    await manager.save(article)
    expect(new Set(told())).toEqual(new Set([dep.id('Article', article.id), dep.id('Tag', tag.id)]))
  })

  it.each([
    ['update()', (m: EntityManager, id: number) => m.update(Article, { id }, { title: 'x' })],
    ['delete()', (m: EntityManager, id: number) => m.delete(Article, { id })],
    ['softDelete()', (m: EntityManager, id: number) => m.softDelete(Article, { id })],
    ['restore()', (m: EntityManager, id: number) => m.restore(Article, { id })],
    ['insert()', (m: EntityManager) => m.insert(Article, { title: 'y' })],
    ['upsert()', (m: EntityManager, id: number) => m.upsert(Article, { id, title: 'y' }, ['id'])],
    [
      'a query builder',
      (m: EntityManager) => m.createQueryBuilder().update(Article).set({ title: 'z' }).execute(),
    ],
  ] as const)('that tells of no row, such as %s, invalidates all of the type', async (_, change) => {
    const { manager, told, orm, region, kind } = await shop()
    const article = await added(manager)
    const read = region.cacheOnArguments(
      async (id: number) => {
        const found = await manager.findOneBy(Article, { id })
        dependsOn(orm.dependenciesOf(found))
        return found
      },
      { namespace: 'article' },
    )
    await read(article.id)
    told()
    await change(manager, article.id)
    expect(new Set(told())).toEqual(new Set([dep.tag('entities', 'Article'), kind]))
    expect(await read.get(article.id)).toBe(NO_VALUE)
  })

  it('of a relation by its query builder, which tells of no row, concerns all of both types', async () => {
    const { manager, told, kind } = await shop()
    const tag = await manager.save(Object.assign(new Tag(), { label: 't' }))
    const author = await manager.save(Object.assign(new Author(), { name: 'Ada' }))
    const article = await added(manager)
    told()
    const of = (relation: string) => manager.createQueryBuilder().relation(Article, relation).of(article.id)
    const types = (...names: string[]) => new Set(names.map((name) => dep.tag('entities', name)))
    for (const change of ['add', 'remove'] as const) {
      await of('tags')[change](tag.id)
      expect(new Set(told())).toEqual(types('Article', 'Tag').add(kind))
    }
    await of('author').set(author.id)
    expect(new Set(told())).toEqual(types('Article').add(kind))
  })

  it('that goes another way than TypeORM is told by invalidate()', async () => {
    const { told, orm, kind } = await shop()
    await orm.invalidate('Article')
    expect(told()).toEqual([dep.tag('entities', 'Article'), kind])
    await orm.invalidate('Article', 5)
    expect(told()).toEqual([dep.id('Article', 5), kind])
  })

  it('of a type that the data source does not have rejects', async () => {
    const { orm, told } = await shop()
    const rejected = orm.invalidate('Artikel', 5) // does not throw here
    await expect(rejected).rejects.toThrow('Artikel')
    expect(told()).toEqual([])
  })
})

describe('a transaction', () => {
  it('invalidates once, after its commit', async () => {
    const { source, told } = await shop()
    let inside: readonly string[] = ['not run']
    const ids = await source.transaction(async (manager) => {
      const [one, two] = [await added(manager), await added(manager)]
      inside = told()
      return [one.id, two.id]
    })
    expect(inside).toEqual([])
    expect(told()).toEqual(expect.arrayContaining(ids.map((id) => dep.id('Article', id))))
  })

  it('invalidates nothing after a rollback', async () => {
    const { source, told } = await shop()
    const work = source.transaction(async (manager) => {
      await added(manager)
      throw rollback
    })
    await expect(work).rejects.toBe(rollback)
    expect(told()).toEqual([])
    // The next transaction of the same connection is another one.
    const { id } = await source.transaction((manager) => added(manager))
    expect(told()).toContain(dep.id('Article', id))
  })

  it('merges a savepoint that is released, and drops one that is rolled back', async () => {
    const { source, told } = await shop()
    const ids: number[] = []
    await source.transaction(async (manager) => {
      ids.push((await added(manager)).id)
      await manager.transaction(async (nested) => {
        ids.push((await added(nested)).id)
      })
      const dropped = manager.transaction(async (nested) => {
        ids.push((await added(nested)).id)
        throw rollback
      })
      await expect(dropped).rejects.toBe(rollback)
      expect(told()).toEqual([])
    })
    const names = told()
    expect(names).toContain(dep.id('Article', ids[0] as number))
    expect(names).toContain(dep.id('Article', ids[1] as number))
    expect(names.filter((name) => name.startsWith('id:'))).toHaveLength(2)
  })

  it('by hand, with a query runner, is one too', async () => {
    const { source, told } = await shop()
    const runner = source.createQueryRunner()
    await runner.startTransaction()
    const { id } = await added(runner.manager)
    expect(told()).toEqual([])
    await runner.commitTransaction()
    expect(told()).toContain(dep.id('Article', id))
    await runner.startTransaction()
    await added(runner.manager)
    await runner.rollbackTransaction()
    expect(told()).toEqual([])
    await runner.release()
  })

  it('of a unit of work lets cached functions read, and fill nothing', async () => {
    const { orm, region, told } = await shop()
    const work = orm.unitOfWork(async (manager) => {
      const { id } = await added(manager, { title: 'never committed' })
      const read = () =>
        region.getOrCreate('title', async () => (await manager.findOneByOrFail(Article, { id })).title)
      expect(await read()).toBe('never committed')
      throw rollback
    })
    await expect(work).rejects.toBe(rollback)
    expect(await region.get('title')).toBe(NO_VALUE)
    expect(told()).toEqual([])
    const { id } = await orm.unitOfWork(async (manager) => {
      const article = await added(manager)
      expect(told()).toEqual([])
      return article
    })
    expect(told()).toContain(dep.id('Article', id))
  })

  it('of TypeORM alone is not around cached functions: they fill, as the page says', async () => {
    const { source, region } = await shop()
    const work = source.transaction(async (manager) => {
      await added(manager)
      await region.getOrCreate('count', () => manager.count(Article))
      throw rollback
    })
    await expect(work).rejects.toBe(rollback)
    expect(await region.get('count')).toBe(1)
  })

  it.each([
    ['a bare transaction', ({ source }: Shop, work: Work) => source.transaction(work)],
    ['a unit of work', ({ orm }: Shop, work: Work) => orm.unitOfWork(work)],
  ])('whose commit fails is invalidated, for the database may have it: %s', async (_, transact) => {
    const all = await shop()
    const { id } = await added(all.manager)
    all.told()
    const work = transact(all, async (own) => {
      await own.query('PRAGMA defer_foreign_keys = ON')
      await own.save(Article, { id, title: 'new' })
      await own.query('INSERT INTO article_tags_tag (articleId, tagId) VALUES (77, 77)')
    })
    await expect(work).rejects.toThrow(/FOREIGN KEY/)
    // The row that joins the two was inserted in raw SQL.
    const joined = ['Article', 'Tag'].map((type) => dep.tag('entities', type))
    expect(new Set(all.told())).toEqual(new Set([dep.id('Article', id), ...joined, all.kind]))
    // The next transaction of the connection is another one.
    await expect(all.source.transaction(() => Promise.reject(rollback))).rejects.toBe(rollback)
    expect(all.told()).toEqual([])
  })

  it('of TypeORM alone is a unit of work with `patch`, until stop()', async () => {
    const { source, region, orm, told } = await shop({ patch: true })
    const count = async (own: EntityManager) => {
      await added(own)
      await own.transaction((inner) => added(inner))
      expect(await region.getOrCreate('count', () => own.count(Article))).toBe(2)
      throw rollback
    }
    await expect(source.transaction(count)).rejects.toBe(rollback)
    await expect(source.transaction('SERIALIZABLE', count)).rejects.toBe(rollback)
    expect(await region.get('count')).toBe(NO_VALUE)
    expect(told()).toEqual([])
    const { id } = await source.transaction((own) => added(own))
    expect(told()).toContain(dep.id('Article', id))
    await source.manager.clear(Article)
    orm.stop()
    await expect(source.transaction(count)).rejects.toBe(rollback)
    expect(await region.get('count')).toBe(2)
  })

  it('that the database rolled back by itself, so that ROLLBACK fails, is over', async () => {
    const { source, told, manager } = await shop()
    const { id } = await added(manager)
    await source.query(
      "CREATE TRIGGER refuses BEFORE UPDATE ON article WHEN NEW.title = 'bad' BEGIN SELECT RAISE(ROLLBACK, 'no'); END",
    )
    const rename = (title: string) => source.transaction((own) => own.update(Article, id, { title }))
    told()
    await expect(rename('bad')).rejects.toThrow('no')
    expect(told()).toEqual([])
    await rename('good')
    expect(told()).not.toEqual([])
    await manager.update(Article, id, { title: 'better' })
    expect(told()).not.toEqual([])
  })

  it('invalidates also if a subscriber from before throws after the change or after the commit', async () => {
    const { source, manager } = await shop()
    const { id } = await added(manager)
    const fails = () => {
      throw new Error('of another')
    }
    const other: Record<string, () => void> = {}
    source.subscribers.push(other)
    let count = 0
    const region = { name: 'late', invalidateDependencies: async () => void count++ }
    typeOrm(source, { regions: region })
    other.afterUpdate = fails
    await expect(manager.update(Article, id, { title: 'x' })).rejects.toThrow('of another')
    expect(count).toBeGreaterThan(0)
    count = 0
    other.afterUpdate = () => {}
    other.afterTransactionCommit = fails
    const committed = source.transaction((own) => own.update(Article, id, { title: 'y' }))
    await expect(committed).rejects.toThrow('of another')
    expect(count).toBe(1)
  })

  it('that is committed, but not invalidated, says so with a retry', async () => {
    let fails = false
    const { orm, told } = await shop({ fails: () => fails })
    fails = true
    const error = await orm.unitOfWork((manager) => added(manager)).catch((reason: unknown) => reason)
    if (!isNotInvalidated(error)) return expect.unreachable()
    fails = false
    await error.retry()
    expect(told()).toContain(dep.id('Article', (error.result as Article).id))
  })

  it('that is committed by TypeORM alone, but not invalidated, says so, too', async () => {
    let fails = false
    const { source, told, manager } = await shop({ fails: () => fails })
    fails = true
    const error = await source.transaction((own) => added(own)).catch((reason: unknown) => reason)
    if (!isNotInvalidated(error)) return expect.unreachable()
    expect(await manager.count(Article)).toBe(1)
    fails = false
    await error.retry()
    expect(told().length).toBeGreaterThan(0)
  })
})

describe('a refresh after the commit', () => {
  it('reads committed data in the background, and does not delay the writer', async () => {
    const { orm, region, manager } = await shop()
    const titles = region.cacheOnArguments(
      async () => (await manager.find(Article)).map(({ title }) => title),
      { namespace: 'titles' },
    )
    await titles()
    let refreshed = false
    await orm.unitOfWork(async (own) => {
      await added(own, { title: 'new' })
      await orm.refreshAfterCommit(own, async () => {
        await titles.refresh()
        refreshed = true
      })
      expect(await titles.get()).toEqual([])
    })
    expect(refreshed).toBe(false)
    await drainRefreshes()
    expect(await titles.get()).toEqual(['new'])
  })

  it('does not run after a rollback; a failure is reported', async () => {
    const { orm, source } = await shop()
    let runs = 0
    const work = source.transaction(async (own) => {
      await orm.refreshAfterCommit(own, () => runs++)
      throw rollback
    })
    await expect(work).rejects.toBe(rollback)
    await drainRefreshes()
    expect(runs).toBe(0)
    const failures: unknown[] = []
    const listen = (message: unknown) => failures.push(message)
    diagnostics('failure').subscribe(listen)
    try {
      await source.transaction((own) =>
        orm.refreshAfterCommit(own, () => {
          throw rollback
        }),
      )
      await drainRefreshes()
    } finally {
      diagnostics('failure').unsubscribe(listen)
    }
    expect(failures).toEqual([expect.objectContaining({ where: 'refreshAfterCommit', error: rollback })])
  })
})

describe('the dependencies of entities', () => {
  it('are their keys and those of the relations that are named', async () => {
    const { manager, orm } = await shop()
    const author = await manager.save(Object.assign(new Author(), { name: 'Ada' }))
    const tags = await manager.save([1, 2].map((n) => Object.assign(new Tag(), { label: `${n}` })))
    const { id } = await added(manager, { author, tags })
    const relations = { author: true, tags: true }
    const found = await manager.findOneOrFail(Article, { where: { id }, relations })
    const names = orm.dependenciesOf([found, [found]], relations)
    expect(new Set(names)).toEqual(
      new Set([
        ...['Article', 'Author', 'Tag'].map((type) => dep.tag('entities', type)),
        dep.id('Article', id),
        dep.id('Author', author.id),
        ...tags.map((tag) => dep.id('Tag', tag.id)),
      ]),
    )
    expect(orm.dependenciesOf([])).toEqual([])
    expect(orm.dependenciesOf(found, { author: false })).toEqual([
      dep.tag('entities', 'Article'),
      dep.id('Article', id),
    ])
    const alone = await added(manager, { author: null })
    const again = await manager.findOneOrFail(Article, { where: { id: alone.id }, relations })
    expect(orm.dependenciesOf(again, { author: true })).toContain(dep.id('Article', alone.id))
  })

  it('are refused where an invalidation would not reach them', async () => {
    const { manager, orm } = await shop()
    const { id } = await added(manager)
    const found = await manager.findOneByOrFail(Article, { id })
    const refused = (message: RegExp) =>
      expect.objectContaining({ code: 'ERR_OPTION', message: expect.stringMatching(message) })
    expect(() => orm.dependenciesOf(found, { author: true })).toThrow(
      refused(/'author' of 'Article' to be loaded/),
    )
    expect(() => orm.dependenciesOf(found, { writer: true })).toThrow(
      refused(/'writer'. It has 'author', 'tags'/),
    )
    expect(() => orm.dependenciesOf(new Article())).toThrow(refused(/with its primary key/))
    expect(() => orm.dependenciesOf({ id })).toThrow(refused(/an object of class 'Object'/))
    expect(() => orm.dependenciesOf('Article')).toThrow(refused(/a string/))
  })
})

describe('options that cannot be right', () => {
  it.each([
    ['no regions', { regions: [] }],
    ['a region that is none', { regions: {} }],
    ['an unknown option', { regions: makeRegion(), region: 1 }],
    ['scopes that are none', { regions: makeRegion(), scopes: { Article: {} } }],
    ['an unknown mode', { regions: makeRegion(), mode: 'firm' }],
  ])('are refused: %s', async (_, options) => {
    const { source } = await shop()
    expect(() => typeOrm(source, options as never)).toThrow(expect.objectContaining({ code: 'ERR_OPTION' }))
    expect(() => typeOrm({} as never, { regions: makeRegion() })).toThrow(
      expect.objectContaining({ code: 'ERR_OPTION' }),
    )
  })

  it('lists of a type that the data source does not have are refused with the name that is near', async () => {
    const { source } = await shop()
    const scopes = {
      Articles: dep.scopes<Article>('Article').describes(['category'], ({ category }) => ({ category })),
    }
    expect(() => typeOrm(source, { regions: makeRegion(), scopes })).toThrow(
      expect.objectContaining({
        code: 'ERR_OPTION',
        message: expect.stringContaining('Did you mean `Article`?'),
      }),
    )
  })

  it('and after stop() nothing is invalidated', async () => {
    const { manager, orm, told } = await shop()
    orm.stop()
    orm.stop()
    await added(manager)
    expect(told()).toEqual([])
  })
})

import { type Collection, type EntityManager, EntitySchema, MikroORM, type Ref } from '@mikro-orm/libsql'
import { afterEach, describe, expect, it } from 'vitest'
import { memory } from '../../backends/memory/index.js'
import { dependencies } from '../../proxies/dependencies.js'
import { dep, makeRegion, NO_VALUE, wrap } from '../../src/index.js'
import { type MikroOrmHost, mikroOrm } from '../../src/integrations/mikro-orm/index.js'
import { drainRefreshes, isNotInvalidated } from '../../src/signals/index.js'

class Author {
  declare id: number
  declare name: string
}
class Tag {
  declare id: number
  declare label: string
  declare articles: Collection<Article>
}
class Article {
  declare id: number
  declare title: string
  declare category: string
  declare author: Ref<Author> | null
  declare tags: Collection<Tag>
}
class OrderLine {
  declare order: number
  declare line: number
  declare text: string
}
class Media {
  declare id: number
  declare url: string
  declare kind: string
}
class Video extends Media {
  declare seconds: number
}

const id = { type: 'number', primary: true, autoincrement: true } as const
const ENTITIES = [
  new EntitySchema<Author>({ class: Author, properties: { id, name: { type: 'string' } } }),
  new EntitySchema<Tag>({
    class: Tag,
    properties: {
      id,
      label: { type: 'string' },
      articles: { kind: 'm:n', entity: () => Article, mappedBy: 'tags' },
    },
  }),
  new EntitySchema<Article>({
    class: Article,
    properties: {
      id,
      title: { type: 'string' },
      category: { type: 'string', default: 'news' },
      author: { kind: 'm:1', entity: () => Author, ref: true, nullable: true },
      tags: { kind: 'm:n', entity: () => Tag, inversedBy: 'articles', owner: true },
    },
  }),
  new EntitySchema<OrderLine>({
    class: OrderLine,
    properties: {
      order: { type: 'number', primary: true, autoincrement: false },
      line: { type: 'number', primary: true, autoincrement: false },
      text: { type: 'string' },
    },
  }),
  new EntitySchema<Media>({
    class: Media,
    discriminatorColumn: 'kind',
    discriminatorMap: { media: 'Media', video: 'Video' },
    properties: { id, url: { type: 'string' }, kind: { type: 'string' } },
  }),
  new EntitySchema<Video, Media>({
    class: Video,
    extends: 'Media',
    properties: { seconds: { type: 'number', nullable: true } },
  }),
]

const open: MikroORM[] = []
afterEach(async () => {
  for (const orm of open.splice(0)) await orm.close(true)
})

async function shop(options: { readonly fails?: () => boolean } = {}) {
  const database = await MikroORM.init({ entities: ENTITIES, dbName: ':memory:' })
  open.push(database)
  await database.schema.createSchema()
  const region = makeRegion<unknown>({ name: 'shop', backend: wrap(memory(), dependencies()) })
  const articles = dep
    .scopes<{ category: string }>('Article')
    .describes(['category'], ({ category }) => ({ category }))
  const invalidated: (readonly string[])[] = []
  const target = {
    name: 'shop',
    async invalidateDependencies(names: readonly string[], mode?: 'hard' | 'soft') {
      if (options.fails?.()) throw new Error('away')
      invalidated.push([...names])
      await region.invalidateDependencies(names, mode)
    },
  }
  const orm = mikroOrm(database, { regions: target, scopes: { Article: articles } })
  // Each change also has the name of all changes of its type, for lists that nothing describes.
  const told = () =>
    invalidated
      .splice(0)
      .flat()
      .filter((name) => !name.startsWith('tag:changes:'))
  const list = (category: string) => articles.condition({ category })[1] as string
  const kind = articles.condition({ category: '' })[0] as string
  return { database, fork: () => database.em.fork() as EntityManager, region, orm, told, list, kind }
}

const rollback = new Error('rollback')

async function added(em: EntityManager, more: { category?: string; author?: Author } = {}): Promise<Article> {
  const article = em.create(Article, { title: 'one', category: 'news', ...more } as never)
  await em.persistAndFlush(article)
  return article
}

describe('a flush', () => {
  it('fits by the types of MikroORM', () => {
    const fits = (orm: MikroORM) => orm satisfies MikroOrmHost
    expect(fits).toBeTypeOf('function')
  })

  it('invalidates the entity and the lists that it enters and leaves', async () => {
    const { fork, told, list } = await shop()
    const em = fork()
    const article = await added(em)
    expect(told()).toEqual([dep.id('Article', article.id), list('news')])
    article.category = 'sport'
    await em.flush()
    expect(new Set(told())).toEqual(new Set([dep.id('Article', article.id), list('news'), list('sport')]))
    article.title = 'two'
    await em.flush()
    expect(told()).toEqual([dep.id('Article', article.id)])
    await em.flush()
    expect(told()).toEqual([])
    const { id } = article
    await em.removeAndFlush(article)
    expect(told()).toEqual([dep.id('Article', id), list('sport')])
  })

  it('of a removal invalidates the list that the row was in, not the one that the entity was moved to before', async () => {
    const { fork, told, list } = await shop()
    const em = fork()
    const article = await added(em)
    told()
    article.category = 'sport'
    await em.removeAndFlush(article)
    expect(told()).toContain(list('news'))
  })

  it('names all parts of a composite key, in the order of the table', async () => {
    const { fork, told } = await shop()
    const em = fork()
    await em.persistAndFlush(em.create(OrderLine, { order: 2026, line: 17, text: 'x' }))
    expect(told()).toEqual([dep.id('OrderLine', 2026, 17)])
  })

  it('has the name of the root for a class that shares its table', async () => {
    const { fork, told, orm } = await shop()
    const em = fork()
    const video = em.create(Video, { url: 'u', seconds: 5 } as never)
    await em.persistAndFlush(video)
    expect(told()).toEqual([dep.id('Media', video.id)])
    expect(orm.dependenciesOf(video)).toContain(dep.id('Media', video.id))
  })

  it('concerns both sides of a relation of many to many', async () => {
    const { fork, told } = await shop()
    const em = fork()
    const article = await added(em)
    const tag = em.create(Tag, { label: 't' } as never)
    const other = em.create(Tag, { label: 'o' } as never)
    await em.persistAndFlush([tag, other])
    told()
    article.tags.add(tag)
    await em.flush()
    expect(new Set(told())).toEqual(new Set([dep.id('Article', article.id), dep.id('Tag', tag.id)]))
    article.tags.set([other])
    await em.flush()
    expect(new Set(told())).toEqual(
      new Set([dep.id('Article', article.id), dep.id('Tag', tag.id), dep.id('Tag', other.id)]),
    )
    // A new member has its key only after the flush.
    const fresh = em.create(Tag, { label: 'n' } as never)
    article.tags.add(fresh)
    await em.flush()
    expect(told()).toContain(dep.id('Tag', fresh.id))
  })

  it('of an upsert, of which nobody knows what it changed, invalidates all lists of the type', async () => {
    const { fork, told, kind } = await shop()
    const article = await added(fork())
    told()
    await fork().upsert(Article, { id: article.id, title: 'up', category: 'sport' } as never)
    expect(told()).toEqual([dep.id('Article', article.id), kind])
  })

  it('that MikroORM does not tell of is told by invalidate()', async () => {
    const { fork, told, orm, kind, region } = await shop()
    const { id } = await added(fork())
    const read = region.cacheOnArguments(async (id: number) => fork().findOneOrFail(Article, { id }), {
      namespace: 'article',
      resultDependencies: (found) => orm.dependenciesOf(found),
    })
    await read(id)
    told()
    await fork().nativeUpdate(Article, { id }, { title: 'raw' })
    expect(told()).toEqual([])
    await orm.invalidate('Article')
    expect(told()).toEqual([dep.tag('entities', 'Article'), kind])
    expect(await read.get(id)).toBe(NO_VALUE)
    await orm.invalidate('Article', id)
    expect(told()).toEqual([dep.id('Article', id), kind])
  })

  it('refuses to invalidate a type that no value can depend on', async () => {
    const { orm, told } = await shop()
    await expect(orm.invalidate('Artikel', 5)).rejects.toMatchObject({
      ...{ code: 'ERR_OPTION', message: expect.stringContaining('Did you mean `Article`?') },
    })
    await expect(orm.invalidate(Article as never)).rejects.toMatchObject({ code: 'ERR_OPTION' })
    await expect(orm.invalidate('Video', 5)).rejects.toThrow('the name of the root')
    expect(told()).toEqual([])
  })
})

describe('a transaction', () => {
  it('invalidates once, after its commit', async () => {
    const { fork, told } = await shop()
    let inside: readonly string[] = ['not run']
    const ids = await fork().transactional(async (em) => {
      const [one, two] = [await added(em as EntityManager), await added(em as EntityManager)]
      inside = told()
      return [one.id, two.id]
    })
    expect(inside).toEqual([])
    expect(told()).toEqual(expect.arrayContaining(ids.map((id) => dep.id('Article', id))))
  })

  it('invalidates nothing after a rollback', async () => {
    const { fork, told } = await shop()
    const work = fork().transactional(async (em) => {
      await added(em as EntityManager)
      throw rollback
    })
    await expect(work).rejects.toBe(rollback)
    expect(told()).toEqual([])
  })

  it('of a flush that fails invalidates nothing', async () => {
    const { fork, told } = await shop()
    await fork().persistAndFlush(fork().create(OrderLine, { order: 1, line: 1, text: 'x' }))
    told()
    await expect(
      fork().persistAndFlush(fork().create(OrderLine, { order: 1, line: 1, text: 'twice' })),
    ).rejects.toThrow(/UNIQUE/)
    expect(told()).toEqual([])
  })

  it('waits with a savepoint that is released; of one that is rolled back it may invalidate too much', async () => {
    const { fork, told } = await shop()
    const ids: number[] = []
    await fork().transactional(async (em) => {
      ids.push((await added(em as EntityManager)).id)
      await em.transactional(async (nested) => {
        ids.push((await added(nested as EntityManager)).id)
      })
      const dropped = em.transactional(async (nested) => {
        await added(nested as EntityManager)
        throw rollback
      })
      await expect(dropped).rejects.toBe(rollback)
      expect(told()).toEqual([])
    })
    expect(told()).toEqual(expect.arrayContaining(ids.map((id) => dep.id('Article', id))))
  })

  it('by hand is one too', async () => {
    const { fork, told } = await shop()
    const em = fork()
    await em.begin()
    const { id } = await added(em)
    expect(told()).toEqual([])
    await em.commit()
    expect(told()).toContain(dep.id('Article', id))
    await em.begin()
    await added(em)
    await em.rollback()
    expect(told()).toEqual([])
  })

  it('of a unit of work lets cached functions read, and fill nothing', async () => {
    const { fork, orm, region, told } = await shop()
    const work = orm.unitOfWork(fork(), async (em) => {
      await added(em as EntityManager)
      expect(await region.getOrCreate('count', () => em.count(Article))).toBe(1)
      throw rollback
    })
    await expect(work).rejects.toBe(rollback)
    expect(await region.get('count')).toBe(NO_VALUE)
    expect(told()).toEqual([])
    const { id } = await orm.unitOfWork(fork(), async (em) => {
      const article = await added(em as EntityManager)
      expect(told()).toEqual([])
      return article
    })
    expect(told()).toContain(dep.id('Article', id))
  })

  it('of MikroORM alone is not around cached functions: they fill, as the page says', async () => {
    const { fork, region } = await shop()
    const work = fork().transactional(async (em) => {
      await added(em as EntityManager)
      await region.getOrCreate('count', () => em.count(Article))
      throw rollback
    })
    await expect(work).rejects.toBe(rollback)
    expect(await region.get('count')).toBe(1)
  })

  it.each([
    ['a unit of work', ({ orm, fork }: Shop) => orm.unitOfWork(fork(), (em) => added(em as EntityManager))],
    ['a transaction', ({ fork }: Shop) => fork().transactional((em) => added(em as EntityManager))],
    ['a flush', ({ fork }: Shop) => added(fork())],
  ])('that is committed, but not invalidated, says so with a retry: %s', async (_, change) => {
    let fails = false
    const all = await shop({ fails: () => fails })
    fails = true
    const error = await change(all).catch((reason: unknown) => reason)
    if (!isNotInvalidated(error)) throw error
    expect(await all.fork().count(Article)).toBe(1)
    fails = false
    await error.retry()
    expect(all.told().length).toBeGreaterThan(0)
  })
})

type Shop = Awaited<ReturnType<typeof shop>>

describe('a refresh after the commit', () => {
  it('reads committed data in the background, and does not delay the writer', async () => {
    const { fork, orm, region } = await shop()
    const titles = region.cacheOnArguments(
      async () => (await fork().find(Article, {})).map(({ title }) => title),
      { namespace: 'titles' },
    )
    await titles()
    let refreshed = false
    await fork().transactional(async (em) => {
      await added(em as EntityManager)
      await orm.refreshAfterCommit(em, async () => {
        await titles.refresh()
        refreshed = true
      })
      expect(await titles.get()).toEqual([])
    })
    expect(refreshed).toBe(false)
    await drainRefreshes()
    expect(await titles.get()).toEqual(['one'])
  })

  it('does not run after a rollback', async () => {
    const { fork, orm } = await shop()
    let runs = 0
    const work = fork().transactional(async (em) => {
      await orm.refreshAfterCommit(em, () => runs++)
      throw rollback
    })
    await expect(work).rejects.toBe(rollback)
    await drainRefreshes()
    expect(runs).toBe(0)
  })
})

describe('the dependencies of entities', () => {
  it('are their keys and those of the relations that are named', async () => {
    const { fork, orm } = await shop()
    const em = fork()
    const author = em.create(Author, { name: 'Ada' })
    const article = await added(em, { author })
    const tag = em.create(Tag, { label: 't' } as never)
    article.tags.add(tag)
    await em.flush()
    const found = await fork().findOneOrFail(Article, article.id, { populate: ['tags'] })
    expect(new Set(orm.dependenciesOf([found, [found]], { author: true, tags: true }))).toEqual(
      new Set([
        ...['Article', 'Author', 'Tag'].map((type) => dep.tag('entities', type)),
        dep.id('Article', article.id),
        dep.id('Author', author.id),
        dep.id('Tag', tag.id),
      ]),
    )
    expect(orm.dependenciesOf([])).toEqual([])
    expect(orm.dependenciesOf(found, { tags: false })).toHaveLength(2)
    const alone = await added(fork())
    const again = await fork().findOneOrFail(Article, alone.id)
    expect(orm.dependenciesOf(again, { author: true })).toEqual([
      dep.tag('entities', 'Article'),
      dep.id('Article', alone.id),
    ])
  })

  it('are refused where an invalidation would not reach them', async () => {
    const { fork, orm } = await shop()
    const { id } = await added(fork())
    const found = await fork().findOneOrFail(Article, id)
    const refused = (message: RegExp) =>
      expect.objectContaining({ code: 'ERR_OPTION', message: expect.stringMatching(message) })
    expect(() => orm.dependenciesOf(found, { tags: true })).toThrow(
      refused(/'tags' of 'Article' to be loaded/),
    )
    expect(() => orm.dependenciesOf(found, { writer: true })).toThrow(refused(/'writer'/))
    expect(() => orm.dependenciesOf(fork().create(Article, { title: 'x' } as never))).toThrow(
      refused(/with its primary key/),
    )
    expect(() => orm.dependenciesOf({ id })).toThrow(refused(/entities of MikroORM/))
    expect(() => mikroOrm({} as never, { regions: makeRegion() })).toThrow(refused(/MikroORM/))
    expect(() => mikroOrm({ em: fork() } as never, { regions: [] })).toThrow(refused(/regions/))
  })
})

it('lists of a type that the ORM does not have are refused with the name that is near', async () => {
  const { database } = await shop()
  const scopes = {
    Articles: dep
      .scopes<{ category: string }>('Article')
      .describes(['category'], ({ category }) => ({ category })),
  }
  expect(() => mikroOrm(database, { regions: makeRegion(), scopes })).toThrow(
    expect.objectContaining({
      code: 'ERR_OPTION',
      message: expect.stringContaining('Did you mean `Article`?'),
    }),
  )
})

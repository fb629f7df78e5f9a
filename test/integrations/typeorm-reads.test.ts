/** Cached functions that declare nothing, over what they read through TypeORM. */
import initSqlJs from 'sql.js'
import { DataSource, type EntityManager, EntitySchema, In, Like } from 'typeorm'
import { afterEach, expect, it } from 'vitest'
import { memory } from '../../backends/memory/index.js'
import { dependencies } from '../../proxies/dependencies.js'
import { dep, diagnostics, type Messages, makeRegion, NO_VALUE, wrap } from '../../src/index.js'
import { typeOrm } from '../../src/integrations/typeorm/index.js'

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
  declare comments?: Comment[]
}
class Comment {
  declare id: number
  declare text: string
  declare article?: Article
}
class Line {
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

const id = { type: Number, primary: true, generated: true } as const
const part = { type: Number, primary: true } as const
const ENTITIES = [
  new EntitySchema<Line>({
    name: 'Line',
    target: Line,
    columns: { order: part, line: part, text: { type: String } },
  }),
  new EntitySchema<Media>({
    name: 'Media',
    target: Media,
    inheritance: { pattern: 'STI', column: 'kind' },
    columns: { id, url: { type: String }, kind: { type: String } } as never,
  }),
  new EntitySchema<Video>({
    name: 'Video',
    type: 'entity-child',
    target: Video,
    columns: { id, url: { type: String }, seconds: { type: Number, nullable: true } },
  }),
  new EntitySchema<Author>({ name: 'Author', target: Author, columns: { id, name: { type: String } } }),
  new EntitySchema<Tag>({ name: 'Tag', target: Tag, columns: { id, label: { type: String } } }),
  new EntitySchema<Article>({
    name: 'Article',
    target: Article,
    columns: { id, title: { type: String }, category: { type: String } },
    relations: {
      author: { type: 'many-to-one', target: 'Author', nullable: true },
      tags: { type: 'many-to-many', target: 'Tag', joinTable: true },
      comments: { type: 'one-to-many', target: 'Comment', inverseSide: 'article' },
    },
  }),
  new EntitySchema<Comment>({
    name: 'Comment',
    target: Comment,
    columns: { id, text: { type: String } },
    relations: { article: { type: 'many-to-one', target: 'Article', inverseSide: 'comments' } },
  }),
]

const ends: (() => unknown)[] = []
afterEach(async () => {
  for (const end of ends.splice(0).reverse()) await end()
})

async function shop() {
  const source = new DataSource({
    type: 'sqljs',
    driver: await initSqlJs(),
    entities: ENTITIES,
    synchronize: true,
    cache: { type: 'database' },
  } as never)
  await source.initialize()
  const region = makeRegion<unknown>({ name: 'shop', backend: wrap(memory(), dependencies()) })
  const lists = dep.scopes<Article>('Article').describes(['category'], ({ category }) => ({ category }))
  const orm = typeOrm(source, { regions: region, scopes: { Article: lists }, trackReads: true })
  const reasons: string[] = []
  const note = (message: unknown) => reasons.push((message as Messages['unstored']).reason)
  diagnostics('unstored').subscribe(note)
  ends.push(
    () => source.destroy(),
    () => diagnostics('unstored').unsubscribe(note),
  )
  const { manager } = source
  const author = await manager.save(Object.assign(new Author(), { name: 'Ada' }))
  const tags = await manager.save(['a', 'b'].map((label) => Object.assign(new Tag(), { label })))
  const make = (title: string, category: string) =>
    manager.save(Object.assign(new Article(), { title, category, author, tags: [tags[0]] }))
  const [one, two] = [await make('1', 'news'), await make('2', 'sport')]
  await manager.save(Object.assign(new Comment(), { text: 'c', article: one }))
  let functions = 0
  return {
    ...{ source, manager, region, orm, reasons, ids: { one: one.id, two: two.id, ada: author.id } },
    /** A cached function that says nothing of its dependencies, and whether its value still stands. */
    async cached(read: () => Promise<unknown>) {
      const fn = region.cacheOnArguments(read, { namespace: `n${functions++}` })
      await fn()
      return async () => (await fn.get()) !== NO_VALUE
    },
  }
}

type Ids = Awaited<ReturnType<typeof shop>>['ids']
type Work = (manager: EntityManager, ids: Ids) => Promise<unknown>

const rename: Work = (m, { one }) => m.save(Article, { id: one, title: 'new' })
const renameAuthor: Work = (m, { ada }) => m.save(Author, { id: ada, name: 'new' })
const add =
  (category: string): Work =>
  (m) =>
    m.save(Article, { title: 'x', category })
const move =
  (category: string): Work =>
  (m, { two }) =>
    m.save(Article, { id: two, category })
const comment: Work = (m, { one }) => m.save(Comment, { text: 'x', article: { id: one } })
const tag: Work = (m, { one }) => m.save(Article, { id: one, tags: [{ id: 1 }, { id: 2 }] })
const newTag: Work = (m) => m.save(Tag, { label: 'x' })
const line =
  (at: number): Work =>
  (m) =>
    m.save(Line, { order: 1, line: at, text: 'x' })
const video: Work = (m) => m.save(Object.assign(new Video(), { url: 'u', seconds: 1 }))
const bulk: Work = (m) => m.update(Article, { category: 'sport' }, { title: 'bulk' })

interface Kept {
  readonly read: Work
  readonly ends: readonly Work[]
  readonly leaves: readonly Work[]
}

const READS: Readonly<Record<string, Kept>> = {
  'an entity by its key': {
    read: (m, { one }) => m.findOneBy(Article, { id: one }),
    ends: [rename, bulk],
    leaves: [add('news'), move('news'), renameAuthor],
  },
  'an entity that is not there': {
    read: (m) => m.findOneBy(Article, { id: 3 }),
    ends: [add('news')],
    leaves: [rename],
  },
  'several by their keys': {
    read: (m, { one, two }) => m.findBy(Article, { id: In([one, two]) }),
    ends: [rename, move('x')],
    leaves: [add('news')],
  },
  'alternatives of keys': {
    read: (m, { one, two }) => m.find(Article, { where: [{ id: one }, { id: two, category: 'sport' }] }),
    ends: [rename, move('x')],
    leaves: [add('news')],
  },
  'an entity and its relation, by one key': {
    read: (m, { one }) => m.findOne(Article, { where: { id: one }, relations: { author: true } }),
    ends: [rename, renameAuthor],
    leaves: [newTag],
  },
  'a described list': {
    read: (m) => m.findBy(Article, { category: 'news' }),
    ends: [rename, add('news'), move('news'), bulk],
    leaves: [add('sport'), move('x')],
  },
  'a described list that is empty': {
    read: (m) => m.findBy(Article, { category: 'none' }),
    ends: [add('none'), move('none')],
    leaves: [add('news'), rename],
  },
  'the count of a described list': {
    read: (m) => m.countBy(Article, { category: 'news' }),
    ends: [add('news'), move('news')],
    leaves: [rename, add('sport')],
  },
  'a described list and its count': {
    read: (m) => m.findAndCount(Article, { where: { category: 'news' } }),
    ends: [rename, add('news')],
    leaves: [add('sport')],
  },
  'a page of a described list, which others may enter': {
    read: (m) => m.find(Article, { where: { category: 'news' }, take: 1, order: { title: 'ASC' } }),
    ends: [add('news'), move('news'), move('x')],
    leaves: [renameAuthor],
  },
  'a page with relations, in two queries': {
    read: (m) => m.find(Article, { where: { category: 'news' }, take: 1, relations: { tags: true } }),
    ends: [add('news'), tag],
    leaves: [renameAuthor],
  },
  'a list that nothing describes': {
    read: (m) => m.findBy(Article, { title: Like('1%') }),
    ends: [rename, add('sport'), move('x')],
    leaves: [renameAuthor, newTag],
  },
  'whether there is one': {
    read: (m) => m.existsBy(Article, { category: 'news' }),
    ends: [add('news'), move('news')],
    leaves: [newTag],
  },
  'a condition on a relation': {
    read: (m) => m.find(Article, { where: { author: { name: 'Ada' } } }),
    ends: [renameAuthor, add('sport')],
    leaves: [newTag],
  },
  'an order by a relation': {
    read: (m) =>
      m.find(Article, {
        where: { category: 'news' },
        relations: { author: true },
        order: { author: { name: 'ASC' } },
      }),
    ends: [renameAuthor, rename],
    leaves: [newTag],
  },
  'the members of a relation to many': {
    read: (m, { one }) => m.findOne(Article, { where: { id: one }, relations: { comments: true } }),
    ends: [comment],
    leaves: [newTag],
  },
  'the members of a relation of many to many': {
    read: (m, { one }) => m.findOne(Article, { where: { id: one }, relations: { tags: true } }),
    ends: [tag],
    leaves: [renameAuthor],
  },
  'relations in queries of their own': {
    read: (m, { one }) =>
      m.findOne(Article, {
        where: { id: one },
        relations: { tags: true, comments: true },
        relationLoadStrategy: 'query',
      }),
    ends: [tag, comment],
    leaves: [renameAuthor],
  },
  'an entity by a composite key': {
    read: (m) => m.findOneBy(Line, { order: 1, line: 1 }),
    ends: [line(1)],
    leaves: [line(2), newTag],
  },
  'entities of a class that shares its table': {
    read: (m) => m.find(Video),
    ends: [video],
    leaves: [newTag],
  },
  'entities of the class that others share their table with': {
    read: (m) => m.findBy(Media, { url: 'u' }),
    ends: [video],
    leaves: [newTag],
  },
  'a query builder': {
    read: (m) =>
      m.createQueryBuilder(Article, 'a').leftJoin('a.author', 'w').where("w.name = 'Ada'").getMany(),
    ends: [rename, renameAuthor, add('x')],
    leaves: [newTag],
  },
  'a query builder of groups': {
    read: (m) => m.createQueryBuilder(Article, 'a').select('count(*)').groupBy('a.category').getRawMany(),
    ends: [add('x'), move('x')],
    leaves: [renameAuthor, newTag],
  },
}

it.each(
  Object.entries(READS).flatMap(([title, { read, ends, leaves }]) => [
    ...ends.map((change, at) => [`${title}: ends with change ${at + 1}`, read, change, false] as const),
    ...leaves.map(
      (change, at) => [`${title}: stays after other change ${at + 1}`, read, change, true] as const,
    ),
  ]),
)('%s', async (_, read, change, stands) => {
  const { cached, manager, ids, reasons } = await shop()
  const isThere = await cached(() => read(manager, ids))
  expect(reasons).toEqual([])
  expect(await isThere()).toBe(true)
  await change(manager, ids)
  expect(await isThere()).toBe(stands)
})

const UNTOLD: Readonly<Record<string, Work>> = {
  'raw SQL': (m) => m.query('select * from article'),
  'a query in a query': (m) =>
    m.createQueryBuilder(Article, 'a').where('a.id in (select id from comment)').getMany(),
  'a table that is no entity': (m) =>
    m.createQueryBuilder().select('*').from('sqlite_master', 's').getRawMany(),
  'the result cache of TypeORM': (m) => m.find(Article, { cache: true }),
  'a write': (m) => m.save(Tag, { label: 'written' }),
}

it.each(Object.entries(UNTOLD))('a value made with %s is not stored', async (_, read) => {
  const { cached, manager, ids, reasons } = await shop()
  const isThere = await cached(() => read(manager, ids))
  expect(await isThere()).toBe(false)
  expect(reasons).toHaveLength(1)
})

it('a read outside of every creation is as it was, and after stop() nothing is tracked', async () => {
  const { manager, cached, orm, ids } = await shop()
  expect(await manager.count(Article)).toBe(2)
  orm.stop()
  const isThere = await cached(() => manager.query('select * from article'))
  await rename(manager, ids)
  expect(await isThere()).toBe(true)
})

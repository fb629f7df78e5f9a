/** A database with articles, over any version of MikroORM, and a region whose invalidations are recorded. */
import type { Collection, EntityManager, MikroORM, Ref } from '@mikro-orm/libsql'
import { memory } from '../../../backends/memory/index.js'
import { dependencies } from '../../../proxies/dependencies.js'
import { dep, diagnostics, type Messages, makeRegion, NO_VALUE, wrap } from '../../../src/index.js'
import {
  type MikroOrmOptions,
  mikroOrm,
  mikroOrmResultCache,
} from '../../../src/integrations/mikro-orm/index.js'

export class Author {
  declare id: number
  declare name: string
}
export class Tag {
  declare id: number
  declare label: string
  declare articles: Collection<Article>
}
export class Article {
  declare id: number
  declare title: string
  declare category: string
  declare author: Ref<Author> | null
  declare tags: Collection<Tag>
  declare comments: Collection<Comment>
}
export class Comment {
  declare id: number
  declare text: string
  declare article: Ref<Article>
}

/** What differs between the versions. */
export interface Packages {
  readonly MikroORM: { init(options: object): Promise<MikroORM> }
  readonly EntitySchema: new (options: object) => object
  readonly Collection: new <T extends object>(owner: object) => Collection<T>
  createTables(orm: MikroORM): Promise<unknown>
}

const id = { type: 'number', primary: true, autoincrement: true } as const

function entitiesOf({ EntitySchema }: Packages): readonly object[] {
  return [
    new EntitySchema({ class: Author, properties: { id, name: { type: 'string' } } }),
    new EntitySchema({
      class: Tag,
      properties: {
        id,
        label: { type: 'string' },
        articles: { kind: 'm:n', entity: () => Article, mappedBy: 'tags' },
      },
    }),
    new EntitySchema({
      class: Article,
      properties: {
        id,
        title: { type: 'string' },
        category: { type: 'string', default: 'news' },
        author: { kind: 'm:1', entity: () => Author, ref: true, nullable: true },
        tags: { kind: 'm:n', entity: () => Tag, inversedBy: 'articles', owner: true },
        comments: { kind: '1:m', entity: () => Comment, mappedBy: 'article' },
      },
    }),
    new EntitySchema({
      class: Comment,
      properties: {
        id,
        text: { type: 'string' },
        article: { kind: 'm:1', entity: () => Article, ref: true },
      },
    }),
  ]
}

export type Shop = Awaited<ReturnType<typeof openShop>>

export async function openShop(packages: Packages, options: Partial<MikroOrmOptions> = {}) {
  const backend = wrap(memory(), dependencies())
  const region = makeRegion<unknown>({ name: 'shop', backend })
  const results = makeRegion<unknown>({ name: 'results', backend })
  const database: MikroORM = await packages.MikroORM.init({
    entities: entitiesOf(packages),
    dbName: ':memory:',
    resultCache: { adapter: mikroOrmResultCache(results, () => database, { hold: '30s' }) },
  })
  await packages.createTables(database)
  const articles = dep
    .scopes<{ category: string }>('Article')
    .describes(['category'], ({ category }) => ({ category }))
  const orm = mikroOrm(database, { regions: region, scopes: { Article: articles }, ...options })
  const fork = () => database.em.fork() as EntityManager
  const reasons: string[] = []
  const note = (message: unknown) => reasons.push((message as Messages['unstored']).reason)
  diagnostics('unstored').subscribe(note)
  return {
    ...{ packages, database, region, results, orm, fork, articles, reasons },
    /** A cached function that says nothing of its dependencies, and whether its value still stands. */
    async cached<T>(read: (em: EntityManager) => Promise<T>) {
      const fn = region.cacheOnArguments(() => read(fork()), { namespace: `n${Math.random()}` })
      return { value: await fn(), stands: async () => (await fn.get()) !== NO_VALUE }
    },
    /** What is in the tables at first. */
    async fill() {
      const em = fork()
      const ada = em.create(Author, { name: 'Ada' } as never)
      const [one, two] = ['news', 'sport'].map((category, at) =>
        em.create(Article, { title: `${at + 1}`, category, author: ada } as never),
      ) as [Article, Article]
      await em.flush()
      one.tags.add(em.create(Tag, { label: 'a' } as never))
      em.create(Tag, { label: 'b' } as never)
      em.create(Comment, { text: 'c', article: one } as never)
      await em.flush()
      return { one: one.id, two: two.id, ada: ada.id }
    },
    async close() {
      diagnostics('unstored').unsubscribe(note)
      await database.close(true)
    },
  }
}

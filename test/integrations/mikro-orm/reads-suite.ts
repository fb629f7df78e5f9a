/** Cached functions that declare nothing, over what they read through MikroORM. Each case runs with every version of it. */
import { deepEqual, equal, match } from 'node:assert/strict'
import type { EntityManager } from '@mikro-orm/libsql'
import { NO_VALUE } from '../../../src/index.js'
import { Article, Author, Comment, type Shop, Tag } from './shop.js'

type Change = (em: EntityManager, ids: Awaited<ReturnType<Shop['fill']>>) => Promise<unknown>

const rename: Change = async (em, { one }) => {
  ;(await em.findOneOrFail(Article, one)).title = 'new'
  await em.flush()
}
const renameAuthor: Change = async (em, { ada }) => {
  ;(await em.findOneOrFail(Author, ada)).name = 'new'
  await em.flush()
}
const add =
  (category: string): Change =>
  async (em) => {
    em.create(Article, { title: 'x', category } as never)
    await em.flush()
  }
const move =
  (category: string): Change =>
  async (em, { two }) => {
    ;(await em.findOneOrFail(Article, two)).category = category
    await em.flush()
  }
const remove: Change = async (em, { one }) => {
  const found = await em.findOneOrFail(Article, one, { populate: ['tags', 'comments'] })
  found.tags.removeAll()
  for (const comment of found.comments) em.remove(comment)
  await em.remove(found).flush()
}
const comment: Change = async (em, { one }) => {
  em.create(Comment, { text: 'x', article: em.getReference(Article, one) } as never)
  await em.flush()
}
const tag: Change = async (em, { one }) => {
  const found = await em.findOneOrFail(Article, one, { populate: ['tags'] })
  found.tags.add(await em.findOneOrFail(Tag, { label: 'b' }))
  await em.flush()
}
const newTag: Change = async (em) => {
  em.create(Tag, { label: 'x' } as never)
  await em.flush()
}

type Read = (em: EntityManager, ids: Awaited<ReturnType<Shop['fill']>>, shop: Shop) => Promise<unknown>
interface Kept {
  readonly read: Read
  /** Changes that end the value, and changes that leave it. */
  readonly ends: readonly Change[]
  readonly leaves: readonly Change[]
}

const READS: Readonly<Record<string, Kept>> = {
  'an entity and its relation, by a manager with events of its own': {
    read: (_, { one }, { database }) =>
      database.em.fork({ freshEventManager: true }).findOne(Article, one, { populate: ['author'] }),
    ends: [rename, renameAuthor],
    leaves: [comment],
  },
  'an entity by its key': {
    read: (em, { one }) => em.findOne(Article, one),
    ends: [rename, remove],
    leaves: [add('news'), move('news'), renameAuthor],
  },
  'an entity that is not there': {
    read: (em) => em.findOne(Article, { id: 3 }),
    ends: [add('news')],
    leaves: [rename],
  },
  'several by their keys': {
    read: (em, { one, two }) => em.find(Article, { id: { $in: [one, two] } }),
    ends: [rename, move('x')],
    leaves: [add('news')],
  },
  'an entity and its relation, by one key': {
    read: (em, { one }) => em.findOne(Article, one, { populate: ['author'] }),
    ends: [rename, renameAuthor],
    leaves: [add('news')],
  },
  'a reference that is loaded later': {
    read: async (em, { one }) => (await em.findOneOrFail(Article, one)).author?.load(),
    ends: [renameAuthor],
    leaves: [add('news')],
  },
  'a described list': {
    read: (em) => em.find(Article, { category: 'news' }),
    ends: [rename, add('news'), move('news'), remove],
    leaves: [add('sport'), move('x')],
  },
  'a described list that is empty': {
    read: (em) => em.find(Article, { category: 'none' }),
    ends: [add('none'), move('none')],
    leaves: [add('news'), rename],
  },
  'a described list with more around it': {
    read: (em) => em.find(Article, { $and: [{ category: { $eq: 'news' } }] }, { orderBy: { title: 'asc' } }),
    ends: [rename, add('news')],
    leaves: [add('sport')],
  },
  'the count of a described list': {
    read: (em) => em.count(Article, { category: 'news' }),
    ends: [add('news'), move('news'), remove],
    leaves: [rename, add('sport')],
  },
  'a page of a described list, which others may enter': {
    read: (em) => em.find(Article, { category: 'news' }, { limit: 1, orderBy: { title: 'asc' } }),
    ends: [add('news'), move('news'), move('x')],
    leaves: [renameAuthor],
  },
  'a list that nothing describes': {
    read: (em) => em.find(Article, { title: { $like: '1%' } }),
    ends: [rename, add('sport'), move('x')],
    leaves: [renameAuthor, newTag],
  },
  'all of a type': {
    read: (em) => em.find(Article, {}),
    ends: [add('sport'), move('x'), remove],
    leaves: [renameAuthor],
  },
  'one by a condition': {
    read: (em) => em.findOne(Article, { category: 'news' }),
    ends: [add('news'), move('news')],
    leaves: [renameAuthor],
  },
  'a condition on a relation': {
    read: (em) => em.find(Article, { author: { name: 'Ada' } }),
    ends: [renameAuthor, add('sport')],
    leaves: [newTag],
  },
  'an order by a relation': {
    read: (em) => em.find(Article, { category: 'news' }, { orderBy: { author: { name: 'asc' } } }),
    ends: [renameAuthor],
    leaves: [newTag],
  },
  'the members of a relation to many': {
    read: (em, { one }) => em.findOne(Article, one, { populate: ['comments'] }),
    ends: [comment],
    leaves: [newTag],
  },
  'the members of a relation to many, loaded later': {
    read: async (em, { one }) => (await em.findOneOrFail(Article, one)).comments.init(),
    ends: [comment],
    leaves: [newTag],
  },
  'the members of a relation of many to many': {
    read: (em, { one }) => em.findOne(Article, one, { populate: ['tags'] }),
    ends: [tag],
    leaves: [newTag],
  },
  'the members of a relation of many to many, loaded later': {
    read: async (em, { one }) => (await em.findOneOrFail(Article, one)).tags.init(),
    ends: [tag],
    leaves: [newTag],
  },
  'the members of a relation of an entity that is not loaded': {
    read: (em, { one }, { packages: { Collection } }) => {
      const article = em.getReference(Article, one)
      article.tags = new Collection<Tag>(article) as never
      return article.tags.init()
    },
    ends: [tag],
    leaves: [newTag],
  },
  'a part of an entity': {
    read: (em, { one }) => em.findOne(Article, one, { fields: ['title'] }),
    ends: [rename],
    leaves: [add('news')],
  },
  'a read in a transaction of its own': {
    read: (em, { one }) => em.transactional((own) => own.findOne(Article, one)),
    ends: [rename],
    leaves: [add('news')],
  },
}

type Sql = EntityManager & { getConnection(): { execute(sql: string): Promise<unknown> } }
const UNTOLD: Readonly<Record<string, Read>> = {
  'raw SQL': (em) => (em as Sql).getConnection().execute('select * from article'),
  'a query builder': (em) => em.createQueryBuilder(Article).getResultList(),
  'the result cache of MikroORM': (em) => em.find(Article, {}, { cache: 1_000 }),
  groups: (em) => em.find(Article, {}, { groupBy: ['category'] } as never),
}

export type Case = readonly [title: string, run: (shop: Shop) => Promise<void>]

export const CASES: readonly Case[] = [
  ...Object.entries(READS).flatMap(([title, { read, ends, leaves }]) =>
    [
      ...ends.map((change) => [change, false] as const),
      ...leaves.map((change) => [change, true] as const),
    ].map(
      ([change, stands], at): Case => [
        `${title}: ${stands ? 'stays after' : 'ends with'} change ${at + 1}`,
        async (shop) => {
          const ids = await shop.fill()
          const value = await shop.cached((em) => read(em, ids, shop))
          deepEqual(shop.reasons, [])
          equal(await value.stands(), true)
          await change(shop.fork(), ids)
          equal(await value.stands(), stands)
        },
      ],
    ),
  ),
  ...Object.entries(UNTOLD).map(
    ([title, read]): Case => [
      `${title}: is not stored`,
      async (shop) => {
        const ids = await shop.fill()
        const value = await shop.cached((em) => read(em, ids, shop))
        equal(await value.stands(), false)
        equal(shop.reasons.length, 1)
      },
    ],
  ),
  [
    'a manager with entities from before: the value is not stored',
    async (shop) => {
      const { one } = await shop.fill()
      const em = shop.fork()
      await em.findOne(Article, one)
      const value = await shop.cached(() => em.findOne(Article, one))
      equal(await value.stands(), false)
      match(shop.reasons.join(), /entities from before/)
    },
  ],
  [
    'a manager that two creations load into at the same time: neither knows its reads',
    async (shop) => {
      const { one, two } = await shop.fill()
      const em = shop.fork()
      const [, other] = await Promise.all([
        shop.cached(() => em.findOne(Article, one)),
        shop.cached(async () => [await em.findOne(Article, two), await em.findOne(Article, one)]),
      ])
      equal(await other.stands(), false)
    },
  ],
  [
    'a creation inside another hands its reads up',
    async (shop) => {
      const ids = await shop.fill()
      const inner = shop.region.cacheOnArguments((id: number) => shop.fork().findOne(Article, id), {
        namespace: 'i',
      })
      const outer = await shop.cached(async () => [await inner(ids.one), await inner(ids.two)])
      equal(await outer.stands(), true)
      await rename(shop.fork(), ids)
      equal(await outer.stands(), false)
    },
  ],
  [
    'a creation that shares its manager with one inside it: each knows its own reads',
    async (shop) => {
      const ids = await shop.fill()
      const em = shop.fork()
      const inner = shop.region.cacheOnArguments(() => em.findOne(Article, ids.one), { namespace: 'inner' })
      const outer = await shop.cached(async () => [await inner(), await em.findOne(Article, ids.one)])
      equal(await outer.stands(), true)
      await rename(shop.fork(), ids)
      equal(await outer.stands(), false)
      equal(await inner.get(), NO_VALUE)
    },
  ],
  [
    'a read outside of every creation: is as it was',
    async (shop) => {
      const { one } = await shop.fill()
      equal((await shop.fork().findOneOrFail(Article, one)).title, '1')
      equal(await shop.fork().count(Article), 2)
      deepEqual(shop.reasons, [])
    },
  ],
]

import { LockMode, type MikroORM } from '@mikro-orm/libsql'
import { dep } from 'corral'
import { mikroOrm } from 'corral/integrations/mikro-orm'
import { managerOf } from './database.js'
import { Article, Author, Category } from './entities.js'
import { articles, pages } from './regions.js'

export interface ArticleView {
  readonly id: number
  readonly title: string
  readonly text: string
  readonly published: boolean
  readonly version: number
  readonly author: Named
  readonly category: Named
}

export interface Named {
  readonly id: number
  readonly name: string
}

export interface Draft {
  readonly title: string
  readonly text: string
  readonly published: boolean
  readonly author: number
  readonly category: number
}

/** The published articles of a category are a list: an article enters and leaves it when one of these two changes. */
const lists = dep
  .scopes<{ category: number; published: boolean | number }>('Article')
  .describes(['category', 'published'], ({ category, published }) => ({
    category,
    published: Boolean(published),
  }))
/** All of a type, whatever its fields: it changes when one comes or goes. */
const all = (type: string) => dep.scopes<object>(type).describes([], () => ({}))
const scopes = { Article: lists, Author: all('Author'), Category: all('Category') }

/**
 * The cached reads of the site, and its changes. Neither declares dependencies: Corral records what a function reads through the ORM,
 * and invalidates what a commit changes.
 */
export function openArticles(database: MikroORM) {
  // Both regions have one ledger, so that one of them is enough.
  mikroOrm(database, { regions: articles, scopes, trackReads: true })

  /** The smallest doll. */
  const article = articles.cacheOnArguments(
    async (id: number) => {
      const found = await managerOf(database).findOne(Article, id, { populate: ['author', 'category'] })
      return found === null ? undefined : viewOf(found)
    },
    { namespace: 'article' },
  )

  /** A list holds articles and dies with any of them. */
  const list = pages.cacheOnArguments(
    async (category: number) => {
      const orderBy = { id: 'asc' } as const
      const found = await managerOf(database).find(Article, { category, published: true }, { orderBy })
      const members = await Promise.all(found.map(({ id }) => article(id)))
      return members.filter((one) => one !== undefined)
    },
    { namespace: 'list' },
  )

  /** The front page holds all lists. */
  const front = pages.cacheOnArguments(
    async () => {
      const found = await managerOf(database).find(Category, {}, { orderBy: { id: 'asc' } })
      return Promise.all(found.map(async ({ id, name }) => ({ id, name, articles: await list(id) })))
    },
    { namespace: 'front' },
  )

  /** The authors and categories to choose from in the form. */
  const choices = pages.cacheOnArguments(
    async () => {
      const em = managerOf(database)
      const [authors, categories] = [await em.find(Author, {}), await em.find(Category, {})]
      return { authors: authors.map(namedOf), categories: categories.map(namedOf) }
    },
    { namespace: 'choices' },
  )

  return { cached: { article, list, front, choices }, ...changesOf(database) }
}

function changesOf(database: MikroORM) {
  return {
    /** The article from the database itself: the form must not show an older one. */
    async toEdit(id: number): Promise<ArticleView | undefined> {
      const found = await managerOf(database).findOne(Article, id, { populate: ['author', 'category'] })
      return found === null ? undefined : viewOf(found)
    },
    /** Its id. */
    async add(draft: Draft): Promise<number> {
      const em = managerOf(database)
      const article = em.create(Article, { ...draft, version: 1 })
      await em.flush()
      return article.id
    },
    /** Whether there was such an article. @throws OptimisticLockError if it has changed since that version */
    async change(id: number, version: number, draft: Draft): Promise<boolean> {
      const em = managerOf(database)
      const article = await em.findOne(Article, id)
      if (article === null) return false
      await em.lock(article, LockMode.OPTIMISTIC, version)
      em.assign(article, draft)
      await em.flush()
      return true
    },
    async remove(id: number): Promise<boolean> {
      const em = managerOf(database)
      const article = await em.findOne(Article, id)
      if (article === null) return false
      await em.removeAndFlush(article)
      return true
    },
    async renameAuthor(id: number, name: string): Promise<boolean> {
      const em = managerOf(database)
      const author = await em.findOne(Author, id)
      if (author === null) return false
      author.name = name
      await em.flush()
      return true
    },
  }
}

function viewOf({ id, title, text, published, version, author, category }: Article): ArticleView {
  const [writer, place] = [namedOf(author.unwrap()), namedOf(category.unwrap())]
  return { id, title, text, published, version, author: writer, category: place }
}

const namedOf = ({ id, name }: Named): Named => ({ id, name })

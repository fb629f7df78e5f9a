import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type EntityManager, MikroORM } from '@mikro-orm/libsql'
import { Article, Author, Category, entities } from './entities.js'

/** How long a statement waits for the write of another process. */
const BUSY_MS = 5_000

/**
 * Opens the database, a file of SQLite, and fills it if it is new. Processes that share a cache share it, too: else one of them would
 * cache rows that another has changed.
 */
export async function openDatabase(
  file = join(tmpdir(), 'corral-articles', 'articles.sqlite'),
): Promise<MikroORM> {
  // Nothing is asked before the connection knows to wait.
  const orm = await MikroORM.init({ entities, dbName: file, ensureDatabase: false })
  const connection = orm.em.getConnection()
  await connection.execute(`PRAGMA busy_timeout = ${BUSY_MS}`, [], 'get')
  await connection.execute('PRAGMA journal_mode = WAL', [], 'get')
  // The lock is taken at the beginning, so that of several processes one fills it and the others see that it is full.
  await connection.execute('BEGIN IMMEDIATE')
  try {
    await fill(orm)
    await connection.execute('COMMIT')
  } catch (error) {
    await connection.execute('ROLLBACK')
    await orm.close()
    throw error
  }
  return orm
}

/** A manager for one piece of work, which shares no entities with others. */
export const managerOf = (orm: MikroORM): EntityManager => orm.em.fork() as EntityManager

async function fill(orm: MikroORM): Promise<void> {
  const connection = orm.em.getConnection()
  const tables = await connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'article'")
  if (tables.length > 0) return
  const statements = await orm.schema.getCreateSchemaSQL({ wrap: false })
  for (const statement of statements.split(';\n'))
    if (statement.trim() !== '') await connection.execute(statement)
  const em = managerOf(orm)
  await em.insertMany(Author, named('Ada Mara', 'Noor Halim', 'Jon Vasko'))
  await em.insertMany(Category, named('Caches', 'Databases', 'Dolls'))
  await em.insertMany(
    Article,
    ARTICLES.map(([title, author, category, text], at) => ({
      ...{ id: at + 1, title, author, category, text },
      ...{ published: at < ARTICLES.length - 1, version: 1 },
    })),
  )
}

const named = (...names: readonly string[]) => names.map((name, at) => ({ id: at + 1, name }))

const ARTICLES: readonly (readonly [title: string, author: number, category: number, text: string])[] = [
  ['Why a list is hard to cache', 1, 1, 'An item that enters a list was never a part of it.'],
  ['One creator at a time', 2, 1, 'A thousand callers of a cold page are one query.'],
  ['Stale on purpose', 3, 1, 'An old page now is often better than a new page later.'],
  ['What a commit tells', 2, 2, 'Nothing is true before the commit, and nothing is old after it.'],
  ['A row leaves its list', 1, 2, 'It takes the row as it was to know which list it left.'],
  ['A doll in a doll', 3, 3, 'The page holds a list, the list holds articles, and each knows its own names.'],
  ['The smallest doll', 1, 3, 'If it changes, so do all around it, and no other.'],
  ['A draft', 2, 3, 'It is not published, so no list has it.'],
]

import { dep } from 'corral'
import { versioned } from 'corral/session'
import { broker } from 'corral/signals'
import { type Book, database } from './database.js'
import { catalogue, reports } from './regions.js'

/** A shelf is a list by a condition: books enter and leave it. */
const shelves = dep.scopes<Book>('book').describes(['shelf'], ({ shelf }) => ({ shelf }))

/** One book. It belongs to the group of its author, which only the row tells. */
export const book = catalogue.cacheOnArguments({
  namespace: 'book',
  dependencies: (id: number) => dep.id('book', id),
  resultDependencies: (row: Book | undefined) => (row === undefined ? [] : dep.group('author', row.author)),
})((id: number) => database.book(id))

/** A shelf with its books. It is made from cached books, and dies with any of them: a Russian doll. */
export const shelf = catalogue.cacheOnArguments({
  namespace: 'shelf',
  dependencies: (name: string) => shelves.condition({ shelf: name }),
})(async (name: string) => {
  const found = await Promise.all((await database.idsOn(name)).map((id) => book(id)))
  return found.filter((one): one is Book => one !== undefined)
})

/** Work that is made anew when the data's revision has moved on, which is asked for once in each request. */
export const authors = versioned({
  namespace: 'authors',
  region: reports,
  version: () => database.revision(),
})(() => database.count())

/** The names that a change of a book concerns: the book itself, the shelves that it enters and leaves. */
const books = broker<Book>('book', { regions: [catalogue], id: ({ id }) => id, scopes: shelves })

/**
 * Saves a book, and then tells the cache: never before the change is committed. What the book was `before` tells the shelf
 * that it leaves, so it comes from the database and not from the cache, and the change holds only if it is still true.
 * @throws Conflict
 */
export async function saveBook(changed: Book): Promise<boolean> {
  const before = await database.book(changed.id)
  if (before === undefined) return false
  await books.apply(changed, () => database.save(changed, before), { before, reason: 'saved by a form' })
  return true
}

/** Invalidates every entry with a book of the author, in any process. It changes no data. */
export function forgetAuthor(author: string): Promise<void> {
  return catalogue.invalidateDependencies(dep.group('author', author))
}

import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as pause } from 'node:timers/promises'
import { isDeepStrictEqual } from 'node:util'
import { open } from 'lmdb'

export interface Book {
  readonly id: number
  readonly title: string
  readonly author: string
  readonly shelf: string
}

/** Somebody else has changed the book meanwhile: nothing was saved. */
export class Conflict extends Error {}

export const SHELVES = ['fiction', 'essays', 'nature'] as const

const QUERY_MS = 40
const FIRST: readonly (readonly [title: string, author: string, shelf: string])[] = [
  ['The Left Hand of Darkness', 'Ursula K. Le Guin', 'fiction'],
  ['The Dispossessed', 'Ursula K. Le Guin', 'fiction'],
  ['The Wave in the Mind', 'Ursula K. Le Guin', 'essays'],
  ['Invisible Cities', 'Italo Calvino', 'fiction'],
  ['Six Memos for the Next Millennium', 'Italo Calvino', 'essays'],
  ['A Room of One’s Own', 'Virginia Woolf', 'essays'],
  ['Orlando', 'Virginia Woolf', 'fiction'],
  ['Silent Spring', 'Rachel Carson', 'nature'],
  ['The Sea Around Us', 'Rachel Carson', 'nature'],
]

// Stands for your database. Processes that share a cache share it too: else one of them would cache rows that another has changed.
const store = open({ path: process.env.DATABASE ?? join(tmpdir(), 'corral-bookshop') })
const books = store.openDB<Book, number>('books', {})
const facts = store.openDB<number, string>('facts', {})
let queries = 0

store.transactionSync(() => {
  if (facts.get('revision') !== undefined) return
  FIRST.forEach(([title, author, shelf], i) => books.putSync(i + 1, { id: i + 1, title, author, shelf }))
  // A revision must not come back with other data: a shop that is opened anew begins after all that was before.
  facts.putSync('revision', Date.now())
})

/** Every query takes its time and is counted. */
async function query<T>(answer: () => T): Promise<T> {
  queries++
  await pause(QUERY_MS)
  return answer()
}

const all = (): Book[] => [...books.getRange()].map(({ value }) => value)

export const database = {
  /** How many queries this process has sent. */
  queries: () => queries,
  /** Grows with every change: a cheap version check reads it. */
  revision: () => facts.get('revision') ?? 0,
  book: (id: number) => query(() => books.get(id)),
  idsOn: (shelf: string) => query(() => all().flatMap((book) => (book.shelf === shelf ? [book.id] : []))),
  count: () =>
    query(() => {
      const by = new Map<string, number>()
      for (const { author } of all()) by.set(author, (by.get(author) ?? 0) + 1)
      return [...by].sort(([one], [other]) => one.localeCompare(other))
    }),
  /**
   * Resolves when the change is committed.
   * @throws Conflict when the book is no longer as it was `before`.
   */
  save: (book: Book, before: Book) =>
    query(() =>
      store.transactionSync(() => {
        if (!isDeepStrictEqual(books.get(book.id), before)) throw new Conflict()
        books.putSync(book.id, book)
        facts.putSync('revision', (facts.get('revision') ?? 0) + 1)
      }),
    ),
  close: () => store.close(),
}

import { setTimeout as pause } from 'node:timers/promises'

/** Stands for your database: every query takes its time and is counted. */
export interface Book {
  readonly id: number
  readonly title: string
  readonly author: string
  readonly shelf: string
}

const QUERY_MS = 40

const books = new Map<number, Book>(
  [
    ['The Left Hand of Darkness', 'Ursula K. Le Guin', 'fiction'],
    ['The Dispossessed', 'Ursula K. Le Guin', 'fiction'],
    ['The Wave in the Mind', 'Ursula K. Le Guin', 'essays'],
    ['Invisible Cities', 'Italo Calvino', 'fiction'],
    ['Six Memos for the Next Millennium', 'Italo Calvino', 'essays'],
    ['A Room of One’s Own', 'Virginia Woolf', 'essays'],
    ['Orlando', 'Virginia Woolf', 'fiction'],
    ['Silent Spring', 'Rachel Carson', 'nature'],
    ['The Sea Around Us', 'Rachel Carson', 'nature'],
  ].map(([title = '', author = '', shelf = ''], i) => [i + 1, { id: i + 1, title, author, shelf }]),
)
// A revision must not come back with other data, and these data start anew with every process.
let revision = Date.now()
let queries = 0

async function query<T>(answer: () => T): Promise<T> {
  queries++
  await pause(QUERY_MS)
  return answer()
}

export const database = {
  /** How many queries it has answered. */
  queries: () => queries,
  /** Grows with every change: what a cheap version check asks for. */
  revision: () => revision,
  book: (id: number) => query(() => books.get(id)),
  idsOn: (shelf: string) =>
    query(() => [...books.values()].filter((book) => book.shelf === shelf).map(({ id }) => id)),
  count: () =>
    query(() => {
      const by = new Map<string, number>()
      for (const { author } of books.values()) by.set(author, (by.get(author) ?? 0) + 1)
      return [...by].sort(([one], [other]) => one.localeCompare(other))
    }),
  /** Resolves when the change is committed. */
  save: (book: Book) =>
    query(() => {
      books.set(book.id, book)
      revision++
    }),
}

export const SHELVES = ['fiction', 'essays', 'nature'] as const

/** Entities of other shapes than those of the shop: composite keys, classes that share a table, unique fields, cascades. With every version. */
import { deepEqual, ok, rejects } from 'node:assert/strict'
import type { Collection, EntityManager, MikroORM, Ref } from '@mikro-orm/libsql'
import { memory } from '../../../backends/memory/index.js'
import { dependencies } from '../../../proxies/dependencies.js'
import { dep, makeRegion, NO_VALUE, wrap } from '../../../src/index.js'
import { mikroOrm } from '../../../src/integrations/mikro-orm/index.js'
import { type Named, standing } from '../standing.js'
import type { Packages } from './shop.js'

class Line {
  declare order: number
  declare line: number
  declare text: string
}
class Note {
  declare line: Ref<Line>
  declare at: number
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
class Page {
  declare id: number
  declare slug: string
}
class Shelf {
  declare id: number
  declare name: string
  declare books: Collection<Book>
}
class Book {
  declare id: number
  declare title: string
  declare shelf: Ref<Shelf>
}
class Loan {
  declare id: number
  declare to: string
  declare book: Ref<Book> | null
}
class Box {
  declare id: number
  declare parts: Collection<Part>
}
class Part {
  declare id: number
  declare box: Ref<Box>
}

class Animal {
  declare id: number
  declare name: string
}
class Dog extends Animal {
  declare breed: string
}

const id = { type: 'number', primary: true, autoincrement: true } as const
const text = { type: 'string' } as const
const number = { type: 'number', primary: true, autoincrement: false } as const

const ENTITIES: readonly object[] = [
  { class: Line, properties: { order: number, line: number, text } },
  {
    class: Note,
    properties: {
      line: { kind: 'm:1', entity: () => Line, ref: true, primary: true, updateRule: 'cascade' },
      at: number,
      text,
    },
  },
  {
    class: Media,
    discriminatorColumn: 'kind',
    discriminatorMap: { media: 'Media', video: 'Video' },
    properties: { id, url: text, kind: text },
  },
  { class: Video, extends: 'Media', properties: { seconds: { type: 'number', nullable: true } } },
  { class: Page, properties: { id, slug: { type: 'string', unique: true } } },
  {
    class: Shelf,
    properties: { id, name: text, books: { kind: '1:m', entity: () => Book, mappedBy: 'shelf' } },
  },
  {
    class: Book,
    properties: {
      ...{ id, title: text },
      shelf: { kind: 'm:1', entity: () => Shelf, ref: true, deleteRule: 'cascade', updateRule: 'cascade' },
    },
  },
  // Its schema sets a reference that may be null to null.
  {
    class: Loan,
    properties: { id, to: text, book: { kind: 'm:1', entity: () => Book, ref: true, nullable: true } },
  },
  {
    class: Box,
    properties: {
      id,
      parts: { kind: '1:m', entity: () => Part, mappedBy: 'box', orphanRemoval: true },
    },
  },
  { class: Part, properties: { id, box: { kind: 'm:1', entity: () => Box, ref: true } } },
]

/** Of MikroORM 7: a table for each class, joined by the key. */
const ENTITIES_OF_7: readonly object[] = [
  { class: Animal, inheritance: 'tpt', properties: { id, name: text } },
  { class: Dog, extends: Animal, properties: { breed: text } },
]

/** With several regions to one integration each value has the names that it is given, and no others. */
async function open({ MikroORM, EntitySchema, createTables }: Packages, more: readonly object[]) {
  const region = makeRegion<unknown>({ name: 'shapes', backend: wrap(memory(), dependencies()) })
  const database: MikroORM = await MikroORM.init({
    entities: [...ENTITIES, ...more].map((one) => new EntitySchema(one)),
    dbName: ':memory:',
  })
  await createTables(database)
  const fork = () => database.em.fork() as EntityManager
  await fork().getConnection().execute('PRAGMA foreign_keys = ON')
  const slugs = dep.scopes<{ slug: string }>('Page').describes(['slug'], ({ slug }) => ({ slug }))
  const books = dep.scopes<{ title: string }>('Book').describes(['title'], ({ title }) => ({ title }))
  const urls = dep.scopes<{ url: string }>('Media').describes(['url'], ({ url }) => ({ url }))
  const animals = dep.scopes<{ name: string }>('Animal').describes(['name'], ({ name }) => ({ name }))
  const scopes = {
    ...{ Page: slugs, Book: books, Media: urls },
    ...(more.length > 0 && { Animal: animals }),
  }
  const orm = mikroOrm(database, { regions: region, scopes, trackReads: true })
  const here = (names: Named) => standing(region, names)
  return { database, region, orm, fork, slugs, books, urls, animals, standing: here }
}

type Shapes = Awaited<ReturnType<typeof open>>

async function library({ fork }: Pick<Shapes, 'fork'>) {
  const em = fork()
  const shelf = em.create(Shelf, { name: 's' } as never)
  const [one, two] = ['a', 'b'].map((title) => em.create(Book, { title, shelf } as never)) as [Book, Book]
  const loan = em.create(Loan, { to: 'Ann', book: one } as never)
  await em.flush()
  return { shelf: shelf.id, one: one.id, two: two.id, loan: loan.id }
}

const run: Readonly<Record<string, (shapes: Shapes) => Promise<void>>> = {
  'a composite key: has all its parts, in the order of the table': async ({ fork, orm, standing }) => {
    const em = fork()
    const line = em.create(Line, { order: 2026, line: 17, text: 'x' } as never)
    em.create(Line, { order: 17, line: 2026, text: 'x' } as never)
    await em.flush()
    ok(orm.dependenciesOf(line).includes(dep.id('Line', 2026, 17)))
    const left = await standing({ one: dep.id('Line', 2026, 17), other: dep.id('Line', 17, 2026) })
    line.text = 'y'
    await em.flush()
    deepEqual(await left(), ['other'])
    await em.remove(line).flush()
    await fork().upsert(Line, { order: 17, line: 2026, text: 'up' } as never)
    deepEqual(await left(), [])
  },
  'a key with a reference in it: has the parts of that one': async ({ fork, orm, standing }) => {
    const em = fork()
    const line = em.create(Line, { order: 1, line: 2, text: 'x' } as never)
    const note = em.create(Note, { line, at: 3, text: 'x' } as never)
    await em.flush()
    const found = await fork().findOneOrFail(Note, [[1, 2], 3] as never)
    ok(orm.dependenciesOf(found, { line: true }).includes(dep.id('Line', 1, 2)))
    const left = await standing({ note: orm.dependenciesOf(found), line: dep.id('Line', 1, 2) })
    note.text = 'y'
    await em.flush()
    deepEqual(await left(), ['line'])
  },
  'a class that shares its table: has the name of the root, in keys and lists': async (shapes) => {
    const { fork, orm, urls, standing } = shapes
    const em = fork()
    const video = em.create(Video, { url: 'u', seconds: 5 } as never)
    const image = em.create(Media, { url: 'i' } as never)
    await em.flush()
    ok(orm.dependenciesOf(video).includes(dep.id('Media', video.id)))
    const names = { video: dep.id('Media', video.id), image: dep.id('Media', image.id) }
    const list = (url: string) => urls.condition({ url })
    const left = await standing({ ...names, u: list('u'), v: list('v'), i: list('i') })
    video.seconds = 6
    await em.flush()
    deepEqual(await left(), ['image', 'u', 'v', 'i'])
    video.url = 'v'
    await em.flush()
    deepEqual(await left(), ['image', 'i'])
  },
  'reads of composite keys and of classes that share a table: declare themselves': async (shapes) => {
    const { fork, region } = shapes
    const em = fork()
    const [line, other] = [1, 2].map((at) => em.create(Line, { order: 1, line: at, text: 'x' } as never)) as [
      Line,
      Line,
    ]
    const note = em.create(Note, { line, at: 3, text: 'x' } as never)
    const video = em.create(Video, { url: 'u', seconds: 5 } as never)
    await em.flush()
    const read = {
      line: () => fork().findOne(Line, { order: 1, line: 1 }),
      byList: () => fork().findOne(Line, [1, 1] as never),
      note: () => fork().findOne(Note, [[1, 1], 3] as never, { populate: ['line'] }),
      video: () => fork().findOne(Video, video.id),
      videos: () => fork().find(Video, { url: 'u' }),
      videoCount: () => fork().count(Video),
    }
    const values = Object.entries(read).map(
      ([namespace, one]) =>
        [namespace, region.cacheOnArguments(one as () => Promise<unknown>, { namespace })] as const,
    )
    const ended = async (change: () => unknown) => {
      for (const [namespace, one] of values) {
        await one()
        ok((await one.get()) !== NO_VALUE, `${namespace} is stored`)
      }
      await change()
      await em.flush()
      const left = await Promise.all(values.map(([, one]) => one.get()))
      return values.flatMap(([namespace], at) => (left[at] === NO_VALUE ? [namespace] : []))
    }
    deepEqual(await ended(() => Object.assign(other, { text: 'new' })), [])
    deepEqual(await ended(() => Object.assign(line, { text: 'new' })), ['line', 'byList', 'note'])
    deepEqual(await ended(() => Object.assign(note, { text: 'new' })), ['note'])
    deepEqual(await ended(() => Object.assign(video, { seconds: 6 })), ['video', 'videos', 'videoCount'])
    deepEqual(await ended(() => em.create(Video, { url: 'u', seconds: 1 } as never)), [
      'videos',
      'videoCount',
    ])
    deepEqual(await ended(() => em.create(Video, { url: 'w', seconds: 1 } as never)), ['videoCount'])
    deepEqual(await ended(() => em.remove(video)), ['video', 'videos', 'videoCount'])
  },
  'a unique field that one entity leaves to another: is one list': async ({ fork, slugs, standing }) => {
    const em = fork()
    const [one] = ['a', 'b'].map((slug) => em.create(Page, { slug } as never)) as [Page, Page]
    await em.flush()
    const list = (slug: string) => slugs.condition({ slug })
    const left = await standing({ a: list('a'), b: list('b'), one: dep.id('Page', one.id) })
    em.remove(one)
    em.create(Page, { slug: 'a' } as never)
    await em.flush()
    deepEqual(await left(), ['b'])
  },
  'a removed entity: leaves the list that its row was in': async ({ fork, books, standing, ...shapes }) => {
    const { one } = await library({ ...shapes, fork })
    const em = fork()
    const left = await standing({ a: books.condition({ title: 'a' }), z: books.condition({ title: 'z' }) })
    const book = await em.findOneOrFail(Book, one)
    book.title = 'z'
    await em.remove(book).flush()
    deepEqual((await left()).includes('a'), false)
  },
  'an orphan that MikroORM removes: is told': async ({ fork, standing }) => {
    const em = fork()
    const box = em.create(Box, {} as never)
    const [one, two] = [1, 2].map(() => em.create(Part, { box } as never)) as [Part, Part]
    await em.flush()
    const left = await standing({ one: dep.id('Part', one.id), two: dep.id('Part', two.id) })
    const own = fork()
    const found = await own.findOneOrFail(Box, box.id, { populate: ['parts'] })
    found.parts.remove(found.parts.getItems()[0] as Part)
    await own.flush()
    deepEqual(await left(), ['two'])
    // The removal of the box takes its parts along.
    await own.remove(found).flush()
    deepEqual(await left(), [])
  },
  'rows that the database deletes or changes with another: are all of their types': async (shapes) => {
    const { fork, orm, books, standing } = shapes
    const { shelf, one, two, loan } = await library(shapes)
    const em = fork()
    const [book, lent] = [await em.findOneOrFail(Book, one), await em.findOneOrFail(Loan, loan)]
    const left = await standing({
      ...{ book: orm.dependenciesOf(book), loan: orm.dependenciesOf(lent) },
      ...{ list: books.condition({ title: 'b' }), two: dep.id('Book', two), page: dep.id('Page', 1) },
    })
    const own = fork()
    await own.remove(await own.findOneOrFail(Shelf, shelf)).flush()
    deepEqual([await fork().count(Book), (await fork().findOneOrFail(Loan, loan)).book], [0, null])
    // A name of one row alone is no dependency: `dependenciesOf` has that of the type, too.
    deepEqual(await left(), ['two', 'page'])
  },
  'a key that changes: the database changes it in rows of other types, also in their keys': async (
    shapes,
  ) => {
    const { fork, orm, standing } = shapes
    const { shelf, one, loan } = await library(shapes)
    const em = fork()
    const line = em.create(Line, { order: 1, line: 2, text: 'x' } as never)
    const note = em.create(Note, { line, at: 3, text: 'x' } as never)
    await em.flush()
    const [book, lent] = [await em.findOneOrFail(Book, one), await em.findOneOrFail(Loan, loan)]
    const left = await standing({
      ...{ book: orm.dependenciesOf(book), loan: orm.dependenciesOf(lent), note: orm.dependenciesOf(note) },
    })
    const own = fork()
    ;(await own.findOneOrFail(Shelf, shelf)).id = 77
    await own.flush()
    deepEqual((await fork().findOneOrFail(Book, one)).shelf.id, 77)
    deepEqual(await left(), ['loan', 'note'])
    ;(await own.findOneOrFail(Line, [1, 2] as never)).order = 8
    await own.flush()
    deepEqual(await left(), ['loan'])
  },
  'a key that `nativeUpdate` changes: the database changes it in rows of other types': async (shapes) => {
    const { fork, region, database, standing } = shapes
    const { shelf, one } = await library(shapes)
    const orm = mikroOrm(database, { regions: region, patch: true })
    const em = fork()
    const left = await standing({ one: orm.dependenciesOf(await em.findOneOrFail(Book, one)) })
    await fork().nativeUpdate(Shelf, { id: shelf }, { name: 'new' })
    deepEqual(await left(), ['one'])
    await fork().nativeUpdate(Shelf, { id: shelf }, { id: 77 } as never)
    deepEqual(await left(), [])
  },
  'a flush that fails: concerns what it has written, unless that is rolled back': async (shapes) => {
    const { fork, standing, database } = shapes
    const { one } = await library(shapes)
    const first = fork()
    const line = first.create(Line, { order: 1, line: 2, text: 'x' } as never)
    first.create(Note, { line, at: 3, text: 'x' } as never)
    await first.flush()
    const book = { book: dep.id('Book', one) }
    const fail = async (em: EntityManager) => {
      const found = await em.findOneOrFail(Book, one)
      found.title += '!'
      em.remove(await em.findOneOrFail(Line, [1, 2] as never))
      await rejects(em.flush(), /FOREIGN KEY/)
    }
    const left = await standing(book)
    await fail(fork())
    await rejects(
      fork().transactional(async (em) => {
        await fail(em as EntityManager)
        throw new Error('rollback')
      }),
      /rollback/,
    )
    deepEqual(await left(), ['book'])
    await fork().transactional((em) => fail(em as EntityManager))
    deepEqual(await left(), [])
    const again = await standing(book)
    database.config.set('implicitTransactions', false)
    await fail(fork())
    deepEqual(await again(), [])
    deepEqual((await fork().findOneOrFail(Book, one)).title, 'a!!')
  },
}

const runWith7: Readonly<Record<string, (shapes: Shapes) => Promise<void>>> = {
  'a class that has a table beside that of its root: has the name and the fields of the root': async (
    shapes,
  ) => {
    const { fork, orm, animals, standing } = shapes
    const em = fork()
    const dog = em.create(Dog, { name: 'Rex', breed: 'x' } as never)
    await em.flush()
    ok(orm.dependenciesOf(dog).includes(dep.id('Animal', dog.id)))
    const list = (name: string) => animals.condition({ name })
    const left = await standing({ dog: dep.id('Animal', dog.id), rex: list('Rex'), max: list('Max') })
    dog.breed = 'y'
    await em.flush()
    deepEqual(await left(), ['rex', 'max'])
    dog.name = 'Max'
    await em.flush()
    deepEqual(await left(), [])
    const again = await standing({ rex: list('Rex'), max: list('Max'), tom: list('Tom') })
    em.create(Dog, { name: 'Tom', breed: 'x' } as never)
    await em.flush()
    deepEqual(await again(), ['rex', 'max'])
    await em.remove(dog).flush()
    deepEqual(await again(), ['rex'])
  },
}

type Shape = readonly [title: string, run: (packages: Packages) => Promise<void>]

const casesOf = (runs: typeof run, more: readonly object[]): readonly Shape[] =>
  Object.entries(runs).map(([title, one]) => [
    title,
    async (packages) => {
      const shapes = await open(packages, more)
      try {
        await one(shapes)
      } finally {
        await shapes.database.close(true)
      }
    },
  ])

export const SHAPES = casesOf(run, [])
export const SHAPES_OF_7 = casesOf(runWith7, ENTITIES_OF_7)

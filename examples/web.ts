import { once } from 'node:events'
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { CorralError } from 'corral'
import { session } from 'corral/session'
import { isNotInvalidated } from 'corral/signals'
import { authors, book, forgetAuthor, saveBook, shelf } from './web/books.js'
import { Conflict, database, SHELVES } from './web/database.js'
import { logCache } from './web/log.js'
import { bookPage, type Cost, explainPage, messagePage, shopPage } from './web/page.js'
import { catalogue, closeRegions, configureRegions } from './web/regions.js'

const LARGEST_FORM = 10_000
/** How long requests under way may take when the shop is closed. */
const PATIENCE_MS = 10_000
const HEADERS = {
  'content-type': 'text/html; charset=utf-8',
  'cache-control': 'no-store',
  'content-security-policy':
    "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'; frame-ancestors 'none'",
}

/** Refused with a status and a message for the visitor. */
class Refusal extends Error {
  constructor(
    readonly status: number,
    message: string,
  ) {
    super(message)
  }
}

async function answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
  const began = performance.now()
  const asked = database.queries()
  // Those of other requests at the same time are counted too.
  const cost = (): Cost => ({
    queries: database.queries() - asked,
    milliseconds: performance.now() - began,
  })
  const { pathname, searchParams } = addressOf(request)
  const route = `${methodOf(request)} ${pathname.replace(/\/\d+$/, '/:id')}`
  const id = Number(pathname.split('/').at(-1))
  switch (route) {
    case 'GET /': {
      const shelves = await Promise.all(SHELVES.map(async (name) => ({ name, books: await shelf(name) })))
      return html(response, shopPage({ shelves, authors: await authors() }, cost()))
    }
    case 'GET /books/:id':
      return html(response, bookPage(await known(id), SHELVES, cost()))
    case 'POST /books/:id': {
      const form = await readForm(request)
      const changed = {
        id,
        title: field(form, 'title'),
        author: field(form, 'author'),
        shelf: field(form, 'shelf', SHELVES),
      }
      if (!(await saveBook(changed))) throw noSuchBook()
      return seeOther(response, '/')
    }
    case 'POST /authors/forget':
      await forgetAuthor(field(await readForm(request), 'author'))
      return seeOther(response, '/')
    case 'GET /explain': {
      const name = field(searchParams, 'shelf', SHELVES)
      return html(response, explainPage(name, await catalogue.explain(shelf.key(name)), cost()))
    }
    default:
      throw new Refusal(404, 'There is no such page.')
  }
}

async function known(id: number) {
  const found = await book(id)
  if (found === undefined) throw noSuchBook()
  return found
}

const noSuchBook = () => new Refusal(404, 'There is no such book.')

function addressOf({ url = '/' }: IncomingMessage): URL {
  if (!URL.canParse(url, 'http://shop')) throw new Refusal(400, 'That is no address.')
  return new URL(url, 'http://shop')
}

function methodOf({ method, headers }: IncomingMessage): 'GET' | 'POST' {
  if (method === 'GET' || method === 'HEAD') return 'GET'
  if (method !== 'POST') throw new Refusal(405, 'That can only be read, or sent as a form.')
  // A form on a foreign page must not act for the visitor. Only browsers send this header, and only they matter here.
  if (!['same-origin', 'none', undefined].includes(headers['sec-fetch-site'] as string | undefined))
    throw new Refusal(403, 'That form is not ours.')
  return 'POST'
}

function field(form: URLSearchParams, name: string, allowed?: readonly string[]): string {
  const value = form.get(name)?.trim() ?? ''
  if (value === '' || value.length > 200 || allowed?.includes(value) === false)
    throw new Refusal(400, `The field “${name}” is not filled in as expected.`)
  return value
}

async function readForm(request: IncomingMessage): Promise<URLSearchParams> {
  let form = ''
  for await (const chunk of request.setEncoding('utf8')) {
    form += chunk
    if (form.length > LARGEST_FORM) throw new Refusal(413, 'That is too much.')
  }
  return new URLSearchParams(form)
}

function html(response: ServerResponse, page: string, status = 200): void {
  response.writeHead(status, status === 405 ? { ...HEADERS, allow: 'GET, HEAD, POST' } : HEADERS)
  response.end(page)
}

function seeOther(response: ServerResponse, location: string): void {
  response.writeHead(303, { location }).end()
}

function fail(response: ServerResponse, error: unknown): void {
  const [status, message] = messageFor(error)
  // Refusals are mistakes of the visitor. The message of a cache's error says enough, and an outage repeats it.
  if (status !== 409 && !(error instanceof Refusal))
    console.error(CorralError.is(error) ? error.message : error)
  html(response, messagePage(`${status}`, message), status)
}

function messageFor(error: unknown): [status: number, message: string] {
  if (error instanceof Refusal) return [error.status, error.message]
  if (error instanceof Conflict) return [409, 'Another visitor has just changed this book.']
  // The change is done, so this is no failure for the visitor. The invalidation follows: Redis' `recovery` repeats it.
  if (isNotInvalidated(error))
    return [202, 'It is saved. For a short time some pages may still show the book as it was before.']
  if (CorralError.is(error, 'ERR_UNAVAILABLE') || CorralError.is(error, 'ERR_TIMEOUT'))
    return [503, 'The cache cannot be reached at the moment. The shop works without it, only more slowly.']
  return [500, 'Something went wrong.']
}

const underWay = new Set<Promise<void>>()
// Each request is a session: the revision is asked for once in it, so that one page never mixes two states.
const server = createServer((request, response) => {
  const answering = session
    .run(() => answer(request, response))
    .catch((error: unknown) => fail(response, error))
    .finally(() => underWay.delete(answering))
  underWay.add(answering)
})
// Before anything can fail.
logCache(console.error)
try {
  configureRegions(process.env)
  server.listen(Number(process.env.PORT ?? 3000), '127.0.0.1')
  await once(server, 'listening')
} catch (error) {
  console.error(error instanceof Error ? error.message : error)
  process.exit(1)
}
console.log(`http://127.0.0.1:${(server.address() as AddressInfo).port}/`)

let stopping: Promise<void> | undefined
for (const signal of ['SIGTERM', 'SIGINT']) process.on(signal, () => (stopping ??= stop()))
/** Regions are closed last: a change that was just saved has yet to be invalidated. */
async function stop(): Promise<void> {
  server.close()
  const patience = setTimeout(() => server.closeAllConnections(), PATIENCE_MS)
  while (underWay.size > 0) await Promise.all(underWay)
  clearTimeout(patience)
  server.closeAllConnections()
  await closeRegions()
  await database.close()
}

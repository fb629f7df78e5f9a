import { once } from 'node:events'
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { CorralError } from 'corral'
import { session } from 'corral/session'
import { authors, book, forgetAuthor, saveBook, shelf } from './web/books.js'
import { database, SHELVES } from './web/database.js'
import { bookPage, type Cost, errorPage, explainPage, shopPage } from './web/page.js'
import { catalogue, closeRegions, configureRegions } from './web/regions.js'

const LARGEST_FORM = 10_000

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
  const cost = (): Cost => ({
    queries: database.queries() - asked,
    milliseconds: performance.now() - began,
  })
  const { pathname, searchParams } = new URL(request.url ?? '/', 'http://shop')
  const route = `${request.method} ${pathname.replace(/\/\d+$/, '/:id')}`
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
      await saveBook({
        id: (await known(id)).id,
        title: field(form, 'title'),
        author: field(form, 'author'),
        shelf: field(form, 'shelf', SHELVES),
      })
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
  if (found === undefined) throw new Refusal(404, 'There is no such book.')
  return found
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
  response.writeHead(status, { 'content-type': 'text/html; charset=utf-8', 'cache-control': 'no-store' })
  response.end(page)
}

function seeOther(response: ServerResponse, location: string): void {
  response.writeHead(303, { location }).end()
}

function fail(response: ServerResponse, error: unknown): void {
  if (error instanceof Refusal) {
    html(response, errorPage(error.status, error.message), error.status)
    return
  }
  console.error(error)
  html(
    response,
    errorPage(500, CorralError.is(error) ? `The cache: ${error.code}` : 'Something went wrong.'),
    500,
  )
}

try {
  configureRegions(process.env)
} catch (error) {
  console.error(error instanceof Error ? error.message : error)
  process.exit(1)
}
// Each request is a session: the revision is asked for once in it, so that one page never mixes two states.
const server = createServer((request, response) => {
  session.run(() => answer(request, response)).catch((error: unknown) => fail(response, error))
})
server.listen(Number(process.env.PORT ?? 3000), '127.0.0.1')
await once(server, 'listening')
console.log(`http://127.0.0.1:${(server.address() as AddressInfo).port}/`)

process.once('SIGTERM', stop).once('SIGINT', stop)
async function stop(): Promise<void> {
  server.close()
  server.closeAllConnections()
  await closeRegions()
}

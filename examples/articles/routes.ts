import type { FastifyInstance, FastifyReply } from 'fastify'
import type { Draft, openArticles } from './articles.js'
import { cacheStatus, type Origin, withOrigin } from './origin.js'
import { articleForm, articlePage, authorForm, frontPage, listPage } from './page.js'
import { articles, pages } from './regions.js'

export class NotFound extends Error {}

interface ById {
  Params: { id: number }
}

const params = { type: 'object', properties: { id: { type: 'integer', minimum: 1 } } }
const id = { type: 'integer', minimum: 1 }
const title = { type: 'string', minLength: 1, maxLength: 200 }
const draft = {
  type: 'object',
  required: ['title', 'text', 'author', 'category'],
  properties: {
    ...{ title, author: id, category: id, version: id },
    text: { type: 'string', minLength: 1, maxLength: 5_000 },
    // A box that is not checked is not sent.
    published: { type: 'boolean', default: false },
  },
}
const author = { type: 'object', required: ['name'], properties: { name: title } }

export function routes(app: FastifyInstance, site: ReturnType<typeof openArticles>): void {
  const { article, list, front, choices } = site.cached

  app.get('/', async (_, reply) => {
    const { value, origin } = await withOrigin(pages, front)
    return html(reply, frontPage(value, origin), origin)
  })
  app.get<ById>('/categories/:id', { schema: { params } }, async ({ params: { id } }, reply) => {
    const place = (await choices()).categories.find((one) => one.id === id)
    if (place === undefined) throw new NotFound('There is no such category.')
    const { value, origin } = await withOrigin(pages, list, id)
    return html(reply, listPage(place.name, value, origin), origin)
  })
  app.get<ById>('/articles/:id', { schema: { params } }, async ({ params: { id } }, reply) => {
    const { value, origin } = await withOrigin(articles, article, id)
    return html(reply, articlePage(found(value), origin), origin)
  })

  app.get('/articles/new', async (_, reply) => html(reply, articleForm({}, await choices())))
  app.post<{ Body: Draft }>('/articles', { schema: { body: draft } }, async ({ body }, reply) =>
    reply.redirect(`/articles/${await site.add(draftOf(body))}`, 303),
  )
  app.get<ById>('/articles/:id/edit', { schema: { params } }, async ({ params: { id } }, reply) =>
    html(reply, articleForm(found(await site.toEdit(id)), await choices())),
  )
  app.post<ById & { Body: Draft & { version: number } }>(
    '/articles/:id',
    { schema: { params, body: { ...draft, required: [...draft.required, 'version'] } } },
    async ({ params: { id }, body }, reply) => {
      found(await site.change(id, body.version, draftOf(body)))
      return reply.redirect(`/articles/${id}`, 303)
    },
  )
  app.post<ById>('/articles/:id/delete', { schema: { params } }, async ({ params: { id } }, reply) => {
    found(await site.remove(id))
    return reply.redirect('/', 303)
  })
  app.post<ById>('/articles/:id/expire', { schema: { params } }, async ({ params: { id } }, reply) => {
    await article.invalidate.soft(id)
    return reply.redirect(`/articles/${id}`, 303)
  })

  app.get<ById>('/authors/:id/edit', { schema: { params } }, async ({ params: { id } }, reply) =>
    html(reply, authorForm(found((await choices()).authors.find((one) => one.id === id)))),
  )
  app.post<ById & { Body: { name: string } }>(
    '/authors/:id',
    { schema: { params, body: author } },
    async ({ params: { id }, body: { name } }, reply) => {
      found(await site.renameAuthor(id, name))
      return reply.redirect('/', 303)
    },
  )
}

/** @throws NotFound for nothing */
function found<T>(value: T | undefined | false): T {
  if (value === undefined || value === false) throw new NotFound('There is no such thing.')
  return value
}

const draftOf = ({ title, text, published, author, category }: Draft): Draft => ({
  ...{ title, text, published, author, category },
})

function html(reply: FastifyReply, page: string, origin?: Origin): FastifyReply {
  if (origin !== undefined) reply.header('cache-status', cacheStatus(origin))
  return reply.type('text/html; charset=utf-8').send(page)
}

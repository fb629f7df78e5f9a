import { OptimisticLockError } from '@mikro-orm/core'
import { CorralError } from 'corral'
import { logTo } from 'corral/integrations/pino'
import { prometheus } from 'corral/integrations/prometheus'
import { isNotInvalidated } from 'corral/signals'
import { fastify } from 'fastify'
import * as metrics from 'prom-client'
import { openArticles } from './articles/articles.js'
import { openDatabase } from './articles/database.js'
import { messagePage } from './articles/page.js'
import { articles, closeRegions, configureRegions, pages } from './articles/regions.js'
import { NotFound, routes } from './articles/routes.js'

const HEADERS = {
  'cache-control': 'no-store',
  'content-security-policy':
    "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'; frame-ancestors 'none'",
}

const app = fastify({ logger: { level: process.env.LOG_LEVEL ?? 'info' }, bodyLimit: 20_000 })
// Before anything can fail.
logTo(app.log)
const database = await openDatabase(process.env.DATABASE)
configureRegions(process.env)
prometheus({ client: metrics, regions: [articles, pages] })
const seconds = new metrics.Histogram({
  name: 'http_request_duration_seconds',
  help: 'Time of requests',
  labelNames: ['route', 'status'],
})

app.addContentTypeParser('application/x-www-form-urlencoded', { parseAs: 'string' }, (_, body, done) => {
  const fields = [...new URLSearchParams(body.toString())].map(([name, value]) => [name, value.trim()])
  done(null, Object.fromEntries(fields))
})
app.addHook('onRequest', async (request, reply) => {
  reply.headers(HEADERS)
  // A form on a foreign page must not act for the visitor. Only browsers send this header, and only they matter here.
  const site = request.headers['sec-fetch-site'] ?? 'none'
  if (request.method === 'POST' && site !== 'same-origin' && site !== 'none')
    return reply.code(403).type('text/html; charset=utf-8').send(messagePage(403, 'That form is not ours.'))
})
app.addHook('onResponse', async (request, reply) => {
  const route = request.routeOptions.url ?? 'none'
  seconds.observe({ route, status: reply.statusCode }, reply.elapsedTime / 1_000)
})
app.setNotFoundHandler(() => {
  throw new NotFound('There is no such page.')
})
app.setErrorHandler((error, request, reply) => {
  const [status, message] = messageFor(error)
  if (status >= 500 || status === 202) request.log.error(error)
  return reply.code(status).type('text/html; charset=utf-8').send(messagePage(status, message))
})

function messageFor(error: unknown): [status: number, message: string] {
  if (error instanceof NotFound) return [404, error.message]
  if (error instanceof OptimisticLockError)
    return [409, 'Another visitor has changed this article since you opened the form.']
  // The change is done, so this is no failure for the visitor. The invalidation follows: Redis' `recovery` repeats it.
  if (isNotInvalidated(error))
    return [202, 'It is saved. For a short time some pages may still show it as it was before.']
  if (CorralError.is(error, 'ERR_UNAVAILABLE') || CorralError.is(error, 'ERR_TIMEOUT'))
    return [503, 'The cache cannot be reached at the moment. The site works without it, only more slowly.']
  const { statusCode } = error as { readonly statusCode?: number }
  if (statusCode !== undefined && statusCode < 500)
    return [statusCode, 'The form is not filled in as expected.']
  return [500, 'Something went wrong.']
}

app.get('/metrics', async (_, reply) =>
  reply.type(metrics.register.contentType).send(await metrics.register.metrics()),
)
app.get('/ready', async (_, reply) => {
  const isReady = await pages.ready()
  return reply.code(isReady ? 200 : 503).send({ cache: isReady })
})
routes(app, openArticles(database))

// Requests under way end first, then the renewals, then the store: a change that was just saved has yet to be invalidated.
app.addHook('onClose', async () => {
  await closeRegions()
  await database.close()
})
for (const signal of ['SIGTERM', 'SIGINT']) process.once(signal, () => void app.close())
await app.listen({ port: Number(process.env.PORT ?? 3000), host: '127.0.0.1' })

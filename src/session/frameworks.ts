import { beginSession, runInSession } from '../versions/session.js'

/** The arguments of a middleware of an Express-shaped server; also that of connect, Polka or restify. */
export interface ServerResponseLike {
  readonly destroyed?: boolean
  readonly closed?: boolean
  once(event: 'close', listener: () => void): unknown
}
export type ExpressMiddleware = (
  request: unknown,
  response: ServerResponseLike,
  next: (error?: unknown) => void,
) => void

/** A session for each request, until its response is sent or its client is gone. */
export function express(): ExpressMiddleware {
  return (_request, response, next) => {
    beginFor(response)(() => next())
  }
}

/** Begins a session that ends with the response; the answer runs parts of it. */
function beginFor(response: ServerResponseLike): <R>(run: () => R) => R {
  const { enter, end } = beginSession()
  // A client that is gone already closes nothing any more.
  if (response.destroyed === true || response.closed === true) end()
  else response.once('close', end)
  return enter
}

/** The arguments of a middleware of Koa and Hono. */
export type AsyncMiddleware = (context: unknown, next: () => Promise<unknown>) => Promise<void>

/** A session for each request, until the middlewares below have answered. */
export function asyncMiddleware(): AsyncMiddleware {
  return async (_context, next) => {
    await runInSession(next)
  }
}

interface FastifyReplyLike {
  readonly raw: ServerResponseLike
}
type FastifyHook = (request: object, reply: FastifyReplyLike, done: () => void) => void

/** The part of Fastify's instance that this plugin needs. */
export interface FastifyLike {
  addHook(name: 'onRequest' | 'preValidation', hook: FastifyHook): unknown
}
export type FastifyPlugin = (instance: FastifyLike, options: unknown, done: () => void) => void

/** A plugin: a session for each request, until its response is sent or its client is gone. */
export function fastify(): FastifyPlugin {
  const open = new WeakMap<object, <R>(run: () => R) => R>()
  const plugin: FastifyPlugin = (instance, _options, done) => {
    instance.addHook('onRequest', (request, reply, next) => {
      const enter = beginFor(reply.raw)
      open.set(request, enter)
      enter(next)
    })
    // A body arrives in events of the connection, which know nothing of the request that they belong to.
    instance.addHook('preValidation', (request, _reply, next) => {
      const enter = open.get(request)
      if (enter === undefined) next()
      else enter(next)
    })
    done()
  }
  // Fastify would otherwise hide the hooks from the routes beside the plugin.
  return Object.assign(plugin, { [Symbol.for('skip-override')]: true })
}

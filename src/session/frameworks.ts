import { beginSession, runInSession } from '../versions/session.js'

/**
 * A response of an Express-shaped server, also of connect, Polka or restify.
 * @example
 * ```ts
 * import type { ServerResponseLike } from 'corral/session'
 *
 * export const isOver = ({ destroyed, closed }: ServerResponseLike) => destroyed === true || closed === true
 * ```
 */
export interface ServerResponseLike {
  readonly destroyed?: boolean
  readonly closed?: boolean
  once(event: 'close', listener: () => void): unknown
}

/**
 * A middleware of an Express-shaped server.
 * @example
 * ```ts
 * import { type ExpressMiddleware, session } from 'corral/session'
 *
 * export const middleware: ExpressMiddleware = session.express()
 * ```
 */
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

/** Begins a session that ends with the response. The returned function runs parts of it. */
function beginFor(response: ServerResponseLike): <R>(run: () => R) => R {
  const { enter, end } = beginSession()
  // A client that is gone already closes nothing any more.
  if (response.destroyed === true || response.closed === true) end()
  else response.once('close', end)
  return enter
}

/**
 * A middleware of Koa or Hono.
 * @example
 * ```ts
 * import { type AsyncMiddleware, session } from 'corral/session'
 *
 * export const middleware: AsyncMiddleware = session.koa()
 * ```
 */
export type AsyncMiddleware = (context: unknown, next: () => Promise<unknown>) => Promise<void>

/** A session for each request, until the middlewares below have returned. */
export function asyncMiddleware(): AsyncMiddleware {
  return async (_context, next) => {
    await runInSession(next)
  }
}

interface FastifyReplyLike {
  readonly raw: ServerResponseLike
}
type FastifyHook = (request: object, reply: FastifyReplyLike, done: () => void) => void

/**
 * The part of Fastify's instance that this plugin needs.
 * @example
 * ```ts
 * import { type FastifyLike, session } from 'corral/session'
 *
 * export const register = (app: FastifyLike) => session.fastify()(app, {}, () => {})
 * ```
 */
export interface FastifyLike {
  addHook(name: 'onRequest' | 'preValidation', hook: FastifyHook): unknown
}

/**
 * A plugin of Fastify.
 * @example
 * ```ts
 * import { type FastifyPlugin, session } from 'corral/session'
 *
 * export const plugin: FastifyPlugin = session.fastify()
 * ```
 */
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

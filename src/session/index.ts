import { expectFunction } from '../base/options.js'
import { currentSession, runInSession } from '../versions/session.js'
import { forget } from '../versions/version-check.js'
import { asyncMiddleware, express, fastify } from './frameworks.js'

export type { Session } from '../versions/session.js'
export type { CheckOptions, Version } from '../versions/version-check.js'
export type {
  AsyncMiddleware,
  ExpressMiddleware,
  FastifyLike,
  FastifyPlugin,
  ServerResponseLike,
} from './frameworks.js'
export {
  type InvalidateVersions,
  type Versioned,
  type VersionedFunction,
  type VersionedOptions,
  versioned,
} from './versioned.js'

/**
 * Spans, such as web requests, in which a version is read at most once.
 * @example
 * ```ts
 * import { session } from 'corral/session'
 *
 * await session.run(async () => {
 *   session.forget()
 * })
 * ```
 */
export const session = {
  /**
   * Runs something in a session, which ends when it returns or its promise settles. Within another one: in a new one.
   * @throws CorralError `ERR_OPTION` unless it is a function.
   */
  run: <R>(run: () => R): R => {
    expectFunction(run, 'the work of session.run()')
    return runInSession(run)
  },
  /** The session of the caller, if there is one. */
  current: currentSession,
  /**
   * The caller's session, or the one given, reads every version again, because it changed the data itself. Pass
   * an object that the option `session` returns, because only the caller knows it.
   * @throws CorralError `ERR_OPTION` for a session that is no object.
   */
  forget,
  /** For Express and servers of its shape: `app.use(session.express())`, after the parsers of bodies. */
  express,
  /** For Fastify: `app.register(session.fastify())`. */
  fastify,
  /** For Koa: `app.use(session.koa())`. */
  koa: asyncMiddleware,
  /** For Hono: `app.use(session.hono())`. */
  hono: asyncMiddleware,
} as const

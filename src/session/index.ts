import { expectFunction, rejectOptions } from '../base/options.js'
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
  express: withoutArguments('express', express),
  /** For Fastify: `app.register(session.fastify())`. */
  fastify: withoutArguments('fastify', fastify),
  /** For Koa: `app.use(session.koa())`. */
  koa: withoutArguments('koa', asyncMiddleware),
  /** For Hono: `app.use(session.hono())`. */
  hono: withoutArguments('hono', asyncMiddleware),
} as const

/** A framework that receives the factory in place of its middleware calls it for each request, which would then hang. */
function withoutArguments<Middleware>(name: string, make: () => Middleware): () => Middleware {
  return (...given: readonly unknown[]) => {
    if (given.length > 0)
      rejectOptions(
        `Expected session.${name}() to be called without arguments, got ${given.length}. Pass its result to the framework: session.${name}() and not session.${name}.`,
      )
    return make()
  }
}

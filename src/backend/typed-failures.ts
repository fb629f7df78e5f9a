import { CorralError, messageOf } from '../base/errors.js'
import { recovered } from '../base/maybe-promise.js'
import { aroundBackend } from './around.js'
import type { Backend } from './backend.js'

/** A chain whose foreign failures are one typed error each, with the foreign one as its cause. */
export function withTypedFailures<T>(next: Backend<T>): Backend<T> {
  const fail = (error: unknown): never => {
    throw backendError(next.name, error)
  }
  return aroundBackend(next, (_, run) => {
    try {
      return recovered(run(), fail)
    } catch (error) {
      return fail(error)
    }
  })
}

/** A foreign failure as a typed one. */
export function backendError(backend: string, error: unknown): CorralError {
  if (CorralError.is(error)) return error
  return new CorralError('ERR_BACKEND', `Backend '${backend}' failed: ${messageOf(error)}. See \`cause\`.`, {
    cause: error,
  })
}

import { CorralError } from './errors.js'
import { ignoreRejection, isPromise } from './maybe-promise.js'

/**
 * The result of a caller's function that must be synchronous. A promise would be taken for the result itself.
 * @throws CorralError `ERR_OPTION` for a promise.
 */
export function expectSync<V>(what: string, answer: V): V {
  if (!isPromise(answer)) return answer
  void ignoreRejection(answer)
  throw new CorralError(
    'ERR_OPTION',
    `Expected ${what} to answer at once, got a promise, which nobody can wait for here.`,
  )
}

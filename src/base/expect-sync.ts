import { CorralError } from './errors.js'
import { ignoreRejection, isPromise } from './maybe-promise.js'

/**
 * The answer of a function of the user's that nobody can wait for. A promise would be taken for the answer itself.
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

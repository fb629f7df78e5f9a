import { ignoreRejection, isPromise } from './maybe-promise.js'
import { rejectOptions } from './options.js'

/**
 * The result of a caller's function that must be synchronous. A promise would be taken for the result itself.
 * @throws CorralError `ERR_OPTION` for a promise.
 */
export function expectSync<V>(subject: string, returned: V): V {
  if (!isPromise(returned)) return returned
  void ignoreRejection(returned)
  rejectOptions(`Expected ${subject} to return at once, got a promise. Make the function synchronous.`)
}

/**
 * Data of a caller that is read at once. The properties of a promise would be read for those of the data.
 * @throws CorralError `ERR_OPTION` for a promise.
 */
export function expectAwaited(subject: string, data: unknown): void {
  if (!isPromise(data)) return
  void ignoreRejection(data)
  rejectOptions(`Expected ${subject}, got a promise. Await it first.`)
}

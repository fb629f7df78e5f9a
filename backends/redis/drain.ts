import { type Around, aroundBackend } from '../../src/backend/around.js'
import type { Backend } from '../../src/backend/backend.js'
import type { Bytes } from '../../src/backend/cached-value.js'
import { CorralError } from '../../src/base/errors.js'
import { isPromise } from '../../src/base/maybe-promise.js'
import { delay } from '../../src/base/timers.js'

/** ms between checks for operations that are under way. */
const PAUSE = 5

const UNCOUNTED: ReadonlySet<string> = new Set([
  ...['get', 'getMulti', 'held', 'ledger.read', 'settled'],
  // It waits for the others.
  'close',
])

/**
 * Lets operations end that began before `close()`, all their commands included. An operation of several commands is counted.
 * A read is not, since counting would cost it more than the rest: `isBusy` knows of its one command.
 * @param isBusy whether any command is under way.
 */
export function closable(next: Backend<Bytes>, isBusy: () => boolean) {
  let closed = false
  let begun = 0
  const refused = () =>
    Promise.reject(new CorralError('ERR_CLOSED', 'This Redis backend was closed. Create another one.'))
  const around: Around = (operation, run) => {
    if (closed && operation !== 'close' && operation !== 'settled') return refused()
    const work = run()
    if (UNCOUNTED.has(operation) || !isPromise(work)) return work
    begun++
    const ended = () => void begun--
    work.then(ended, ended)
    return work
  }
  return {
    backend: {
      ...aroundBackend(next, around),
      // The one operation that is not counted and costs less than a function around it.
      get: (key: string) => (closed ? refused() : next.get(key)),
    },
    /** Refuses operations that begin from now on. */
    shut() {
      closed = true
    },
    /** Resolves when no earlier operation is under way any more. */
    async idle() {
      // A reply that has come may be the one that the next command of its operation waits for: that one is sent by then.
      do await delay(begun > 0 || isBusy() ? PAUSE : 0)
      while (begun > 0 || isBusy())
    },
  }
}

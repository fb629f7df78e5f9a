import type { BackendSpec } from '../../src/backend/backend.js'
import type { Bytes } from '../../src/backend/cached-value.js'
import { CorralError } from '../../src/base/errors.js'
import { isPromise, type MaybePromise } from '../../src/base/maybe-promise.js'
import { delay } from '../../src/base/timers.js'
import type { ClockedLedger } from '../../src/ledger/clocked-ledger.js'

type Operations = Required<
  Pick<
    BackendSpec<Bytes>,
    | 'get'
    | 'getMulti'
    | 'set'
    | 'setMulti'
    | 'delete'
    | 'deleteMulti'
    | 'acquire'
    | 'renew'
    | 'release'
    | 'held'
  >
> & { readonly ledger: ClockedLedger }

export interface Drain {
  readonly operations: Operations
  /** Refuses later calls. */
  shut(): void
  /** Resolves when nothing that began before is under way any more. */
  idle(): Promise<void>
}

/** ms between checks of calls under way. */
const LOOK = 5

/**
 * Lets operations end that began before `close()`, all their commands included. Those that consist of more than one are
 * counted. Reads are not, since counting would cost them more than all else here: whether one of their commands is under
 * way says it as well.
 * @param busy whether any command is under way.
 */
export function closable(on: Operations, busy: () => boolean): Drain {
  let closed = false
  let begun = 0
  const refused = () =>
    Promise.reject(new CorralError('ERR_CLOSED', 'This Redis backend was closed. Make another one.'))

  const uncounted =
    <A extends unknown[], R>(operation: (...args: A) => MaybePromise<R>) =>
    (...args: A): MaybePromise<R> =>
      closed ? refused() : operation(...args)
  const counted =
    <A extends unknown[], R>(operation: (...args: A) => MaybePromise<R>) =>
    (...args: A): MaybePromise<R> => {
      if (closed) return refused()
      const work = operation(...args)
      if (!isPromise(work)) return work
      begun++
      const ended = () => void begun--
      work.then(ended, ended)
      return work
    }

  const { ledger } = on
  return {
    operations: {
      get: (key) => (closed ? refused() : on.get(key)),
      getMulti: uncounted(on.getMulti),
      held: uncounted(on.held),
      set: counted(on.set),
      setMulti: counted(on.setMulti),
      delete: counted(on.delete),
      deleteMulti: counted(on.deleteMulti),
      acquire: counted(on.acquire),
      renew: counted(on.renew),
      release: counted(on.release),
      ledger: {
        ...ledger,
        read: (clock, names) => (closed ? refused() : ledger.read(clock, names)),
        judge: (clock, snapshot) => (closed ? refused() : ledger.judge(clock, snapshot)),
        now: counted(ledger.now),
        invalidate: counted(ledger.invalidate),
      },
    },
    shut() {
      closed = true
    },
    async idle() {
      // An answer that has come may be what the next command of its operation waits for: that one is sent by then.
      do await delay(begun > 0 || busy() ? LOOK : 0)
      while (begun > 0 || busy())
    },
  }
}

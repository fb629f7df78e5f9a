import { report } from '../base/diagnostics.js'
import { isPromise } from '../base/maybe-promise.js'
import { expectFunction, expectOneOf } from '../base/options.js'
import { runDetached } from '../creation/renewal.js'

/**
 * May be asynchronous. No caller waits for it; its failure is reported on the `failure` channel.
 * @example
 * ```ts
 * import type { Invalidation, Listener } from 'corral'
 *
 * export const log: Listener<Invalidation> = ({ what, names }) => console.log(what, names)
 * ```
 */
export type Listener<E> = (event: E) => unknown

export interface Emitter<Events> {
  /** @throws CorralError `ERR_OPTION` for an unknown event, or a listener that is no function. */
  on<K extends keyof Events>(event: K, listener: Listener<Events[K]>): () => void
  emit<K extends keyof Events>(event: K, detail: Events[K]): void
  readonly busy: boolean
}

/** Listeners of some events, kept apart from each other: one that throws, rejects or hangs is no concern of the others. */
export function emitter<Events>(
  where: string,
  known: readonly (keyof Events & string)[],
  region?: string,
): Emitter<Events> {
  const listeners = new Map<keyof Events, Set<{ readonly listener: Listener<never> }>>()
  const failed = (event: keyof Events) => (error: unknown) =>
    report('failure', () => ({ where: `listener of '${String(event)}'`, region, error }))
  return {
    get busy() {
      return listeners.size > 0
    },
    on(event, listener) {
      expectOneOf(event, where, known)
      expectFunction(listener, 'a listener')
      const entry = { listener }
      const set = listeners.get(event) ?? new Set()
      listeners.set(event, set.add(entry))
      return () => {
        if (set.delete(entry) && set.size === 0 && listeners.get(event) === set) listeners.delete(event)
      }
    },
    emit(event, detail) {
      const set = listeners.get(event)
      if (set === undefined) return
      // All listeners get this object, and a relay is one of them.
      Object.freeze(detail)
      // No call waits for a listener, so it is part of no creation. Listeners that join or leave meanwhile change nothing.
      runDetached(() => {
        for (const { listener } of [...set])
          try {
            const result = listener(detail as never) as unknown
            if (isPromise(result)) Promise.resolve(result).catch(failed(event))
          } catch (error) {
            failed(event)(error)
          }
      })
    },
  }
}

import { asyncContext, type ContextFrame, innermostActive } from '../base/async-context.js'
import { processGlobal } from '../base/process-global.js'
import { currentScope, leaveScopes, type Scope } from './scope.js'
import { leaveTransactions } from './transaction.js'

/** Keys that are being renewed because one of their dependencies is renewed. */
interface Renewal extends ContextFrame<Renewal> {
  readonly by: Scope | undefined
  readonly of: object
  readonly keys: Set<string>
}

type Leave = <R>(run: () => R) => R

const renewals = asyncContext<Renewal>('renewals')
const stay: Leave = (run) => run()
/** How to leave a session: this room knows no sessions, so the first session of the process supplies it. */
const leaving = processGlobal('leave', () => ({ session: stay }))

/**
 * Runs a renewal outside of the creation that requests it: the creation does not read the renewed values. Renewals may
 * request each other in a circle, so `left` returns those of its keys that no renewal around it renews already.
 */
export function runRenewal<R>(
  of: object,
  run: (left: (keys: readonly string[]) => readonly string[]) => Promise<R>,
): Promise<R> {
  const parent = renewals.current()
  const renewal = { parent, by: waitingCreation(), of, keys: new Set<string>(), over: false }
  const left = (keys: readonly string[]): readonly string[] => {
    const open = keys.filter((key) => {
      let outer = parent
      while (outer && !(outer.of === of && outer.keys.has(key))) outer = innermostActive(outer.parent)
      return !outer
    })
    open.forEach((key) => renewal.keys.add(key))
    return open
  }
  return leaveCreations(() => renewals.during(renewal, () => run(left)))
}

/** Runs work that no caller waits for: outside of every creation, session and transaction, which might be rolled back. */
export function runDetached<R>(run: () => R): R {
  return leaveTransactions(() => leaveCreations(run))
}

/** The innermost creation that waits for the caller, as its creator or through a renewal. */
export function waitingCreation(): Scope | undefined {
  return currentScope() ?? renewingCreation()
}

/** The creation that requested the renewal around the caller. */
export function renewingCreation(): Scope | undefined {
  return renewals.current()?.by
}

/** Called by the first session of this process. */
export function whenLeavingSession(leave: Leave): void {
  leaving.session = leave
}

function leaveCreations<R>(run: () => R): R {
  return leaving.session(() => leaveScopes(() => renewals.leave(run)))
}

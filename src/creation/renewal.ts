import { AsyncResource } from 'node:async_hooks'
import { asyncContext, type ContextFrame, innermostActive } from '../base/async-context.js'
import { processGlobal } from '../base/process-global.js'
import { currentScope, leaveScopes, type Scope } from './scope.js'
import { leaveTransactions } from './transaction.js'

/** Keys that are being renewed because one of their dependencies is renewed. */
interface Renewal extends ContextFrame<Renewal> {
  readonly by: Scope | undefined
  readonly of: object
  readonly keys: Set<string>
  /** Starts the renewal of a key that waits for its turn. */
  start: (key: string) => void
}

/** A renewal, as the work that it consists of sees it. */
export interface RenewalWork {
  /** Those of the keys that no renewal around this one renews. */
  left(keys: readonly string[]): readonly string[]
  /** Registers a function that starts the renewal of a key, for creators of this renewal that need its value. */
  onDemand(start: (key: string) => void): void
}

type Leave = <R>(run: () => R) => R

const renewals = asyncContext<Renewal>('renewals')
const stay: Leave = (run) => run()
/** How to leave a session: this room knows no sessions, so the first session of the process supplies it. */
const leaving = processGlobal('leave', () => ({ session: stay }))

/**
 * Runs a renewal outside of the creation that requests it: the creation does not read the renewed values. Renewals may
 * request each other in a circle: hence `left`.
 */
export function runRenewal<R>(of: object, run: (work: RenewalWork) => Promise<R>): Promise<R> {
  const parent = renewals.current()
  const start: Renewal['start'] = () => {}
  const renewal = { parent, by: waitingCreation(), of, keys: new Set<string>(), start, over: false }
  const onDemand: RenewalWork['onDemand'] = (demanded) => {
    // Not in the context of the creator that needs the value: it would be part of that creation.
    renewal.start = AsyncResource.bind(demanded)
  }
  const left = (keys: readonly string[]): readonly string[] => {
    const open = keys.filter((key) => {
      let outer = parent
      while (outer && !(outer.of === of && outer.keys.has(key))) outer = innermostActive(outer.parent)
      return !outer
    })
    open.forEach((key) => renewal.keys.add(key))
    return open
  }
  return leaveCreations(() => renewals.during(renewal, () => run({ left, onDemand })))
}

/**
 * For the creators of a renewal, which need new values of each other's keys: returns a function that starts the renewal of
 * a key if it waits for its turn. `undefined` outside of renewals.
 */
export function renewalOnDemand(of: object): ((key: string) => void) | undefined {
  const current = renewals.current()
  if (current === undefined) return undefined
  return (key) => {
    let renewal: Renewal | undefined = current
    for (; renewal !== undefined; renewal = innermostActive(renewal.parent))
      if (renewal.of === of && renewal.keys.has(key)) renewal.start(key)
  }
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

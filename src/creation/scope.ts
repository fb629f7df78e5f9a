import { asyncContext, type ContextFrame } from '../base/async-context.js'
import type { DependencyCollector } from './collector.js'
import { currentTransaction, recordTransactionRead } from './transaction.js'
import type { Creation } from './types.js'

/** One creation as a node of the graph of waits between the creations of this process. */
export interface CreationNode {
  /** The dogpile, and the keys that it creates, to recognise a creation that asks for itself. */
  readonly owner: object
  readonly keys: readonly string[]
  /** Without a lease, because waiting would have closed a cycle. */
  readonly alone: boolean
  /** The current waits of code inside this creation; an entry per wait. Absent before the first. */
  waits: Set<{ readonly on: CreationNode }> | undefined
}

/** A creation in progress, as the code that runs inside it sees it. */
export interface Scope extends ContextFrame<Scope> {
  readonly node: CreationNode
  /** Collects the dependencies of the creation; absent where no chain tracks them. */
  collector: DependencyCollector | undefined
  /** Called when an untracked creation reads a value whose dependencies its readers would have needed. */
  markUntracked: (() => void) | undefined
  /** The creation as its creator sees it. */
  creation?: Creation | undefined
  /** Passes on what this creation has learnt by now, for a caller that gets no value of it. Absent before its creator runs. */
  handUp?: HandUp | undefined
  /** The creation that requested the renewal around this scope. It waits for this one without reading its value. */
  readonly by?: Scope | undefined
}

/** @param into - the scope of the creation around the caller */
export type HandUp = (into: object) => void

/** What the creation around a call learns of its failures. */
export interface CallFailures {
  /** Another creation gives the call no value. */
  readonly onFailed: (error: unknown, handUp: HandUp | undefined) => void
  /** The call ends with an error. If that of no creation, the value that it did not get may depend on anything. */
  readonly onEnd: (error: unknown) => void
}

const scopes = asyncContext<Scope>('scopes')

/** The innermost creation around the caller. */
export const currentScope = scopes.current

/** A scope that its creation ends. */
export type OpenScope = Scope & { over: boolean }

/** Runs all of a creation inside its scope, which is over when the returned function is called. */
export function beginScope<R>(scope: OpenScope, run: () => R): R {
  scopes.begin()
  return scopes.enter(scope, run)
}

/** Ends a scope that was begun. */
export function endScope(scope: OpenScope): void {
  scope.over = true
  scopes.end()
}

/** Runs work outside of every creation. */
export const leaveScopes = scopes.leave

/**
 * Adds a version to the dependencies of the creation around the caller.
 * @param name - `undefined`: no name can ask for the version later, so the creation must not be stored
 * @param why - the reason that is reported in that case
 */
export function handUpVersion(name: string | undefined, why: string): void {
  const scope = currentScope()
  if (scope === undefined) return
  if (scope.collector === undefined || name === undefined) forbidTracking(scope, why)
  else {
    recordTransactionRead(currentTransaction(), scope.collector)
    scope.collector.add([name])
  }
}

/** Why a creation is not stored if a part of it failed early. */
export const UNKNOWN = 'a part failed before it knew its dependencies'

/** Keeps a creation, or the nearest tracked one around it, from being stored: an invalidation would not reach it. */
export function forbidTracking(scope: Scope, why: string): void {
  let tracked: Scope | undefined = scope
  if (scope.collector === undefined) scope.markUntracked?.()
  while (tracked !== undefined && tracked.collector === undefined) tracked = tracked.parent
  tracked?.collector?.forbidStoring(why)
}

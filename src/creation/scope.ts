import { asyncContext, type ContextFrame, innermostActive } from '../base/async-context.js'
import { processGlobal } from '../base/process-global.js'
import type { DependencyCollector } from './collector.js'

/** One creation as a node of the graph of who waits for whom in this process. */
export interface CreationNode {
  /** The owner and the keys that it works for, to recognise a creation that asks for itself. */
  readonly owner: object
  readonly keys: readonly string[]
  /** Without a lease, because waiting would have closed a cycle. */
  readonly alone: boolean
  /** What code inside this creation waits for right now; an entry per wait. */
  readonly waits: Set<{ readonly on: CreationNode }>
}

export function creationNode(owner: object, keys: readonly string[], alone = false): CreationNode {
  return { owner, keys, alone, waits: new Set() }
}

/** A creation in progress, as the code that runs inside it sees it. */
export interface Scope extends ContextFrame<Scope> {
  readonly node: CreationNode
  /** What the creation is made from; absent where nothing tracks it. */
  readonly collector: DependencyCollector | undefined
  /** Is told when something went into a creation that nothing tracks, and would have been tracked. */
  readonly markUntracked?: () => void
  /** The creation that asked for the renewal which this one is part of, and waits for it, but is not made from it. */
  readonly by?: Scope | undefined
}

/** Values that are being renewed because something that they are made from is to be made anew. */
interface Renewal extends ContextFrame<Renewal> {
  readonly by: Scope | undefined
  readonly of: object
  readonly keys: Set<string>
}

/** A transaction that `afterCommit` runs. */
export interface Transaction extends ContextFrame<Transaction> {
  /** What was made from what it has made, and must not be kept if it is rolled back. */
  readonly into: { add(collector: DependencyCollector): void }
}

type Leave = <R>(run: () => R) => R

const stay: Leave = (run) => run()
/** How to leave a session, of which nothing is known here. */
const leaving = processGlobal('leave', () => ({ session: stay }))
const scopes = asyncContext<Scope>('scopes')
const renewals = asyncContext<Renewal>('renewals')
const transactions = asyncContext<Transaction>('transactions')

/** The innermost creation around the caller. */
export const currentScope = scopes.current

/** Runs a creator in a scope of this run alone: several may be the same work, as a batch whose rest is made key by key. */
export function runInScope<R>(node: CreationNode, run: () => R | Promise<R>): Promise<R> {
  const scope = {
    parent: currentScope(),
    by: renewals.current()?.by,
    node,
    collector: undefined,
    over: false,
  }
  return scopes.during(scope, run)
}

/** Runs a creator inside its scope, where `collector` collects what it makes is made from. */
export function runCollecting<R>(
  scope: Scope,
  collector: DependencyCollector | undefined,
  markUntracked: () => void,
  run: () => R,
): R {
  const inner: Scope = {
    parent: scope,
    node: scope.node,
    collector,
    markUntracked,
    get over() {
      return scope.over
    },
  }
  return scopes.enter(inner, run)
}

/** Runs what nobody waits for, and so is part of no creation and of no transaction, which might be rolled back. */
export function runDetached<R>(run: () => R): R {
  return transactions.leave(() => leaveScope(run))
}

/** Runs what is part of no creation; its session is its own. */
function leaveScope<R>(run: () => R): R {
  return leaving.session(() => scopes.leave(() => renewals.leave(run)))
}

/**
 * Runs a renewal, which is part of no creation that asks for it: that would be made from what it renews. Renewals may ask
 * for each other in a circle, so `left` tells which keys none of those around it renews already.
 */
export function runRenewal<R>(
  of: object,
  run: (left: (keys: readonly string[]) => readonly string[]) => Promise<R>,
): Promise<R> {
  const parent = renewals.current()
  const renewal = { parent, by: waiting(), of, keys: new Set<string>(), over: false }
  const left = (keys: readonly string[]): readonly string[] => {
    const open = keys.filter((key) => {
      let outer = parent
      while (outer && !(outer.of === of && outer.keys.has(key))) outer = innermostActive(outer.parent)
      return !outer
    })
    open.forEach((key) => renewal.keys.add(key))
    return open
  }
  return leaveScope(() => renewals.during(renewal, () => run(left)))
}

/** The transaction that the caller is in: what it reads may be older than the latest commit, or never be committed. */
export const currentTransaction = transactions.current

/** Notes what goes from a transaction, and those around it, into a creation, which may be outside of them. */
export function recordTransactionRead(
  transaction: Transaction | undefined,
  collector: DependencyCollector,
): void {
  for (let from = transaction; from !== undefined; from = from.parent)
    if (from.over) collector.forbidStoring(UNDONE)
    else from.into.add(collector)
}

/** Why nothing is kept of a transaction whose end is not a commit, or not known. */
export const UNDONE = 'it was made in a transaction that was rolled back or left'

/** The creation that waits for what the caller waits for. */
function waiting(): Scope | undefined {
  return currentScope() ?? renewals.current()?.by
}

/** All creations under way that wait for the caller. */
function enclosingCreations(): Scope[] {
  const found: Scope[] = []
  for (let scope = waiting(); scope !== undefined; scope = scope.parent ?? scope.by)
    if (!scope.over) found.push(scope)
  return found
}

/** Told by the first session of this process. */
export function whenLeavingSession(leave: Leave): void {
  leaving.session = leave
}

/** Notes that the creation that waits for the caller, if there is one, waits for `on`; the answer ends the wait. */
export function addWait(on: CreationNode): (() => void) | undefined {
  const waits = waiting()?.node.waits
  if (waits === undefined) return undefined
  const edge = { on }
  waits.add(edge)
  return () => waits.delete(edge)
}

/** Whether the caller, waiting for `target`, would wait for itself. */
export function wouldDeadlock(target: CreationNode): boolean {
  const asking = waiting()?.node
  if (asking === undefined) return false
  const seen = new Set<CreationNode>()
  const open = [target]
  for (let work = open.pop(); work !== undefined; work = open.pop()) {
    if (work === asking) return true
    if (seen.has(work)) continue
    seen.add(work)
    for (const { on } of work.waits) open.push(on)
  }
  return false
}

/** Whether the caller is part of a creation of the same key. */
export function isCreating(owner: object, key: string): boolean {
  return enclosingCreations().some(({ node }) => node.owner === owner && node.keys.includes(key))
}

/** Whether a creation without a lease is under way around the caller for the same key: its creator asks for itself. */
export function isCreatingUnshared(owner: object, key: string): boolean {
  return enclosingCreations().some(
    ({ node }) => node.alone && node.owner === owner && node.keys.includes(key),
  )
}

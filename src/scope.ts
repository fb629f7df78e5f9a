import { AsyncLocalStorage } from 'node:async_hooks'
import type { Gathering } from './gathering.js'
import { onePerProcess } from './one-per-process.js'

/** One creation as a node of the graph of who waits for whom in this process. */
export interface Work {
  /** The pile and the keys that it works for, to recognise a creation that asks for itself. */
  readonly pile: object
  readonly keys: readonly string[]
  /** Without a lease, because waiting would have closed a cycle. */
  readonly alone: boolean
  /** What code inside this creation waits for right now; an entry per wait. */
  readonly waits: Set<{ readonly on: Work }>
}

export function workOf(pile: object, keys: readonly string[], alone = false): Work {
  return { pile, keys, alone, waits: new Set() }
}

/** A creation in progress, as the code that runs inside it sees it. */
export interface Scope {
  readonly parent: Scope | undefined
  readonly work: Work
  /** What the creation is made from; absent where nothing tracks it. */
  readonly gathering: Gathering | undefined
  /** Of this run of a creator alone, while several may be the same work: a batch whose rest is made key by key. */
  readonly span: Span
}

/** From the start of a creator until it settles. What it leaves behind, such as a timer, is part of it no longer. */
export interface Span {
  over: boolean
}

const shared = onePerProcess('scopes', () => ({
  scopes: new AsyncLocalStorage<Scope>(),
  running: 0,
  leaveSession: <R>(run: () => R): R => run(),
}))
const { scopes } = shared

/** A creator is about to run. */
export function beginSpan(): Span {
  shared.running++
  return { over: false }
}

/**
 * The creator has settled. After the last one nobody is inside any scope, and the storage is turned off: before Node 24
 * it makes every promise of the process two to four times as expensive while it is on.
 */
export function endSpan(span: Span): void {
  span.over = true
  if (--shared.running === 0) scopes.disable()
}

/** The innermost creation around the caller. Costs nothing while none is under way in this process. */
export function currentScope(): Scope | undefined {
  let scope = shared.running > 0 ? scopes.getStore() : undefined
  while (scope?.span.over) scope = scope.parent
  return scope
}

/** Runs a creator inside its scope. */
export function enterScope<R>(scope: Scope, run: () => R): R {
  return scopes.run(scope, run)
}

/** Runs what nobody waits for, and so is part of no creation; its session is its own. */
export function leaveScope<R>(run: () => R): R {
  return shared.leaveSession(() => (shared.running > 0 ? scopes.exit(run) : run()))
}

/** Told by the first session of this process. */
export function whenLeaving(leave: typeof shared.leaveSession): void {
  shared.leaveSession = leave
}

/** Notes that the creation around the caller, if there is one, waits for `on`; the answer ends the wait. */
export function noteWait(on: Work): (() => void) | undefined {
  const waits = currentScope()?.work.waits
  if (waits === undefined) return undefined
  const edge = { on }
  waits.add(edge)
  return () => waits.delete(edge)
}

/** Whether the caller, waiting for `target`, would wait for itself. */
export function closesCycle(target: Work): boolean {
  const asking = currentScope()?.work
  if (asking === undefined) return false
  const seen = new Set<Work>()
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
export function makesAlready(pile: object, key: string): boolean {
  for (let scope = currentScope(); scope !== undefined; scope = scope.parent)
    if (scope.work.pile === pile && scope.work.keys.includes(key)) return true
  return false
}

/** Whether a creation without a lease is under way around the caller for the same key: its creator asks for itself. */
export function repeatsItself(pile: object, key: string): boolean {
  for (let scope = currentScope(); scope !== undefined; scope = scope.parent)
    if (scope.work.alone && scope.work.pile === pile && scope.work.keys.includes(key)) return true
  return false
}

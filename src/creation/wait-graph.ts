import { renewingCreation, waitingCreation } from './renewal.js'
import { type CreationNode, currentScope, type OpenScope } from './scope.js'

/** A node for a creation that begins. */
export function creationNode(owner: object, keys: readonly string[], alone = false): CreationNode {
  return { owner, keys, alone, waits: undefined }
}

/** The scope of a creator. Several scopes may share a node, such as a batch whose rest is created key by key. */
export function scopeOf(node: CreationNode): OpenScope {
  return {
    parent: currentScope(),
    by: renewingCreation(),
    node,
    collector: undefined,
    markUntracked: undefined,
    creation: undefined,
    handUp: undefined,
    over: false,
  }
}

/** Records that the creation that waits for the caller, if any, now waits for `on`. The returned function ends the wait. */
export function addWait(on: CreationNode): (() => void) | undefined {
  const node = waitingCreation()?.node
  if (node === undefined) return undefined
  const edge = { on }
  const waits = (node.waits ??= new Set())
  waits.add(edge)
  return () => waits.delete(edge)
}

/** Whether the caller, waiting for `target`, would wait for itself. */
export function wouldDeadlock(target: CreationNode): boolean {
  const asking = waitingCreation()?.node
  if (asking === undefined) return false
  const seen = new Set<CreationNode>()
  const open = [target]
  for (let work = open.pop(); work !== undefined; work = open.pop()) {
    if (work === asking) return true
    if (seen.has(work)) continue
    seen.add(work)
    for (const { on } of work.waits ?? []) open.push(on)
  }
  return false
}

/**
 * Whether the caller is part of a creation of the same key.
 * @param unshared - only if that creation has no lease, so that its creator asks for itself
 */
export function isCreating(owner: object, key: string, unshared = false): boolean {
  for (let scope = waitingCreation(); scope !== undefined; scope = scope.parent ?? scope.by) {
    const { node } = scope
    if (scope.over || node.owner !== owner || !node.keys.includes(key)) continue
    if (node.alone || !unshared) return true
  }
  return false
}

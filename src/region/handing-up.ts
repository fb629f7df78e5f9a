/** A call that fails inside a creation: that creation may go on, so it depends on everything that the call had learnt. */
import { innermostActive } from '../base/async-context.js'
import { type CallFailures, currentScope, forbidTracking, type HandUp, UNKNOWN } from '../creation/scope.js'
import type { RegionState } from './state.js'

/** Those of a call that begins now. `undefined` outside of creations. */
export function callFailures({ tracker }: RegionState): CallFailures | undefined {
  const around = currentScope()
  if (around === undefined) return undefined
  let last: { readonly error: unknown } | undefined
  // The flights of one creation end one by one, with the same names.
  const told = new Set<HandUp | undefined>()
  const onFailed: CallFailures['onFailed'] = (error, handUp) => {
    last = { error }
    const into = innermostActive(around)
    if (into === undefined || told.has(handUp)) return
    told.add(handUp)
    if (handUp !== undefined) handUp(into)
    else if (tracker?.tracksDependencies === true) forbidTracking(into, UNKNOWN)
  }
  return {
    onFailed,
    onEnd(error) {
      if (last === undefined || last.error !== error) onFailed(error, undefined)
    },
  }
}

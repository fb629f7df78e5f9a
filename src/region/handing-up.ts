/** A call that fails inside a creation: that creation may go on, so it depends on everything that the call had learnt. */
import { innermostActive } from '../base/async-context.js'
import { type CallFailures, currentScope, forbidTracking, UNKNOWN } from '../creation/scope.js'
import type { RegionState } from './state.js'

/** Those of a call that begins now. `undefined` outside of creations. */
export function callFailures({ tracker }: RegionState): CallFailures | undefined {
  const around = currentScope()
  if (around === undefined) return undefined
  let last: { readonly error: unknown } | undefined
  const onFailed: CallFailures['onFailed'] = (error, handUp) => {
    last = { error }
    const into = innermostActive(around)
    if (into === undefined) return
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

/** A call that fails inside a creation: that creation may go on, so it depends on everything that the call had learnt. */
import { innermostActive } from '../base/async-context.js'
import { currentScope, forbidTracking, type HandUp, UNKNOWN } from '../creation/scope.js'
import type { RegionState } from './state.js'

/** The callback of a call inside a creation, for another creation that gives it no value. */
export function onFailedOf({ tracker }: RegionState): ((handUp: HandUp | undefined) => void) | undefined {
  const around = currentScope()
  return (
    around &&
    ((handUp) => {
      const into = innermostActive(around)
      if (into === undefined) return
      if (handUp !== undefined) handUp(into)
      else if (tracker?.tracksDependencies === true) forbidTracking(into, UNKNOWN)
    })
  )
}

import { afterAll } from 'vitest'
import { json } from '../../proxies/json.js'
import { prefix } from '../../proxies/prefix.js'
import { type Backend, type Bytes, wrap } from '../../src/index.js'
import {
  type Exploration,
  keepsOrderOfInvalidations,
  losesNoInvalidation,
} from './no-invalidation-is-lost.js'
import { runsOneCreator } from './one-creator.js'
import { type Step, sampleStore } from './real-store.js'
import { stepped } from './stepped.js'

/**
 * The searches of regions, over a real store. An operation is a step.
 * @param processes - three backends, as processes have them that share the store
 * @param samples - orders of each scenario
 */
export function searchRegions(
  kind: string,
  processes: () => readonly Backend<Bytes>[],
  samples: number,
): void {
  let [runs, scenarios] = [0, 0]
  afterAll(() =>
    console.log(`[interleavings] regions over ${kind}: ${runs} schedules of ${scenarios} scenarios, 0 stale`),
  )
  const chain = ({ step }: { readonly step: Step }, process = 0) =>
    stepped({ step }, wrap(processes()[process % 3] as Backend<Bytes>, json(), prefix(`${runs} `)))
  const all: Exploration = (scenario, times = 1) =>
    sampleStore(
      (step) => {
        runs++
        return scenario({ step })
      },
      samples * times,
      ++scenarios,
    )
  losesNoInvalidation(kind, chain, all)
  keepsOrderOfInvalidations(kind, chain, all)
  runsOneCreator(
    kind,
    (schedule) => {
      let opened = 0
      return () => chain(schedule, opened++)
    },
    all,
  )
}

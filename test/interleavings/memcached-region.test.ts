import { afterAll } from 'vitest'
import { json } from '../../proxies/json.js'
import { prefix } from '../../proxies/prefix.js'
import { type Backend, type Bytes, wrap } from '../../src/index.js'
import { withMemcached } from '../backends/memcached/start.js'
import { LONG } from '../support/long.js'
import {
  type Exploration,
  keepsOrderOfInvalidations,
  losesNoInvalidation,
} from './no-invalidation-is-lost.js'
import { type Opener, runsOneCreator } from './one-creator.js'
import { type Step, sampleStore } from './real-store.js'
import { stepped } from './stepped.js'

const SAMPLES = LONG ? 1_500 : 30

withMemcached('every order of the operations of regions over memcached', (bench) => {
  let shared: Backend<Bytes> | undefined
  let runs = 0
  let scenarios = 0
  afterAll(() =>
    console.log(
      `[interleavings] regions over memcached: ${runs} schedules of ${scenarios} scenarios, 0 stale`,
    ),
  )
  const chain = ({ step }: { readonly step: Step }) => {
    shared ??= bench().open({ timeout: '10s' })
    return stepped({ step }, wrap(shared, json(), prefix(`${runs} `)))
  }
  const all: Exploration = (scenario, times = 1) =>
    sampleStore(
      (step) => {
        runs++
        return scenario({ step })
      },
      SAMPLES * times,
      ++scenarios,
    )
  losesNoInvalidation('memcached', chain, all)
  keepsOrderOfInvalidations('memcached', chain, all)

  const others: Backend<Bytes>[] = []
  const processes: Opener = ({ step }) => {
    while (others.length < 3) others.push(bench().open({ timeout: '10s' }))
    let opened = 0
    return () => stepped({ step }, wrap(others[opened++ % 3] as Backend<Bytes>, json(), prefix(`${runs} `)))
  }
  runsOneCreator('memcached', processes, all)
})

import { withMemcached } from '../backends/memcached/start.js'
import { LONG } from '../support/long.js'
import { searchRegions } from './regions-over-store.js'

withMemcached('every order of the operations of regions over memcached', (bench) => {
  let opened: ReturnType<ReturnType<typeof bench>['open']>[] | undefined
  const processes = () => (opened ??= [0, 1, 2].map(() => bench().open({ timeout: '10s' })))
  searchRegions('memcached', processes, LONG ? 1_500 : 30)
})

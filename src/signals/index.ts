export { type CacheResultsOptions, cacheResults } from '../functions/cache-results.js'
export {
  type Broker,
  type BrokerChange,
  type BrokerEvents,
  type BrokerOptions,
  broker,
  type ChangeOptions,
  type DeletionOptions,
  type ItemOf,
} from './broker.js'
export {
  type Bus,
  type BusListener,
  type BusResumption,
  type LocalBus,
  localBus,
  type Subscription,
} from './bus.js'
export { drainRefreshes, refreshAfterCommit } from './refresh.js'
export { type Relay, type RelayOptions, relay } from './relay.js'
export { isNotInvalidated, type NotInvalidated } from './settle.js'
export {
  afterCommit,
  beginTransaction,
  type InvalidateOptions,
  insideTransaction,
  invalidateAfterCommit,
  type OpenTransaction,
  type TransactionOptions,
} from './transactions.js'

export type {
  Backend,
  BackendSpec,
  LeaseReach,
  Outcome,
  Representation,
  Write,
  WriteOptions,
} from './backend/backend.js'
export {
  type Bytes,
  type CachedValue,
  type Metadata,
  NO_VALUE,
  type NoValue,
} from './backend/cached-value.js'
export { defineBackend } from './backend/define-backend.js'
export { delegate, type Overrides } from './backend/delegate.js'
export type { Acquired, FailureOptions, LeaseOperations, PlainMutex } from './backend/lease.js'
export type { Tracker } from './backend/tracker.js'
export type { Clock } from './base/clock.js'
export { type CreationTrace, diagnostics, type Messages } from './base/diagnostics.js'
export { type Duration, duration } from './base/duration.js'
export { CorralError, type CorralErrorCode } from './base/errors.js'
export type { MaybePromise } from './base/maybe-promise.js'
export { intercept, type Operation, type OperationName } from './chain/intercept.js'
export { sha1, sha256, whenLongerThan } from './chain/manglers.js'
export { type KeyInverse, type KeyMangler, mapKeys } from './chain/map-keys.js'
export { mapValues } from './chain/map-values.js'
export type { BackendProxy, Codec, TransparentProxy } from './chain/proxy.js'
export { wrap } from './chain/wrap.js'
export { currentCreation } from './creation/current-creation.js'
export type { CreateOptions, Creation, Creator, MultiCreator, ServingOptions } from './creation/types.js'
export { dep } from './dependencies/dep.js'
export { type DependsOnOptions, dependsOn } from './dependencies/depends-on.js'
export type {
  Change,
  Condition,
  DescribeOptions,
  Invalidates,
  Scopes,
  ScopesOptions,
  Signature,
} from './dependencies/scopes.js'
export * from './dogpile/runner.js'
export type { Listener } from './events/emitter.js'
export type { MissedEvents } from './events/event-source.js'
export type { Invalidation, RegionEvents } from './events/invalidation-events.js'
export { methodOf } from './functions/cached-method.js'
export {
  type FunctionKeyGenerator,
  type FunctionMultiKeyGenerator,
  functionKeyGenerator,
  functionMultiKeyGenerator,
  type KeyPart,
  optionsKeyGenerator,
} from './functions/keys.js'
export type {
  CachedFunction,
  CachedMapFunction,
  CachedMultiFunction,
  CacheMultiOnArguments,
  CacheMultiOptions,
  CacheOnArguments,
  CacheOptions,
  CallOptions,
  Invalidate,
  ResultLifetime,
  SetOutcome,
} from './functions/types.js'
export { type EpochStore, epochLedger } from './ledger/epoch-ledger.js'
export type {
  Freshness,
  InvalidationMode,
  InvalidationReason,
  Ledger,
  LedgerReading,
  Stamp,
} from './ledger/ledger.js'
export { memoryLedger } from './ledger/memory-ledger.js'
export type { IdPart } from './ledger/names.js'
export type { DependencyGroup, DependencySnapshot, LedgerTime } from './ledger/snapshot.js'
export { makeRegion } from './region/region.js'
export { localInvalidation, type RegionInvalidator } from './region/region-invalidator.js'
export type { ReadStats, RegionStats } from './region/stats.js'
export type * from './region/types.js'
export type { SettingKind, Settings } from './settings/chain.js'
export { registerBackend, registerProxy } from './settings/registry.js'
export { defineCodec, type PayloadCodec } from './wire/codec.js'

export type {
  Backend,
  BackendSpec,
  LeaseReach,
  Outcome,
  Representation,
  Write,
  WriteOptions,
} from './backend.js'
export type {
  CachedFunction,
  CachedMapFunction,
  CachedMultiFunction,
  CacheMultiOptions,
  CacheOptions,
  Invalidate,
} from './cached-function-types.js'
export { methodOf } from './cached-method.js'
export {
  type Basis,
  type Bytes,
  type CachedValue,
  type Group,
  type Instant,
  type Metadata,
  NO_VALUE,
  type NoValue,
} from './cached-value.js'
export type { Clock } from './clock.js'
export { defineBackend } from './define-backend.js'
export { dep } from './dependencies/dep.js'
export { dependsOn } from './dependencies/depends-on.js'
export type { IdPart } from './dependencies/names.js'
export type {
  Change,
  Condition,
  DescribeOptions,
  Invalidates,
  Scopes,
  ScopesOptions,
  Signature,
} from './dependencies/scopes.js'
export { diagnostics, type Messages, undecodableCount } from './diagnostics.js'
export { dogpile } from './dogpile.js'
export type { Dogpile, Found, PileOptions, Renewed, RunOptions, Steps } from './dogpile-types.js'
export type { Duration } from './duration.js'
export { type EpochStore, epochLedger } from './epoch-ledger.js'
export { CorralError, type CorralErrorCode } from './errors.js'
export type { Filled } from './flight.js'
export { localInvalidation, type RegionInvalidator } from './invalidation.js'
export {
  type FunctionKeyGenerator,
  type FunctionMultiKeyGenerator,
  functionKeyGenerator,
  functionMultiKeyGenerator,
  type KeyPart,
  optionsKeyGenerator,
} from './keys.js'
export type { Acquired, LeaseOperations, PlainMutex } from './lease.js'
export {
  type Freshness,
  type InvalidationMode,
  type Ledger,
  memoryLedger,
  type Reading,
  type Stamp,
  type Tracker,
} from './ledger.js'
export { sha1, sha256, whenLongerThan } from './manglers.js'
export type { MaybePromise } from './maybe-promise.js'
export {
  type BackendProxy,
  type Codec,
  delegate,
  intercept,
  type KeyMangler,
  mapKeys,
  mapValues,
  type Operation,
  type OperationName,
  type Overrides,
  type TransparentProxy,
} from './proxy.js'
export { makeRegion } from './region.js'
export type {
  CacheMapOnArguments,
  CacheMultiOnArguments,
  CacheOnArguments,
  ConfigureOptions,
  CreateOptions,
  Creation,
  Creator,
  Explanation,
  LeaseOptions,
  MultiCreator,
  ReadOptions,
  Region,
  RegionOptions,
  SetOptions,
  ValueMetadata,
} from './region-types.js'
export { registerBackend, registerProxy, type SettingKind, type Settings } from './registry.js'
export { type AsyncCreationRunner, type BackgroundRunner, type CreationJob, inBackground } from './runner.js'
export type { Listener } from './signals/emitter.js'
export type { Invalidation, RegionEvents } from './signals/region-events.js'
export type { Cause, Missed } from './signals/source.js'
export { defineCodec, type PayloadCodec } from './wire/codec.js'
export type { JsonTransform } from './wire/replacer.js'
export { wrap } from './wrap.js'

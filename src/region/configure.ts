import type { Backend, BackendSpec } from '../backend/backend.js'
import type { CachedValue } from '../backend/cached-value.js'
import { expectBackend } from '../backend/expect-backend.js'
import { backendError, withTypedFailures } from '../backend/typed-failures.js'
import { type CircuitBreaker, circuitBreaker } from '../base/breaker.js'
import { checkedClock, coarseClock, expectClock, preciseClock, stampsOf } from '../base/clock.js'
import { failureLog, report } from '../base/diagnostics.js'
import { expectDuration, milliseconds } from '../base/duration.js'
import { CorralError } from '../base/errors.js'
import { orElse } from '../base/maybe-promise.js'
import {
  checkOptions,
  expectBoolean,
  expectFunction,
  expectInteger,
  expectMethods,
  expectText,
  expectThat,
  type OptionCheck,
  ownOptions,
  rejectOptions,
} from '../base/options.js'
import { timersAreReal, withTimeout } from '../base/timers.js'
import { type KeyMangler, type KeyMap, keyLayerOf, manglerOf, withKeys } from '../chain/map-keys.js'
import { SERVING_CHECKS, servingOptions } from '../creation/create-options.js'
import { track } from '../dependencies/tracking-layer.js'
import { dogpile } from '../dogpile/dogpile.js'
import type { Dogpile } from '../dogpile/types.js'
import { policyFor, policyOf } from './policy.js'
import { invalidatorOf } from './region-invalidator.js'
import { rememberedErrors } from './remembered-errors.js'
import type { Created, RegionState } from './state.js'
import { type Identity, joinStore } from './stores.js'
import type { ConfigureOptions, RegionOptions } from './types.js'

const LEASE = { ms: expectDuration, wait: expectDuration }
const BREAKER: Readonly<Record<string, OptionCheck>> = {
  failures: (value, subject) => expectInteger(value, subject, 1, Number.MAX_SAFE_INTEGER),
  cooldown: expectDuration,
}
const LATER: Readonly<Record<string, OptionCheck>> = {
  // Where a backend is required, `expectChain` checks it.
  backend: () => {},
  expirationTime: expectDuration,
  asyncCreationRunner: expectFunction,
  regionInvalidator: (value, subject) =>
    expectMethods(
      value,
      ['invalidate', 'judge'],
      `${subject} to have invalidate(mode, at) and judge(startedAt, key)`,
    ),
  clock: expectClock,
  lease: (value) => checkOptions(value as object, '`lease`', LEASE),
  breaker(value) {
    checkOptions(value as object, '`breaker`', BREAKER)
    for (const option of Object.keys(BREAKER))
      expectThat(option in (value as object), value, `\`breaker\` to have \`${option}\``)
  },
  ...SERVING_CHECKS,
}
const AT_ONCE = {
  name: expectText,
  keyspace: expectText,
  functionKeyGenerator: expectFunction,
  functionMultiKeyGenerator: expectFunction,
}

/**
 * The options as they are at the call, for a region that may be configured later.
 * @throws CorralError `ERR_OPTION` for an invalid option, whether or not a backend comes with it.
 */
export function checkRegionOptions(options: RegionOptions): RegionOptions {
  options = ownOptions(options)
  checkOptions(options, 'makeRegion()', { ...AT_ONCE, ...LATER })
  const { lease, breaker } = options
  return { ...options, ...(lease && { lease: { ...lease } }), ...(breaker && { breaker: { ...breaker } }) }
}

function together(base: RegionOptions, more: ConfigureOptions) {
  const options = { ...defined(base), ...defined(more) }
  const clock = checkedClock(options.clock, '`clock`')
  return { ...options, ...(clock && { clock }) }
}

/** Builds the state of a region, or throws and leaves nothing half-done. */
export function configureRegion(
  identity: Identity,
  base: RegionOptions,
  more: ConfigureOptions,
): RegionState {
  checkOptions(more, 'configure()', { ...LATER, replaceExistingBackend: expectBoolean })
  const options = together(base, more)
  const { own, name, prefix } = identity
  const chain = expectChain(more.backend, prefix !== '')
  const tracked =
    chain.tracker === undefined && chain.ledger !== undefined ? track(chain, chain.ledger) : chain
  const keyed = prefix === '' ? tracked : withKeys(tracked, prefix)
  const layer = keyLayerOf(keyed)
  const raw = layer?.below ?? keyed
  const stored = withTypedFailures(raw)
  const keyOf = layer === undefined ? unchanged : typedMangler(chain.name, layer.map)
  const backend = layer === undefined ? stored : withKeys(stored, keyOf)
  const { tracker } = backend
  const leaseMs = milliseconds(options.lease?.ms ?? '10s', 'lease.ms')
  const policy = policyOf(servingOptions(options))
  for (const own of identity.declared) policyFor({ policy }, own)
  const closing = new AbortController()
  const limits = limitsOf(backend)
  const { leave, calling, invalidated } = joinStore(chain, identity)
  report('configure', () => ({ region: name, backend: chain.name, limits }))
  if (!timersAreReal) noticeFakeTimers()
  let released: Promise<void> | undefined
  const state: RegionState = {
    name,
    own,
    ownNames: Object.freeze([own]),
    backend,
    keyOf,
    stored,
    chain: raw,
    ...{ keys: keyed.keys, trouble: troubleOf(chain.actual) },
    tracker,
    calls: tracker?.calls?.(),
    invalidator: invalidatorOf(options.regionInvalidator, tracker === undefined && identity.marks),
    expiration: milliseconds(options.expirationTime ?? Number.POSITIVE_INFINITY, 'expirationTime'),
    policy,
    terms: { expiration: undefined, policy },
    clock: options.clock ?? coarseClock,
    precise: options.clock ?? preciseClock,
    // Regions over one store, or with one strategy, judge each other's entries.
    stamp: stampsOf(chain.actual, options.regionInvalidator ?? identity),
    leaseMs,
    dogpile: dogpileOf(options, leaseMs, closing.signal),
    releases: failureLog(),
    errors: rememberedErrors(options.clock ?? preciseClock, invalidated),
    breaker: breakerOf(options),
    ahead: new Map(),
    calling,
    counters: identity.stats.own,
    limits,
    release: () => (released ??= release(state, closing, leave)),
  }
  identity.declared.clear()
  return state
}

function troubleOf(actual: Partial<Pick<BackendSpec<never>, 'trouble'>>): () => unknown {
  // The backend is the application's own: its failure must not take the place of the error that it explains.
  return () =>
    orElse(
      () => actual.trouble?.(),
      () => undefined,
    )
}

function breakerOf({ breaker, clock = preciseClock }: RegionOptions): CircuitBreaker | undefined {
  if (breaker === undefined) return undefined
  const cooldown = milliseconds(breaker.cooldown, 'breaker.cooldown')
  return circuitBreaker({ failures: breaker.failures, cooldown }, () => clock.now())
}

function dogpileOf(
  { lease, asyncCreationRunner: runner }: RegionOptions,
  leaseMs: number,
  signal: AbortSignal,
): Dogpile<Created> {
  return dogpile({ wait: lease?.wait ?? '60s', renewEvery: leaseMs / 3, runner, signal })
}

const unchanged: KeyMangler = (key) => key

/** A mangler of the application may fail like a backend. */
function typedMangler(name: string, map: KeyMap): KeyMangler {
  const mangle = manglerOf(map)
  if (typeof map === 'string') return mangle
  return (key) => {
    try {
      return mangle(key)
    } catch (error) {
      throw backendError(name, error)
    }
  }
}

function expectChain(given: unknown, named: boolean): Backend<CachedValue> {
  const chain = expectBackend(
    given,
    '`backend` to be a backend such as memory(), or wrap(backend, ...proxies)',
  ) as Backend<CachedValue>
  if (chain.stores === 'bytes')
    throw new CorralError(
      'ERR_CHAIN',
      `Backend '${chain.name}' stores bytes, and nothing in its chain encodes values: put an encoding around it, wrap(${chain.name}, msgpack()).`,
    )
  if (!named && (chain.tracker ?? chain.ledger)?.shared)
    rejectOptions(
      `Backend '${chain.name}' keeps a ledger that other processes share, so the region needs a name there: makeRegion({ name: 'users' }).`,
    )
  return chain
}

async function release(
  { backend, calling, dogpile: creations, leaseMs }: RegionState,
  closing: AbortController,
  leave: () => boolean,
): Promise<void> {
  closing.abort(new CorralError('ERR_CLOSED', 'The region was closed.'))
  if (!leave()) return
  // Calls and creations under way still need the store; one that never ends must not keep it open.
  const idle = Promise.all([calling.idle(), creations.idle()]).then(() => {})
  // It keeps the process running: who waits for the end of close() must not see the process end first.
  await withTimeout(idle, leaseMs, () => new Error('not idle')).catch(() => {})
  await backend.close()
}

let noticed = false

function noticeFakeTimers(): void {
  if (noticed) return
  noticed = true
  const message =
    'Expected the timers of Node, got fake ones. Corral was loaded while fake timers stood: its deadlines and leases end only when these advance. Load Corral before you install them.'
  report('notice', () => ({ where: 'timers', message }))
}

/** An option that is there but undefined must not hide one that was given before. */
function defined<T extends object>(options: T): T {
  return Object.fromEntries(Object.entries(options).filter(([, value]) => value !== undefined)) as T
}

const WEAK_LEASES = {
  store: [],
  mutex: [
    'has a plain mutex: one creator at a time everywhere, but a creator in another process that outlives its lock can write back what was invalidated.',
  ],
  process: [
    'has no lease: one creator at a time in this process only, and an invalidation voids the creations of this process only.',
  ],
} as const
const NO_FAILURES =
  'does not keep the lease of a failed creation: after one, each process tries again by itself.'
const NO_LEDGER = 'has no ledger: region.invalidate() reaches this process only, and compares times of day.'

function limitsOf({
  name,
  reach,
  tracker,
  keepsFailures,
  limits = [],
}: Backend<CachedValue>): readonly string[] {
  const own = [
    ...WEAK_LEASES[reach],
    ...(keepsFailures || reach === 'process' ? [] : [NO_FAILURES]),
    ...(tracker === undefined ? [NO_LEDGER] : []),
  ]
  return Object.freeze([...limits, ...own.map((limit) => `Backend '${name}' ${limit}`)])
}

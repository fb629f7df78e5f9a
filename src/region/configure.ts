import type { Backend } from '../backend/backend.js'
import type { CachedValue } from '../backend/cached-value.js'
import { withTypedFailures } from '../backend/typed-failures.js'
import { coarseClock, preciseClock } from '../base/clock.js'
import { report } from '../base/diagnostics.js'
import { milliseconds } from '../base/duration.js'
import { CorralError, formatValue } from '../base/errors.js'
import { rejectUnknownOptions } from '../base/options.js'
import { delay } from '../base/timers.js'
import { expectBackend } from '../chain/wrap.js'
import { track } from '../dependencies/tracking-layer.js'
import { dogpile } from '../dogpile/dogpile.js'
import { localInvalidation, type RegionInvalidator } from './region-invalidator.js'
import type { Created, RegionState } from './state.js'
import type { ConfigureOptions, RegionOptions } from './types.js'

const LATER = [
  'backend',
  'expirationTime',
  'asyncCreationRunner',
  'regionInvalidator',
  'clock',
  'lease',
] as const
const AT_ONCE = ['name', 'functionKeyGenerator', 'functionMultiKeyGenerator'] as const

/** @throws CorralError `ERR_OPTION` for an invalid option, whether or not a backend comes with it. */
export function checkRegionOptions(options: RegionOptions): void {
  rejectUnknownOptions(options, [...AT_ONCE, ...LATER], 'makeRegion()')
  const { name, functionKeyGenerator, functionMultiKeyGenerator } = options
  if (name !== undefined && (typeof name !== 'string' || name === ''))
    throw new CorralError(
      'ERR_OPTION',
      `Expected a region's \`name\` to be a non-empty string, got ${formatValue(name)}.`,
    )
  mustBeFunction('functionKeyGenerator', functionKeyGenerator)
  mustBeFunction('functionMultiKeyGenerator', functionMultiKeyGenerator)
  checkShared(options)
}

function checkShared({
  asyncCreationRunner,
  regionInvalidator,
  clock,
  lease,
  expirationTime,
}: Partial<ConfigureOptions>): void {
  mustBeFunction('asyncCreationRunner', asyncCreationRunner)
  if (
    regionInvalidator !== undefined &&
    (typeof regionInvalidator.invalidate !== 'function' || typeof regionInvalidator.judge !== 'function')
  )
    throw new CorralError(
      'ERR_OPTION',
      `Expected \`regionInvalidator\` to have invalidate(mode, at) and judge(startedAt, key), got ${formatValue(regionInvalidator)}.`,
    )
  if (clock !== undefined && typeof clock.now !== 'function')
    throw new CorralError('ERR_OPTION', `Expected \`clock\` to have now(), got ${formatValue(clock)}.`)
  if (expirationTime !== undefined) milliseconds(expirationTime, 'expirationTime')
  if (lease === undefined) return
  rejectUnknownOptions(lease, ['ms', 'wait'], '`lease`')
  if (lease.ms !== undefined) milliseconds(lease.ms, 'lease.ms')
  if (lease.wait !== undefined) milliseconds(lease.wait, 'lease.wait')
}

function mustBeFunction(option: string, value: unknown): void {
  if (value !== undefined && typeof value !== 'function')
    throw new CorralError('ERR_OPTION', `Expected \`${option}\` to be a function, got ${formatValue(value)}.`)
}

/** The parts of a region that outlive its configurations. */
export interface RegionIdentity {
  /** The name that invalidates everything in the region. */
  readonly own: string
  readonly local: RegionInvalidator
}

let unnamed = 0

export function identify(name: string | undefined): RegionIdentity {
  return { own: `region:${name ?? `~${++unnamed}`}`, local: localInvalidation() }
}

const users = new WeakMap<object, number>()

/** Builds the state of a region, or throws and leaves nothing half-done. */
export function configureRegion(
  identity: RegionIdentity,
  base: RegionOptions,
  more: ConfigureOptions,
): RegionState {
  rejectUnknownOptions(more, [...LATER, 'replaceExistingBackend'], 'configure()')
  checkShared(more)
  const options = { ...defined(base), ...defined(more) }
  const { name } = options
  const chain = expectChain(more.backend, name)
  const tracked =
    chain.tracker === undefined && chain.ledger !== undefined ? track(chain, chain.ledger) : chain
  const backend = withTypedFailures(tracked)
  const leaseMs = milliseconds(options.lease?.ms ?? '10s', 'lease.ms')
  const closing = new AbortController()
  const limits = limitsOf(backend)
  users.set(chain.actual, (users.get(chain.actual) ?? 0) + 1)
  report('configure', () => ({ region: name, backend: chain.name, limits }))
  const state: Omit<RegionState, 'release'> = {
    name,
    own: identity.own,
    backend,
    chain: tracked,
    tracker: backend.tracker,
    invalidator: options.regionInvalidator ?? (backend.tracker === undefined ? identity.local : undefined),
    expiration: milliseconds(options.expirationTime ?? Number.POSITIVE_INFINITY, 'expirationTime'),
    clock: options.clock ?? coarseClock,
    precise: options.clock ?? preciseClock,
    leaseMs,
    dogpile: dogpile<Created>({
      wait: options.lease?.wait ?? '60s',
      renewEvery: leaseMs / 3,
      runner: options.asyncCreationRunner,
      signal: closing.signal,
    }),
    limits,
  }
  let released: Promise<void> | undefined
  return { ...state, release: () => (released ??= release(state, closing)) }
}

function expectChain(given: unknown, name: string | undefined): Backend<CachedValue> {
  const chain = expectBackend(
    given,
    '`backend` to be a backend such as memory(), or wrap(backend, ...proxies)',
  ) as Backend<CachedValue>
  if (chain.stores === 'bytes')
    throw new CorralError(
      'ERR_CHAIN',
      `Backend '${chain.name}' stores bytes, and nothing in its chain encodes values: put an encoding around it, wrap(${chain.name}, msgpack()).`,
    )
  if ((chain.tracker?.shared ?? chain.ledger?.shared ?? false) && name === undefined)
    throw new CorralError(
      'ERR_OPTION',
      `Backend '${chain.name}' keeps a ledger that other processes share, so the region needs a name there: makeRegion({ name: 'users' }).`,
    )
  return chain
}

async function release(
  { backend, dogpile: creations, leaseMs }: Omit<RegionState, 'release'>,
  closing: AbortController,
): Promise<void> {
  closing.abort(new CorralError('ERR_CLOSED', 'The region was closed.'))
  const left = (users.get(backend.actual) ?? 1) - 1
  users.set(backend.actual, left)
  if (left > 0) return
  // Creations under way may still fill; one that never ends must not keep the backend open.
  await Promise.race([creations.idle(), delay(leaseMs, { ref: false })])
  await backend.close()
}

/** An option that is there but undefined must not hide one that was given before. */
function defined<T extends object>(options: T): T {
  return Object.fromEntries(Object.entries(options).filter(([, value]) => value !== undefined)) as T
}

function limitsOf({ name, reach, tracker, limits: more = [] }: Backend<CachedValue>): readonly string[] {
  const limits: string[] = [...more]
  if (reach === 'mutex')
    limits.push(
      `Backend '${name}' has a plain mutex: one creator at a time everywhere, but a creator in another process that outlives its lock can write back what was invalidated.`,
    )
  if (reach === 'process')
    limits.push(
      `Backend '${name}' has no lease: one creator at a time in this process only, and an invalidation voids the creations of this process only.`,
    )
  if (tracker === undefined)
    limits.push(
      `Backend '${name}' has no ledger: region.invalidate() reaches this process only, and compares times of day.`,
    )
  return limits
}

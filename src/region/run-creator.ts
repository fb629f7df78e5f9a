import { type Metadata, NO_VALUE } from '../backend/cached-value.js'
import type { Granted } from '../backend/lease.js'
import { stamp } from '../base/clock.js'
import { report } from '../base/diagnostics.js'
import { milliseconds } from '../base/duration.js'
import { CorralError, formatValue } from '../base/errors.js'
import { collectDependencies, type DependencyCollector } from '../creation/collector.js'
import { currentScope, runCollecting } from '../creation/scope.js'
import type { Creation } from '../creation/types.js'
import { notTracked } from '../dependencies/depends-on.js'
import { refuseVersions } from '../ledger/checked-names.js'
import { listNames } from '../ledger/names.js'
import type { LedgerTime } from '../ledger/snapshot.js'
import type { Created, CreationPlan, RegionState } from './state.js'

/** The facts that a running creator leaves behind beside its values. */
interface CreationRecord {
  readonly startedAt: number
  readonly collector: DependencyCollector | undefined
  /** Names that the creator declared for single keys. */
  readonly namesOfKeys: Map<string, readonly string[]>
  expiresIn: number | undefined
  untracked: boolean
}

/** Runs the creator as of a time that was taken before, and builds the entries of its values. */
export async function runCreator(
  region: RegionState,
  plan: CreationPlan,
  keys: readonly string[],
  signal: AbortSignal,
  leases: readonly Pick<Granted, 'asOf'>[] = [],
): Promise<Created[]> {
  const { precise, tracker } = region
  const asOf = earliestOf(leases) ?? (await tracker?.asOf([region.own]))
  const record: CreationRecord = {
    startedAt: stamp(precise.now()),
    collector: asOf && collectDependencies(asOf, [region.own]),
    namesOfKeys: new Map(),
    expiresIn: undefined,
    untracked: false,
  }
  const began = performance.now()
  let failure: { readonly error: unknown } | undefined
  try {
    const values = await callCreator(region, plan, keys, creationOf(region, keys, signal, record), record)
    return entriesOf(region, plan, keys, values, record)
  } catch (error) {
    failure = { error }
    throw error
  } finally {
    report('create', () => ({
      region: region.name,
      keys,
      milliseconds: performance.now() - began,
      outcome: failure === undefined ? 'made' : 'failed',
      ...failure,
    }))
  }
}

/** The earliest time that came with the leases: the creator reads nothing that is older. */
function earliestOf(leases: readonly Pick<Granted, 'asOf'>[]): LedgerTime | undefined {
  let earliest: LedgerTime | undefined
  for (const { asOf } of leases) {
    if (asOf === undefined || (earliest !== undefined && earliest.epoch !== asOf.epoch)) return undefined
    if (earliest === undefined || asOf.at < earliest.at) earliest = asOf
  }
  return earliest
}

/** The object that the creator receives. */
function creationOf(
  { tracker }: RegionState,
  keys: readonly string[],
  signal: AbortSignal,
  record: CreationRecord,
): Creation {
  let known: ReadonlySet<string> | undefined
  return {
    key: keys[0] as string,
    keys,
    startedAt: record.startedAt,
    signal,
    expireIn(duration) {
      record.expiresIn = milliseconds(duration, 'expireIn')
    },
    dependsOn(key, names) {
      const list = listNames(names, false)
      refuseVersions(list)
      if (tracker?.tracksDependencies !== true) throw notTracked(key)
      if (!(known ??= new Set(keys)).has(key))
        throw new CorralError(
          'ERR_KEY',
          `Expected one of the keys of this creation, got ${formatValue(key)}. See creation.keys.`,
        )
      record.namesOfKeys.set(key, [...(record.namesOfKeys.get(key) ?? []), ...list])
    },
  }
}

async function callCreator(
  { tracker }: RegionState,
  plan: CreationPlan,
  keys: readonly string[],
  creation: Creation,
  record: CreationRecord,
): Promise<readonly unknown[]> {
  const scope = currentScope()
  const collector = tracker?.tracksDependencies === true ? record.collector : undefined
  const run = () => plan.create(keys, creation)
  const values = await (scope === undefined
    ? run()
    : runCollecting(scope, collector, () => (record.untracked = true), run))
  if (Array.isArray(values) && values.length === keys.length) return values
  throw new CorralError(
    'ERR_BATCH_LENGTH',
    `Expected the creator of ${keys.length} keys to return an array of ${keys.length} values in their order, got ${
      Array.isArray(values) ? `${values.length} values` : formatValue(values)
    }. Answer NO_VALUE for a key that has none.`,
  )
}

function entriesOf(
  region: RegionState,
  plan: CreationPlan,
  keys: readonly string[],
  values: readonly unknown[],
  { startedAt, collector, namesOfKeys, expiresIn, untracked }: CreationRecord,
): Created[] {
  const createdAt = region.precise.now()
  const together = collector?.snapshot()
  const until = collector?.expiresAt() ?? Number.POSITIVE_INFINITY
  const limit = expiresIn ?? plan.expiration ?? region.expiration
  // A value lives no longer than its parts; created from a stale part it is stale at once.
  const shortened = until < createdAt + limit ? Math.max(until - createdAt, 1) : expiresIn
  const common: Metadata = {
    startedAt,
    createdAt,
    ...(shortened !== undefined && { expiresIn: shortened }),
    ...(until <= createdAt && { stale: true }),
    ...(untracked && { untracked }),
  }
  return values.map((payload, i): Created => {
    const own = namesOfKeys.get(keys[i] as string)
    const collected = own === undefined ? together : collector?.snapshot(own)
    const metadata =
      collected !== undefined && 'snapshot' in collected
        ? { ...common, snapshot: collected.snapshot }
        : common
    const withheld = payload === NO_VALUE ? 'the creator answered NO_VALUE' : collected?.unstorable
    return { entry: { payload, metadata }, withheld }
  })
}

import { expectThat, rejectOptions, rejectUnknownOptions } from '../base/options.js'
import { copyPlain } from '../base/parts.js'
import type { InvalidationReason, OpenLedger } from '../ledger/ledger.js'
import type { Emitter } from './emitter.js'

/**
 * Listeners may have missed events: state that they derived from events has to be derived again.
 * @example
 * ```ts
 * import type { MissedEvents } from 'corral'
 *
 * export const line = ({ of, why }: MissedEvents) => `Missed events of ${of}: ${why}`
 * ```
 */
export interface MissedEvents {
  /** The region or the broker whose events were missed. */
  readonly of: string
  /** In words. */
  readonly why: string
}

/** An object whose events can be relayed. */
export interface EventSource {
  readonly kind: 'region' | 'broker'
  readonly name: string | undefined
  /** The event that reports a done invalidation. */
  readonly event: string
  /** Whether data from another process is such an event. */
  accepts(event: Readonly<Record<string, unknown>>): boolean
  readonly emitter: Emitter<Record<string, object>>
  /** May refuse a cause before anything is done. */
  readonly guards: Set<(cause: InvalidationReason) => void>
  /** Where its names are invalidated. Throws where they cannot be at all, now and later. */
  readonly ready?: () => NamesLedger
}

/**
 * The marks that an invalidation ends. The region says whether it got them: a wrapper of the region may pass on the arguments
 * alone that it knows.
 */
export interface EndOfMarks {
  readonly transaction: string
  isPassedOn: boolean
}

/** The operations on names, without events. */
type NamesLedger = Pick<OpenLedger, 'invalidate' | 'pending'>

const SOURCE = Symbol.for('corral.signals')

/** Makes the events of a region or a broker reachable, without a public member. */
export function asSource(object: object, source: EventSource): void {
  Object.defineProperty(object, SOURCE, { value: source })
}

/** @throws CorralError `ERR_OPTION` unless it is a region or a broker that has a name. */
export function sourceOf(object: unknown, where: string): EventSource & { readonly name: string } {
  const source = hidden(object)
  expectThat(source !== undefined, object, `${where} to list regions and brokers`)
  const { name } = source
  if (name === undefined)
    rejectOptions(
      `Expected the ${source.kind}s of ${where} to have names, by which other processes know them: makeRegion({ name: 'users' }).`,
    )
  return { ...source, name }
}

/** The guard that may refuse the reason of an object's events; absent if it is neither region nor broker. */
export function guardsOf(object: unknown): readonly ((cause: InvalidationReason) => void)[] {
  return [...(hidden(object)?.guards ?? [])]
}

/** @throws if an object cannot invalidate names, such as a region that is not configured. */
export function checkReady(object: unknown): void {
  hidden(object)?.ready?.()
}

/**
 * Where the names of a region are invalidated; `undefined` for anything else.
 * @throws if it cannot invalidate names
 */
export function ledgerOf(object: unknown): NamesLedger | undefined {
  return hidden(object)?.ready?.()
}

function hidden(object: unknown): EventSource | undefined {
  return (object as { readonly [SOURCE]?: EventSource } | null | undefined)?.[SOURCE]
}

/**
 * The cause as it is at the call: a later change by the caller, or by a listener, reaches no other listener and no other process.
 * @throws CorralError `ERR_OPTION` for a cause that is none.
 */
export function captureCause(
  given: { readonly reason?: unknown; readonly meta?: unknown },
  guards: Iterable<(cause: InvalidationReason) => void>,
): InvalidationReason {
  rejectUnknownOptions(given, ['reason', 'meta'], 'an invalidation')
  const { reason, meta } = given
  expectThat(reason === undefined || typeof reason === 'string', reason, '`reason` to be a string')
  const cause = Object.freeze({
    ...(reason !== undefined && { reason }),
    ...(meta !== undefined && { meta: copyPlain(meta, Object.freeze) }),
  }) as InvalidationReason
  for (const guard of guards) guard(cause)
  return cause
}

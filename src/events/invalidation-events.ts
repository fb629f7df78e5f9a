import { report } from '../base/diagnostics.js'
import type { MaybePromise } from '../base/maybe-promise.js'
import type { InvalidationMode, InvalidationReason } from '../ledger/ledger.js'
import { type Emitter, emitter } from './emitter.js'
import { asSource, captureCause, type EventSource, type MissedEvents } from './event-source.js'

/**
 * An invalidation as listeners get it.
 * @example
 * ```ts
 * import type { Invalidation } from 'corral'
 *
 * export const line = ({ what, names, mode }: Invalidation) => `${mode} ${what}: ${names.join(', ')}`
 * ```
 */
export interface Invalidation extends InvalidationReason {
  readonly region: string | undefined
  readonly what: 'key' | 'region' | 'dependencies'
  readonly names: readonly string[]
  readonly mode: InvalidationMode
  /** Whether it was asked for in this process, or another one told of it. */
  readonly origin: 'local' | 'remote'
}

/**
 * The events of `region.on`.
 * @example
 * ```ts
 * import type { Region, RegionEvents } from 'corral'
 *
 * const log = ({ names }: RegionEvents['invalidate']) => console.log(names)
 * export const watch = (region: Region) => region.on('invalidate', log)
 * ```
 */
export interface RegionEvents {
  /** About to be done. Cannot be prevented. */
  invalidating: Invalidation
  /** Acknowledged by the store. */
  invalidate: Invalidation
  /** Failed: the store may have done a part of it. */
  'invalidate-failed': Invalidation & { readonly error: unknown }
  /** Other processes may have told of invalidations that were not heard here. */
  missed: MissedEvents
}

export interface InvalidationEvents {
  readonly on: Emitter<RegionEvents>['on']
  /** Does an invalidation and reports it on the channel and to the listeners. */
  around<R>(
    what: Invalidation['what'],
    names: readonly string[],
    mode: InvalidationMode,
    cause: InvalidationReason | undefined,
    work: () => MaybePromise<R>,
  ): Promise<R>
  /** @param ready - throws where names cannot be invalidated */
  attach(region: object, ready: NonNullable<EventSource['ready']>): void
}

/** The events of a region, which outlive its configurations. */
export function invalidationEvents(name: string | undefined): InvalidationEvents {
  const known = ['invalidating', 'invalidate', 'invalidate-failed', 'missed'] as const
  const events = emitter<RegionEvents>("a region's event", known, name)
  const guards: EventSource['guards'] = new Set()
  return {
    on: events.on,
    async around(what, names, mode, given, work) {
      const cause = given === undefined ? undefined : captureCause(given, guards)
      const told = events.busy && names.length > 0
      const event: Invalidation = {
        region: name,
        what,
        // A copy: a listener or subscriber that empties the list must stop neither the invalidation nor its event.
        names: Object.freeze([...names]),
        mode,
        ...cause,
        origin: 'local',
      }
      if (told) events.emit('invalidating', event)
      let result: Awaited<ReturnType<typeof work>>
      try {
        result = await work()
      } catch (error) {
        if (told) events.emit('invalidate-failed', { ...event, error })
        throw error
      }
      report('invalidate', () => ({
        ...{ region: name, what, names: event.names, mode },
        ...(cause?.reason !== undefined && { reason: cause.reason }),
      }))
      // Listeners that came meanwhile are notified too.
      if (names.length > 0) events.emit('invalidate', event)
      return result
    },
    attach: (region, ready) =>
      asSource(region, {
        kind: 'region',
        name,
        event: 'invalidate',
        accepts: ({ region: of, what, mode, reason }) =>
          of === name &&
          (what === 'key' || what === 'region' || what === 'dependencies') &&
          (mode === 'hard' || mode === 'soft') &&
          (reason === undefined || typeof reason === 'string'),
        emitter: events as unknown as EventSource['emitter'],
        guards,
        ready,
      }),
  }
}

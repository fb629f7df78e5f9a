import { failureLog, report } from '../base/diagnostics.js'
import { type Duration, milliseconds } from '../base/duration.js'
import { CorralError, messageOf } from '../base/errors.js'
import { andThen, orElse } from '../base/maybe-promise.js'
import { expectThat, ownOptions, rejectOptions, rejectUnknownOptions } from '../base/options.js'
import { onePerObject } from '../base/process-global.js'
import { sourceOf } from '../events/event-source.js'
import type { InvalidationReason } from '../ledger/ledger.js'
import { type Bus, expectBus } from './bus.js'
import { type Body, isBody, isNames, link, portions } from './bus-link.js'

/**
 * Limits of the messages of a relay.
 * @example
 * ```ts
 * import type { RelayOptions } from 'corral/signals'
 *
 * export const small: RelayOptions = { timeout: '1s', maxMeta: 1_024 }
 * ```
 */
export interface RelayOptions {
  /** For a message to be taken by the bus. @default '5s' */
  readonly timeout?: Duration | undefined
  /** Characters that reason and metadata may take as JSON. @default 65_536 */
  readonly maxMeta?: number | undefined
}

/**
 * A relay that stands.
 * @example
 * ```ts
 * import type { Relay } from 'corral/signals'
 *
 * export const health = (invalidations: Relay) => ({ invalidations: invalidations.live ? 'up' : 'down' })
 * ```
 */
export interface Relay {
  /** Whether messages of other processes arrive. */
  readonly live: boolean
  /** Waits for the messages under way, each for at most its timeout. */
  close(): Promise<void>
}

/**
 * Lets the listeners of the same regions and brokers in other processes receive the invalidations of this process after they are done.
 * It carries names, reasons and metadata, never values, and it invalidates nothing: that is the business of a shared
 * ledger, or of `broadcast`. Events come with `origin: 'remote'`, a long list of names as several; when some may have
 * been lost, the event `'missed'` comes instead. A message that cannot be sent is reported on the `failure` channel.
 * @example
 * ```ts
 * import { makeRegion } from 'corral'
 * import { memory } from 'corral/backends/memory'
 * import { localBus, relay } from 'corral/signals'
 *
 * const pages = makeRegion<string>({ name: 'pages', backend: memory() })
 * const events = relay(localBus(), [pages]) // redisBus() joins processes
 * pages.on('invalidate', ({ names, origin }) => console.log(origin, names))
 * await events.close()
 * ```
 * @throws CorralError `ERR_OPTION`. While it stands, invalidations reject with `ERR_UNENCODABLE` or `ERR_VALUE_TOO_LARGE`,
 * before anything is done, when their metadata cannot travel.
 */
export function relay(bus: Bus, sources: readonly object[], options: RelayOptions = {}): Relay {
  options = ownOptions(options)
  expectBus(bus, 'relay()')
  rejectUnknownOptions(options, ['timeout', 'maxMeta'], 'relay()')
  const { maxMeta = 65_536 } = options
  expectThat(typeof maxMeta === 'number' && maxMeta > 0, maxMeta, '`maxMeta` to be above zero')
  expectThat(
    Array.isArray(sources) && sources.length > 0,
    sources,
    'relay() to receive a list of regions and brokers, relay(bus, [users])',
  )
  const known = byName(sources)
  const guard = (cause: InvalidationReason) => void encoded(cause, maxMeta)

  const others = link({
    bus,
    address: 'signals',
    timeout: milliseconds(options.timeout ?? '5s', 'timeout'),
    onGap(why) {
      for (const source of known.values()) source.emitter.emit('missed', { of: source.name, why })
    },
    onMessage: ({ of, by, event }) => {
      if (typeof of !== 'string' || !isEvent(event)) return false
      const source = known.get(of)
      // Another relay of the same object sent it, whose listeners have received it.
      if (source === undefined || by === idOf(source.emitter)) return true
      if (!source.accepts(event)) return false
      // All listeners get this list.
      Object.freeze(event.names)
      source.emitter.emit(source.event, { ...event, origin: 'remote' })
      return true
    },
  })

  // Many messages fail in one outage.
  const outage = failureLog()
  const send = (body: Body) =>
    void orElse(
      () => andThen(others.send(body), () => void outage.over()),
      (error) => outage.failed(() => ({ where: 'relay', error })),
    )
  const ends = [...known].map(([of, source]) => {
    source.guards.add(guard)
    const off = source.emitter.on(source.event, (heard) => {
      const { origin, names, meta, reason, ...event } = heard as InvalidationReason & Record<string, unknown>
      if (origin !== 'local') return
      const cause = encodedAnyhow({ ...(reason !== undefined && { reason }), meta }, maxMeta)
      for (const portion of portions(names as readonly string[]))
        send({ of, by: idOf(source.emitter), event: { ...event, ...cause, names: portion } })
    })
    return () => {
      off()
      source.guards.delete(guard)
    }
  })

  return {
    get live() {
      return others.live()
    },
    async close() {
      for (const end of ends) end()
      await others.close()
    },
  }
}

/** Tells the events of an object from those of its namesakes, here and in other processes. */
const idOf = onePerObject('relay ids', () => crypto.randomUUID())

/** The sources, as other processes know them. */
function byName(sources: readonly object[]) {
  const known = new Map(
    // Not map(), which passes over holes.
    Array.from(sources, (one) => {
      const source = sourceOf(one, 'relay()')
      return [`${source.kind}:${source.name}`, source]
    }),
  )
  if (known.size < sources.length)
    rejectOptions(
      'Expected relay() to receive regions, or brokers, of different names: other processes know them by these.',
    )
  return known
}

/** A reason that was changed after the guard checked it must not stop the names. */
function encodedAnyhow(cause: InvalidationReason, limit: number): Body {
  try {
    return encoded(cause, limit)
  } catch (error) {
    report('failure', () => ({ where: 'relay', error }))
    return {}
  }
}

/** The cause as it will arrive. */
function encoded(cause: InvalidationReason, limit: number): Body {
  let text: string
  try {
    text = JSON.stringify(cause)
  } catch (error) {
    throw new CorralError(
      'ERR_UNENCODABLE',
      `Expected metadata that JSON can hold, because it is relayed to other processes: ${messageOf(error)}`,
      { cause: error },
    )
  }
  if (text.length > limit)
    throw new CorralError(
      'ERR_VALUE_TOO_LARGE',
      `Reason and metadata of an invalidation take ${text.length} characters, more than the ${limit} that are relayed: send an id instead, or raise \`maxMeta\`.`,
    )
  return JSON.parse(text) as Body
}

function isEvent(event: unknown): event is Body {
  return isBody(event) && isNames(event.names)
}

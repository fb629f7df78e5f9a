/**
 * Spans and metrics of regions for OpenTelemetry, by the package `@opentelemetry/api`. A creation has a span, and the spans that its
 * creator makes hang under it. Reads are counted and have none: a hit takes less time than its span would.
 *
 * No key and no name of a dependency becomes an attribute: they may be personal data, and each would be a time series of its own.
 */
import { AsyncLocalStorage } from 'node:async_hooks'
import { type CreationTrace, creationChannel } from '../base/diagnostics.js'
import { checkOptions, expectMethods, expectThat, ownOptions } from '../base/options.js'
import type { Region } from '../region/types.js'
import {
  countOf,
  countsOf,
  EVENTS,
  type Labels,
  labelsOf,
  on,
  outcomeOf,
  STATISTICS,
} from './telemetry/counts.js'
import { claimReceivers } from './telemetry/once.js'

/** The members of a span that are used. */
interface OtelSpan {
  setStatus(status: { code: number }): unknown
  recordException(error: Error): void
  end(): void
}

/** The members of a meter that are used. */
interface OtelMeter {
  createCounter(
    name: string,
    options: { description: string },
  ): { add(value: number, attributes: Labels): void }
  createHistogram(
    name: string,
    options: { description: string; unit: string },
  ): { record(value: number, attributes: Labels): void }
  createObservableCounter(name: string, options: { description: string }): OtelObservable
}

interface OtelObservable {
  addCallback(callback: OtelObserver): void
  removeCallback(callback: OtelObserver): void
}

type OtelObserver = (result: { observe(value: number, attributes: Labels): void }) => void

/**
 * The members of `@opentelemetry/api` that are used.
 * @example
 * ```ts
 * import * as api from '@opentelemetry/api'
 * import type { OpenTelemetryApi } from 'corral/integrations/otel'
 *
 * export const used: OpenTelemetryApi = api
 * ```
 */
export interface OpenTelemetryApi {
  readonly trace: {
    getTracer(name: string): {
      startSpan(name: string, options: { attributes: Record<string, string | number> }): unknown
    }
    setSpan(context: never, span: never): unknown
  }
  readonly context: { active(): unknown; with(context: never, work: () => unknown): unknown }
  readonly metrics: { getMeter(name: string): unknown }
}

/**
 * The options of `openTelemetry()`.
 * @example
 * ```ts
 * import * as api from '@opentelemetry/api'
 * import { makeRegion } from 'corral'
 * import { memory } from 'corral/backends/memory'
 * import type { OpenTelemetryOptions } from 'corral/integrations/otel'
 *
 * const users = makeRegion({ name: 'users', backend: memory() })
 * export const options: OpenTelemetryOptions = { api, regions: [users] }
 * ```
 */
export interface OpenTelemetryOptions {
  /** `import * as api from '@opentelemetry/api'` */
  readonly api: OpenTelemetryApi
  /** The regions whose reads and creations are counted. Creations of all regions have spans. */
  readonly regions: readonly Region[]
}

/** The code of a span's status, by the specification of OpenTelemetry. */
const STATUS_ERROR = 2

/**
 * Makes spans and metrics until the returned function is called. The process has one set of them: pass all regions in one call,
 * after the SDK is set up.
 *
 * | span | attributes |
 * |---|---|
 * | `corral.create`, from before the creator runs until it has settled | `corral.region`, `corral.namespace`, `corral.keys`: how many |
 *
 * | metric | attributes |
 * |---|---|
 * | `corral.reads` | `region`, `namespace`, `result`: `hit`, `stale`, `miss` |
 * | `corral.near_hits` | `region`, `namespace`: hits that a near cache served |
 * | `corral.joined` | `region`, `namespace`: reads that waited for another caller's creation |
 * | `corral.creations` | `region`, `namespace`, `outcome`: `created`, `failed` |
 * | `corral.creation.duration`, s | the same, as a histogram |
 * | `corral.invalidations` | `region`, `what`, `mode` |
 * | `corral.unstored` | `region` |
 * | `corral.evictions` | `backend`, `reason` |
 * | `corral.failures` | `where` |
 * | `corral.undecodable` | `layer` |
 * @example
 * ```ts
 * import * as api from '@opentelemetry/api'
 * import { makeRegion } from 'corral'
 * import { memory } from 'corral/backends/memory'
 * import { openTelemetry } from 'corral/integrations/otel'
 *
 * const users = makeRegion({ name: 'users', backend: memory() })
 * const end = openTelemetry({ api, regions: [users] })
 * end() // at shutdown
 * ```
 * @throws CorralError `ERR_OPTION`, also for a second set before the first one has ended: everything would count twice.
 */
export function openTelemetry(options: OpenTelemetryOptions): () => void {
  options = ownOptions(options)
  checkOpenTelemetry(options)
  const { api } = options
  const regions = Array.from(new Set(options.regions))
  const release = claimReceivers(
    [api.trace, api.metrics],
    'Expected one call of openTelemetry() for all regions, got another one while the first is in use: spans and durations would count twice. Pass all regions in one call, or end the first.',
  )
  const meter = api.metrics.getMeter('corral') as OtelMeter
  const observed = STATISTICS.map((statistic) => {
    const counter = meter.createObservableCounter(`corral.${statistic.name}`, { description: statistic.help })
    const observe: OtelObserver = (result) => {
      for (const [attributes, count] of countsOf(regions, statistic)) result.observe(count, attributes)
    }
    counter.addCallback(observe)
    return () => counter.removeCallback(observe)
  })
  const counted = Object.entries(EVENTS).map(([kind, { name, help, labels }]) => {
    const counter = meter.createCounter(`corral.${name}`, { description: help })
    return on(kind as keyof typeof EVENTS, (message) =>
      counter.add(countOf(message), labelsOf(message, labels)),
    )
  })
  const durations = meter.createHistogram('corral.creation.duration', {
    description: 'Time of creators',
    unit: 's',
  })
  const timed = on('create', (message) => durations.record(message.milliseconds / 1_000, outcomeOf(message)))
  const ends = [...observed, ...counted, timed, traceCreations(api), release]
  return () => {
    for (const end of ends.splice(0)) end()
  }
}

/** Each creator runs in the context of its span, so that its own spans hang under that one. */
function traceCreations({ trace, context }: OpenTelemetryApi): () => void {
  const tracer = trace.getTracer('corral')
  const spans = new WeakMap<CreationTrace, OtelSpan>()
  /** The channel enters the context of OpenTelemetry, whose own storage is none of the API. */
  class SpanContext extends AsyncLocalStorage<OtelSpan> {
    override run<R>(span: OtelSpan, work: () => R): R {
      return context.with(trace.setSpan(context.active() as never, span as never) as never, work) as R
    }
  }
  const inSpan = new SpanContext()
  const begin = (creation: CreationTrace): OtelSpan => {
    const { region, namespace, keys } = creation
    const attributes = {
      ...(region !== undefined && { 'corral.region': region }),
      ...(namespace !== undefined && { 'corral.namespace': namespace }),
      'corral.keys': keys.length,
    }
    const span = tracer.startSpan('corral.create', { attributes }) as OtelSpan
    spans.set(creation, span)
    return span
  }
  const end = (creation: CreationTrace): void => {
    const span = spans.get(creation)
    if (span === undefined) return
    spans.delete(creation)
    if ('error' in creation) {
      if (creation.error instanceof Error) span.recordException(creation.error)
      span.setStatus({ code: STATUS_ERROR })
    }
    span.end()
  }
  creationChannel.start.bindStore(inSpan, begin as (creation: unknown) => OtelSpan)
  creationChannel.asyncEnd.subscribe(end as (creation: unknown) => void)
  return () => {
    creationChannel.start.unbindStore(inSpan)
    creationChannel.asyncEnd.unsubscribe(end as (creation: unknown) => void)
  }
}

function checkOpenTelemetry(options: OpenTelemetryOptions): void {
  checkOptions(
    options,
    'openTelemetry()',
    {
      api: (api) => {
        const parts = api as Readonly<Record<string, unknown>> | undefined
        expectMethods(
          parts?.trace,
          ['getTracer', 'setSpan'],
          '`api` of openTelemetry() to be @opentelemetry/api',
        )
        expectMethods(parts?.context, ['active', 'with'], '`api` of openTelemetry() to be @opentelemetry/api')
        expectMethods(
          parts?.metrics,
          ['getMeter'],
          '`api` of openTelemetry() to be @opentelemetry/api 1.3 or later',
        )
      },
      regions: (regions) => {
        expectThat(Array.isArray(regions), regions, '`regions` of openTelemetry() to be a list of regions')
        for (const region of regions)
          expectMethods(region, ['stats'], 'each of `regions` of openTelemetry() to be a region')
      },
    },
    ['api', 'regions'],
  )
}

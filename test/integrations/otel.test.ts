import * as api from '@opentelemetry/api'
import { AsyncLocalStorageContextManager } from '@opentelemetry/context-async-hooks'
import {
  AggregationTemporality,
  InMemoryMetricExporter,
  MeterProvider,
  PeriodicExportingMetricReader,
} from '@opentelemetry/sdk-metrics'
import { BasicTracerProvider, InMemorySpanExporter, SimpleSpanProcessor } from '@opentelemetry/sdk-trace-base'
import { afterAll, afterEach, describe, expect, it } from 'vitest'
import { memory } from '../../backends/memory/index.js'
import { dependencies } from '../../proxies/dependencies.js'
import { dep, makeRegion, wrap } from '../../src/index.js'
import { type OpenTelemetryApi, openTelemetry } from '../../src/integrations/otel.js'

const spans = new InMemorySpanExporter()
api.context.setGlobalContextManager(new AsyncLocalStorageContextManager().enable())
api.trace.setGlobalTracerProvider(
  new BasicTracerProvider({ spanProcessors: [new SimpleSpanProcessor(spans)] }),
)
const exported = new InMemoryMetricExporter(AggregationTemporality.CUMULATIVE)
const reader = new PeriodicExportingMetricReader({ exporter: exported, exportIntervalMillis: 2 ** 30 })
const meters = new MeterProvider({ readers: [reader] })
api.metrics.setGlobalMeterProvider(meters)
afterAll(() => meters.shutdown())

const ends: (() => void)[] = []
afterEach(() => {
  for (const end of ends.splice(0)) end()
  spans.reset()
})

const tracer = api.trace.getTracer('test')

function watched(name = 'users') {
  const region = makeRegion<string>({
    name,
    backend: wrap(memory({ maxEntries: 100 }), dependencies()),
  })
  ends.push(openTelemetry({ api, regions: [region] }))
  return region
}

/** The points of a metric for the region of one test that are not zero, by their attributes. */
async function points(name: string): Promise<Record<string, number>> {
  await reader.forceFlush()
  const metrics =
    exported
      .getMetrics()
      .at(-1)
      ?.scopeMetrics.flatMap((scope) => scope.metrics) ?? []
  exported.reset()
  const found = metrics.find((metric) => metric.descriptor.name === name)
  return Object.fromEntries(
    (found?.dataPoints ?? [])
      .map(({ attributes, value }): [string, number] => [
        Object.values(attributes).join(' '),
        typeof value === 'number' ? value : value.count,
      ])
      .filter(([attributes, count]) => attributes.startsWith('counted') && count > 0),
  )
}

const child = (name: string) => tracer.startActiveSpan(name, (span) => span.end())

describe('openTelemetry()', () => {
  it('takes the real API by its types', () => {
    expect(api satisfies OpenTelemetryApi).toBe(api)
  })

  it('puts the spans of a creator under the creation, and that under the request', async () => {
    const region = watched()
    const load = region.cacheOnArguments({ namespace: 'user' })(async (id: number) => {
      child('before')
      await Promise.resolve()
      child('after')
      return `user ${id}`
    })
    await tracer.startActiveSpan('request', async (request) => {
      await load(5)
      child('beside')
      await load(5)
      request.end()
    })
    const byName = Object.fromEntries(spans.getFinishedSpans().map((span) => [span.name, span]))
    expect(Object.keys(byName).sort()).toEqual(['after', 'before', 'beside', 'corral.create', 'request'])
    const parent = (name: string) => byName[name]?.parentSpanContext?.spanId
    const id = (name: string) => byName[name]?.spanContext().spanId
    expect(parent('before')).toBe(id('corral.create'))
    expect(parent('after')).toBe(id('corral.create'))
    expect(parent('corral.create')).toBe(id('request'))
    expect(parent('beside')).toBe(id('request'))
    expect(byName['corral.create']?.attributes).toEqual({
      'corral.region': 'users',
      'corral.namespace': 'user',
      'corral.keys': 1,
    })
  })

  it('nests the creation of a part under the creation around it', async () => {
    const region = watched()
    await region.getOrCreate('whole', async () => `of ${await region.getOrCreate('part', () => 'part')}`)
    const [part, whole] = spans.getFinishedSpans()
    expect(part?.parentSpanContext?.spanId).toBe(whole?.spanContext().spanId)
  })

  it.each([
    [
      'at once',
      () => {
        throw new Error('no')
      },
    ],
    ['later', () => Promise.reject(new Error('no'))],
  ])('tells of a creator that fails %s', async (_, creator: () => Promise<string>) => {
    const region = watched()
    await expect(region.getOrCreate('ada@example.com', creator)).rejects.toThrow('no')
    const [span, ...others] = spans.getFinishedSpans()
    expect(others).toEqual([])
    expect(span?.status.code).toBe(api.SpanStatusCode.ERROR)
    expect(span?.events.map(({ name }) => name)).toEqual(['exception'])
    expect(JSON.stringify([span?.attributes, span?.name])).not.toContain('ada')
    // The last attempt's failure is over: the next creation has a span of its own.
    expect(await region.getOrCreate('ada@example.com', () => 'Ada')).toBe('Ada')
    expect(spans.getFinishedSpans()[1]?.status.code).toBe(api.SpanStatusCode.UNSET)
  })

  it('counts reads, creations and invalidations', async () => {
    const region = watched('counted')
    const load = region.cacheOnArguments({ namespace: 'user' })(async (id: number) => `user ${id}`)
    await load(5)
    await load(5)
    await region.invalidateDependencies(dep.id('user', 5))
    await region.getOrCreate('bad', () => Promise.reject(new Error('no'))).catch(() => undefined)
    expect(await points('corral.reads')).toEqual({
      'counted user hit': 1,
      'counted user miss': 1,
      'counted  miss': 1,
    })
    expect(await points('corral.creations')).toEqual({ 'counted user created': 1, 'counted  failed': 1 })
    expect(await points('corral.creation.duration')).toEqual({
      'counted user created': 1,
      'counted  failed': 1,
    })
    expect(await points('corral.invalidations')).toEqual({ 'counted dependencies hard': 1 })
  })

  it('makes no span after its end, and may begin again', async () => {
    const region = watched()
    ends.pop()?.()
    await region.getOrCreate('a', () => 'a')
    expect(spans.getFinishedSpans()).toEqual([])
    ends.push(openTelemetry({ api, regions: [region] }))
    await region.getOrCreate('b', () => 'b')
    expect(spans.getFinishedSpans()).toHaveLength(1)
  })

  it('refuses a second set while one is in use: everything would count twice', () => {
    const region = watched()
    for (const other of [api, { ...api }])
      expect(() => openTelemetry({ api: other, regions: [region] })).toThrow(
        expect.objectContaining({
          code: 'ERR_OPTION',
          message: expect.stringContaining('all regions in one call'),
        }),
      )
  })

  it.each([
    [undefined, /an? (plain )?object/],
    [{ regions: [] }, /`api`/],
    [{ api: {}, regions: [] }, /`api`/],
    [{ api, regions: 'users' }, /`regions`/],
    [{ api, regions: [{}] }, /`regions`/],
    [{ api, regions: [], tracer: 1 }, /`tracer`/],
  ])('refuses %o', (options, message) => {
    expect(() => openTelemetry(options as never)).toThrow(
      expect.objectContaining({ code: 'ERR_OPTION', message: expect.stringMatching(message) }),
    )
  })
})

/**
 * The numbers of regions for Prometheus, by the package `prom-client`. Reads and creations come from `region.stats()` when a
 * scrape asks for them, so a hit costs nothing more. Rarer events are counted as they happen.
 *
 * No key and no name of a dependency becomes a label: they may be personal data, and each would be a time series of its own.
 */
import type { Messages } from '../base/diagnostics.js'
import {
  checkOptions,
  expectFunction,
  expectMethods,
  expectText,
  expectThat,
  ownOptions,
} from '../base/options.js'
import type { Region } from '../region/types.js'
import { countOf, countsOf, EVENTS, labelsOf, on, outcomeOf, STATISTICS } from './telemetry/counts.js'

type Labels = Record<string, string>

interface PromCounter {
  inc(labels: Labels, value?: number): void
  reset(): void
}

interface PromHistogram {
  observe(labels: Labels, value: number): void
}

interface MetricOptions {
  name: string
  help: string
  labelNames: string[]
  registers: never[]
}

/**
 * The members of `prom-client` that are used.
 * @example
 * ```ts
 * import type { PrometheusClient } from 'corral/integrations/prometheus'
 * import * as client from 'prom-client'
 *
 * export const used: PrometheusClient = client
 * ```
 */
export interface PrometheusClient {
  readonly Counter: new (options: MetricOptions & { collect?: (this: PromCounter) => void }) => PromCounter
  readonly Histogram: new (options: MetricOptions & { buckets?: number[] }) => PromHistogram
  readonly register: PrometheusRegistry
}

/**
 * A `Registry` of `prom-client`.
 * @example
 * ```ts
 * import type { PrometheusRegistry } from 'corral/integrations/prometheus'
 * import { Registry } from 'prom-client'
 *
 * export const registry: PrometheusRegistry = new Registry()
 * ```
 */
export interface PrometheusRegistry {
  registerMetric(metric: never): void
  removeSingleMetric(name: string): void
}

/**
 * The options of `prometheus()`.
 * @example
 * ```ts
 * import { makeRegion } from 'corral'
 * import { memory } from 'corral/backends/memory'
 * import type { PrometheusOptions } from 'corral/integrations/prometheus'
 * import * as client from 'prom-client'
 *
 * const users = makeRegion({ name: 'users', backend: memory() })
 * export const options: PrometheusOptions = { client, regions: [users], prefix: 'shop_cache' }
 * ```
 */
export interface PrometheusOptions {
  /** `import * as client from 'prom-client'` */
  readonly client: PrometheusClient
  /** The regions whose reads and creations are counted. */
  readonly regions: readonly Region[]
  /** @default the default registry of `client` */
  readonly registry?: PrometheusRegistry | undefined
  /** The text before the name of each metric. @default 'corral' */
  readonly prefix?: string | undefined
  /** The bounds of the histogram of creations, in seconds. @default those of prom-client */
  readonly buckets?: readonly number[] | undefined
}

/**
 * Registers the metrics. The process has one set of them: pass all regions in one call. Returns a function that removes
 * the metrics and ends the subscriptions.
 *
 * | metric | labels |
 * |---|---|
 * | `corral_reads_total` | `region`, `namespace`, `result`: `hit`, `stale`, `miss` |
 * | `corral_near_hits_total` | `region`, `namespace`: hits that a near cache served |
 * | `corral_joined_total` | `region`, `namespace`: reads that waited for another caller's creation |
 * | `corral_creations_total` | `region`, `namespace`, `outcome`: `created`, `failed` |
 * | `corral_creation_duration_seconds` | the same, as a histogram |
 * | `corral_invalidations_total` | `region`, `what`, `mode` |
 * | `corral_unstored_total` | `region` |
 * | `corral_evictions_total` | `backend`, `reason` |
 * | `corral_failures_total` | `where` |
 * | `corral_undecodable_total` | `layer` |
 * @example
 * ```ts
 * import { makeRegion } from 'corral'
 * import { memory } from 'corral/backends/memory'
 * import { prometheus } from 'corral/integrations/prometheus'
 * import * as client from 'prom-client'
 *
 * const users = makeRegion({ name: 'users', backend: memory() })
 * prometheus({ client, regions: [users] })
 * console.log(await client.register.metrics()) // for the route /metrics
 * ```
 * @throws CorralError `ERR_OPTION`; an error of prom-client when a metric is registered already.
 */
export function prometheus(options: PrometheusOptions): () => void {
  options = ownOptions(options)
  checkPrometheus(options)
  const { client, registry = client.register, prefix = 'corral' } = options
  const regions = Array.from(new Set(options.regions))
  const names: string[] = []
  const config = (name: string, help: string, ...labelNames: string[]) => ({
    name: `${prefix}_${name}`,
    help,
    labelNames,
    registers: [] as never[],
  })
  const registered = <M>(metric: M, { name }: MetricOptions): M => {
    registry.registerMetric(metric as never)
    names.push(name)
    return metric
  }
  const counter = (...[name, help, ...labels]: Parameters<typeof config>) => {
    const made = config(name, help, ...labels)
    return registered(new client.Counter(made), made)
  }
  for (const metric of STATISTICS) {
    const made = config(`${metric.name}_total`, metric.help, 'region', 'namespace', ...metric.labels)
    const collect = function (this: PromCounter) {
      this.reset()
      for (const [labels, count] of countsOf(regions, metric)) this.inc(labels, count)
    }
    registered(new client.Counter({ ...made, collect }), made)
  }
  const duration = config('creation_duration_seconds', 'Time of creators', 'region', 'namespace', 'outcome')
  const buckets = options.buckets && { buckets: [...options.buckets] }
  const durations = registered(new client.Histogram({ ...duration, ...buckets }), duration)
  const ends = [
    ...Object.entries(EVENTS).map(([kind, { name, help, labels }]) => {
      const counted = counter(`${name}_total`, help, ...Object.keys(labels))
      return on(kind as keyof Messages, (message) => counted.inc(labelsOf(message, labels), countOf(message)))
    }),
    on('create', (message) => durations.observe(outcomeOf(message), message.milliseconds / 1_000)),
  ]
  return () => {
    for (const end of ends) end()
    for (const name of names) registry.removeSingleMetric(name)
  }
}

function checkPrometheus(options: PrometheusOptions): void {
  checkOptions(
    options,
    'prometheus()',
    {
      client: (client) =>
        ['Counter', 'Histogram'].forEach((name) =>
          expectFunction(
            (client as Record<string, unknown> | undefined)?.[name],
            `\`client.${name}\` of prometheus()`,
          ),
        ),
      regions: (regions) => {
        expectThat(Array.isArray(regions), regions, '`regions` of prometheus() to be a list of regions')
        for (const region of regions)
          expectMethods(region, ['stats'], 'each of `regions` of prometheus() to be a region')
      },
      registry: (registry) =>
        expectMethods(
          registry,
          ['registerMetric'],
          '`registry` of prometheus() to be a Registry of prom-client',
        ),
      prefix: expectText,
      buckets: (buckets) =>
        expectThat(Array.isArray(buckets), buckets, '`buckets` of prometheus() to be a list of seconds'),
    },
    ['client', 'regions'],
  )
}

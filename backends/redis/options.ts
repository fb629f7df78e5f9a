import { type Duration, milliseconds } from '../../src/base/duration.js'
import { CorralError, formatValue } from '../../src/base/errors.js'
import { rejectUnknownOptions } from '../../src/base/options.js'
import {
  type ClusterNode,
  type ClusterOptions,
  type Connection,
  checkUrl,
  isRedisClient,
  type RedisClient,
  rejectUnsafeClient,
} from './client/client.js'

/** Where Redis is (one of `url`, `connection`, `cluster`, `client`), and what to do when it is not there. */
export interface RedisBackendOptions {
  /** `redis://user:password@host:6379/0`, `rediss://…` for TLS, or the path of a socket. */
  readonly url?: string
  /** What ioredis' `new Redis(…)` takes: `host`, `tls`, `username`, `sentinels` and `name`, … Goes together with `url` and `cluster`. */
  readonly connection?: Connection
  /** Start-up nodes of Redis Cluster: `'host:port'`, `'rediss://…'`, or both apart. */
  readonly cluster?: readonly ClusterNode[]
  /** What ioredis' `new Cluster(…)` takes beside `redisOptions`. */
  readonly clusterOptions?: ClusterOptions
  /** A client of yours, ioredis 5 or 6. It is never closed here. */
  readonly client?: RedisClient
  /** For a command, waiting for a connection included. @default '2s' */
  readonly timeout?: Duration
  /** Commands under way; more are refused at once. @default 10_000 */
  readonly maxPending?: number
  /** Keys in one `MGET`. @default 512 */
  readonly maxBatch?: number
  /** Larger values are refused before they are sent. @default 512 MiB, the server's own limit */
  readonly maxValueBytes?: number
  /** A failing read is a miss, and a creation goes on without the store. @default false: it rejects */
  readonly failOpen?: boolean
  /**
   * Invalidations that failed are done again when Redis is back; until then their keys are misses in this process. How
   * many are kept: `max`. They reject all the same. @default { max: 10_000 }
   */
  readonly recovery?: boolean | { readonly max: number }
  /** After so many failures in a row nothing is sent until a probe succeeds. @default { failures: 5, cooldown: '1s' } */
  readonly breaker?: false | { readonly failures?: number; readonly cooldown?: Duration }
  /**
   * Invalidations and plain writes count only when so many replicas have them (`WAIT`); else they reject after its own
   * `timeout`, which is shorter than that of commands. @default none; its timeout '500ms' */
  readonly replicas?: { readonly count: number; readonly timeout?: Duration }
  /** How long the stamp of a dependency is kept after it was last needed; entries that live longer keep theirs longer. @default '1d' */
  readonly stampLifetime?: Duration
}

/** The options, read and checked. */
export interface RedisSettings {
  readonly source:
    | { readonly client: RedisClient }
    | { readonly url: string | undefined; readonly connection: Connection }
    | {
        readonly nodes: readonly ClusterNode[]
        readonly connection: Connection
        readonly clusterOptions: ClusterOptions
      }
  readonly timeout: number
  readonly maxPending: number
  readonly maxBatch: number
  readonly maxValueBytes: number
  readonly failOpen: boolean
  readonly recovery: number | undefined
  readonly breaker: { readonly failures: number; readonly cooldown: number } | undefined
  readonly replicas: { readonly count: number; readonly timeout: number } | undefined
  readonly stampLifetime: number
}

const KNOWN: readonly (keyof RedisBackendOptions)[] = [
  'url',
  'connection',
  'cluster',
  'clusterOptions',
  'client',
  'timeout',
  'maxPending',
  'maxBatch',
  'maxValueBytes',
  'failOpen',
  'recovery',
  'breaker',
  'replicas',
  'stampLifetime',
]

/** @throws CorralError `ERR_OPTION` for anything that cannot be right. */
export function parseOptions(given: string | RedisClient | RedisBackendOptions): RedisSettings {
  const options: RedisBackendOptions =
    typeof given === 'string' ? { url: given } : isRedisClient(given) ? { client: given } : given
  if (typeof options !== 'object' || options === null)
    throw new CorralError(
      'ERR_OPTION',
      `Expected redis() to receive a URL such as 'redis://host:6379', a client or options, got ${formatValue(given)}.`,
    )
  rejectUnknownOptions(options, KNOWN, 'redis()')
  const { recovery = true, breaker = {}, replicas } = options
  return {
    source: sourceOf(options),
    timeout: milliseconds(options.timeout ?? '2s', 'timeout'),
    maxPending: count(options.maxPending ?? 10_000, 'maxPending'),
    maxBatch: count(options.maxBatch ?? 512, 'maxBatch'),
    maxValueBytes: count(options.maxValueBytes ?? 512 * 1_024 * 1_024, 'maxValueBytes'),
    failOpen: flag(options.failOpen ?? false, 'failOpen'),
    recovery:
      typeof recovery === 'object'
        ? count(recovery.max, 'recovery.max')
        : flag(recovery, 'recovery')
          ? 10_000
          : undefined,
    breaker:
      breaker === false
        ? undefined
        : {
            failures: count(breaker.failures ?? 5, 'breaker.failures'),
            cooldown: milliseconds(breaker.cooldown ?? '1s', 'breaker.cooldown'),
          },
    replicas: replicas && copies(replicas, milliseconds(options.timeout ?? '2s', 'timeout')),
    stampLifetime: milliseconds(options.stampLifetime ?? '1d', 'stampLifetime'),
  }
}

function sourceOf({
  url,
  connection,
  cluster,
  clusterOptions = {},
  client,
}: RedisBackendOptions): RedisSettings['source'] {
  if (client !== undefined) {
    if (!isRedisClient(client))
      throw new CorralError(
        'ERR_OPTION',
        `Expected \`client\` to be a client of ioredis 5 or 6, got ${formatValue(client)}.`,
      )
    const other = url ?? connection ?? cluster
    if (other !== undefined)
      throw new CorralError(
        'ERR_OPTION',
        'Expected either a `client` of yours, or where to connect to, got both. Drop one of them.',
      )
    rejectUnsafeClient(client)
    return { client }
  }
  if (connection !== undefined && (typeof connection !== 'object' || connection === null))
    throw new CorralError(
      'ERR_OPTION',
      `Expected \`connection\` to be options of ioredis, got ${formatValue(connection)}.`,
    )
  if (cluster !== undefined) {
    if (!Array.isArray(cluster) || cluster.length === 0)
      throw new CorralError(
        'ERR_OPTION',
        `Expected \`cluster\` to list start-up nodes such as 'host:7000', got ${formatValue(cluster)}.`,
      )
    for (const node of cluster) checkNode(node)
    if (connection?.keyPrefix !== undefined)
      throw new CorralError(
        'ERR_OPTION',
        'Expected no `keyPrefix` with `cluster`: it would part keys from their leases. Put prefix() into the chain instead.',
      )
    return { nodes: cluster, connection: connection ?? {}, clusterOptions }
  }
  if (url !== undefined) checkUrl(url)
  if (url === undefined && connection === undefined)
    throw new CorralError(
      'ERR_OPTION',
      'Expected redis() to be told where Redis is: a URL, a client, `connection` or `cluster`. Got neither.',
    )
  return { url, connection: connection ?? {} }
}

function checkNode(node: ClusterNode): void {
  if (typeof node === 'string') checkUrl(node.includes('://') ? node : `redis://${node}`)
  else if (typeof node?.host !== 'string' || !Number.isInteger(node.port))
    throw new CorralError(
      'ERR_OPTION',
      `Expected a node of \`cluster\` to be 'host:port' or { host, port }, got ${formatValue(node)}.`,
    )
}

function count(value: unknown, option: string): number {
  if (typeof value === 'number' && Number.isInteger(value) && value > 0) return value
  throw new CorralError(
    'ERR_OPTION',
    `Expected \`${option}\` to be a whole number above zero, got ${formatValue(value)}.`,
  )
}

function copies(
  { count: most, timeout: given = '500ms' }: NonNullable<RedisBackendOptions['replicas']>,
  limit: number,
): RedisSettings['replicas'] {
  const timeout = milliseconds(given, 'replicas.timeout')
  if (timeout < limit) return { count: count(most, 'replicas.count'), timeout }
  throw new CorralError(
    'ERR_OPTION',
    `Expected \`replicas.timeout\` to be less than \`timeout\` (${limit} ms), got ${formatValue(given)}: commands would be given up before the replicas are.`,
  )
}

function flag(value: unknown, option: string): boolean {
  if (typeof value === 'boolean') return value
  throw new CorralError(
    'ERR_OPTION',
    `Expected \`${option}\` to be true or false, got ${formatValue(value)}.`,
  )
}

import { type Duration, expectDuration, milliseconds } from '../../src/base/duration.js'
import {
  checkOptions,
  expectBoolean,
  expectInteger,
  expectThat,
  type OptionCheck,
  ownOptions,
  rejectOptions,
} from '../../src/base/options.js'
import { copyPlain } from '../../src/base/parts.js'
import { MAX_DELAY } from '../../src/base/timers.js'
import {
  type ClusterNode,
  type ClusterOptions,
  type Connection,
  checkUrl,
  expectSafeClient,
  expectSafeOptions,
  isCluster,
  isRedisClient,
  openCluster,
  openStandalone,
  optionsOf,
  prefixOf,
  type RedisClient,
} from './client/client.js'
import type { Replicas } from './client/script-runner.js'
import { lifetimeArg } from './format.js'

/**
 * Where Redis is (one of `url`, `connection`, `cluster`, `client`), and the behaviour while it is away.
 * @example
 * ```ts
 * import { type RedisBackendOptions, redis } from 'corral/backends/redis'
 *
 * const options: RedisBackendOptions = { url: 'redis://localhost:6379', timeout: '500ms', failOpen: true }
 * export const backend = redis(options)
 * ```
 */
export interface RedisBackendOptions {
  /** `redis://user:password@host:6379/0`, `rediss://…` for TLS, or the path of a socket. */
  readonly url?: string | undefined
  /** The options of ioredis' `new Redis(…)`: `host`, `tls`, `username`, `sentinels` and `name`, … Goes together with `url` and `cluster`. */
  readonly connection?: Connection | undefined
  /** Start-up nodes of Redis Cluster: `'host:port'`, `'rediss://…'`, or both apart. */
  readonly cluster?: readonly ClusterNode[] | undefined
  /** The options of ioredis' `new Cluster(…)` except `redisOptions`. */
  readonly clusterOptions?: ClusterOptions | undefined
  /** A client of yours, ioredis 5 or 6. It is never closed here. */
  readonly client?: RedisClient | undefined
  /** For a command, waiting for a connection included; while it waits for its turn it counts from the latest reply. @default '2s' */
  readonly timeout?: Duration | undefined
  /** Commands under way at one time, on a Cluster for each node; more wait for their turn. @default 1_000 */
  readonly maxPending?: number | undefined
  /**
   * Commands that wait for their turn, and beside them keys of reads; more are refused at once. The bound protects the
   * memory of this process. @default 100_000
   */
  readonly maxWaiting?: number | undefined
  /** Keys in one `MGET`. @default 512 */
  readonly maxBatch?: number | undefined
  /** Larger values are refused before they are sent. @default 512 MiB, the server's own limit */
  readonly maxValueBytes?: number | undefined
  /**
   * A failing read is a miss, and a creation goes on without the store: at once if Redis refuses the connection or has
   * closed it, and after one `timeout` if it does not reply. @default false: it rejects
   */
  readonly failOpen?: boolean | undefined
  /**
   * Invalidations that failed are done again when Redis is back; until then their keys are misses in this process. How
   * many are kept: `max`. They reject all the same. @default { max: 10_000 }
   */
  readonly recovery?: boolean | { readonly max: number } | undefined
  /** After so many failures in a row nothing is sent until a probe succeeds. @default { failures: 5, cooldown: '1s' } */
  readonly breaker?:
    | false
    | { readonly failures?: number | undefined; readonly cooldown?: Duration | undefined }
    | undefined
  /**
   * Invalidations and plain writes count only when so many replicas have them (`WAIT`); else they reject after its own
   * `timeout`, which is shorter than that of commands. @default none; its timeout '500ms' */
  readonly replicas?: { readonly count: number; readonly timeout?: Duration | undefined } | undefined
  /** How long the stamp of a dependency is kept after it was last needed; entries that live longer keep theirs longer. @default '1d' */
  readonly stampLifetime?: Duration | undefined
  /**
   * Before a transaction commits, the names that it is about to change are marked, so that they are invalidated also if its
   * process dies between the commit and the invalidation. For how long, if nothing ends the mark: it must exceed the commit.
   * `false`: they are not marked. @default '30s'; with a Cluster, where it is a command for each name, false
   */
  readonly pendingFor?: Duration | false | undefined
}

/** The server, and the way to reach it. */
interface RedisSource {
  /** Makes the client, or returns the one that was passed. */
  readonly open: () => Promise<RedisClient>
  /** Whether this backend closes the client. */
  readonly isOurs: boolean
  readonly clustered: boolean
  /** The prefix that the client puts before every key. */
  readonly prefix: string
  readonly database: number
}

/** The options, read and checked: times in ms. */
export type RedisSettings = ReturnType<typeof parseOptions>

const CHECKS: Readonly<Record<keyof RedisBackendOptions, OptionCheck>> = {
  url: checkUrl,
  connection: expectObject,
  cluster: checkNodes,
  clusterOptions: expectObject,
  client: (client, subject) =>
    expectThat(isRedisClient(client), client, `${subject} to be a client of ioredis 5 or 6`),
  timeout: expectDuration,
  maxPending: expectCount,
  maxWaiting: expectCount,
  maxBatch: expectCount,
  maxValueBytes: expectCount,
  failOpen: expectBoolean,
  recovery: (value, subject) =>
    typeof value === 'object'
      ? checkOptions(value as object, subject, { max: expectCount }, ['max'])
      : expectBoolean(value, subject),
  breaker: (value, subject) =>
    value === false ||
    checkOptions(value as object, subject, { failures: expectCount, cooldown: expectDuration }),
  replicas: (value, subject) =>
    checkOptions(value as object, subject, { count: expectCount, timeout: expectDuration }, ['count']),
  stampLifetime: expectDuration,
  pendingFor: (value, subject) => value === false || expectDuration(value, subject),
}

/** @throws CorralError `ERR_OPTION` for an option that is invalid. */
export function parseOptions(given: string | RedisClient | RedisBackendOptions) {
  const options: RedisBackendOptions =
    typeof given === 'string' ? { url: given } : isRedisClient(given) ? { client: given } : ownOptions(given)
  expectThat(
    typeof options === 'object' && options !== null,
    given,
    "redis() to receive a URL such as 'redis://host:6379', a client or options",
  )
  const misplaced = ['host', 'port', 'username', 'password', 'db', 'tls'].find((name) => name in options)
  if (misplaced !== undefined)
    rejectOptions(
      `Expected \`${misplaced}\` in \`connection\` of redis(), got it beside. Write redis({ connection: { host, port } }), or give a URL.`,
    )
  checkOptions(options, 'redis()', CHECKS)
  const {
    maxPending = 1_000,
    maxWaiting = 100_000,
    maxBatch = 512,
    maxValueBytes = 512 * 1_024 * 1_024,
    failOpen = false,
  } = options
  const { recovery = true, breaker = {}, replicas } = options
  const timeout = milliseconds(options.timeout ?? '2s', 'timeout')
  const source = parseSource(options)
  const life = options.pendingFor ?? (source.clustered ? false : '30s')
  const pendingFor = life === false ? 0 : milliseconds(life, 'pendingFor')
  const stampLifetime = Number(lifetimeArg(milliseconds(options.stampLifetime ?? '1d', 'stampLifetime')))
  // A mark that outlived its stamp could end without a trace.
  expectThat(
    stampLifetime >= pendingFor,
    options.stampLifetime,
    `\`stampLifetime\` of redis() to be at least \`pendingFor\`, ${pendingFor} ms`,
  )
  return {
    source,
    timeout,
    maxPending,
    maxWaiting,
    maxBatch,
    maxValueBytes,
    failOpen,
    /** Invalidations to remember; 0: none. */
    recovery: typeof recovery === 'object' ? recovery.max : recovery ? 10_000 : 0,
    breaker: breaker === false ? undefined : parseBreaker(breaker),
    replicas: replicas && parseReplicas(replicas, timeout),
    stampLifetime,
    pendingFor,
  }
}

function parseBreaker({
  failures = 5,
  cooldown = '1s',
}: Exclude<RedisBackendOptions['breaker'], false | undefined>) {
  return { failures, cooldown: milliseconds(cooldown, 'breaker.cooldown') }
}

function expectCount(value: unknown, subject: string): void {
  expectInteger(value, subject)
}

function expectObject(value: unknown, subject: string): void {
  const isObject = typeof value === 'object' && value !== null && !Array.isArray(value)
  expectThat(isObject, value, `${subject} to be options of ioredis`)
}

function checkNodes(nodes: unknown): void {
  const isList = Array.isArray(nodes) && nodes.length > 0
  expectThat(isList, nodes, "`cluster` to list start-up nodes such as 'host:7000'")
  for (const node of nodes as readonly ClusterNode[])
    if (typeof node === 'string') checkUrl(node.includes('://') ? node : `redis://${node}`)
    else {
      const isAddress = typeof node?.host === 'string' && Number.isInteger(node.port)
      expectThat(isAddress, node, "a node of `cluster` to be 'host:port' or { host, port }")
    }
}

function parseSource(options: RedisBackendOptions): RedisSource {
  const { url, client } = options
  // The client is made at the first use. The caller may change its objects before.
  const [connection, clusterOptions] = [options.connection, options.clusterOptions].map((one) =>
    copyPlain({ ...one }),
  ) as [Connection, ClusterOptions]
  const cluster = copyPlain(options.cluster)
  if (client !== undefined) {
    if ((url ?? options.connection ?? cluster) !== undefined)
      rejectOptions('Expected either a `client` or the place of the server, got both. Drop one of them.')
    expectSafeClient(client)
    const { db: database = 0 } = optionsOf(client)
    const [clustered, prefix] = [isCluster(client), prefixOf(client)]
    return { open: async () => client, isOurs: false, clustered, prefix, database }
  }
  for (const one of [connection, clusterOptions, clusterOptions.redisOptions ?? {}])
    expectSafeOptions(one as Parameters<typeof expectSafeOptions>[0])
  const { keyPrefix = '', db = 0 } = connection
  if (cluster !== undefined) {
    expectThat(
      connection.keyPrefix === undefined,
      keyPrefix,
      'no `keyPrefix` with `cluster`',
      'It would part keys from their leases. Put prefix() into the chain instead.',
    )
    const open = () => openCluster(cluster, connection, clusterOptions)
    return { open, isOurs: true, clustered: true, prefix: '', database: 0 }
  }
  if ((url ?? options.connection) === undefined)
    rejectOptions(
      'Expected the place of the server, got none. Give redis() a URL, a client, `connection` or `cluster`.',
    )
  // As for ioredis, the URL goes before the options.
  const inUrl = /^rediss?:\/\/[^/]+\/(\d+)/.exec(url ?? '')?.[1]
  const open = () => openStandalone(url, connection)
  return { open, isOurs: true, clustered: false, prefix: `${keyPrefix}`, database: Number(inUrl ?? db) }
}

function parseReplicas(
  { count, timeout: given = '500ms' }: NonNullable<RedisBackendOptions['replicas']>,
  limit: number,
): Replicas {
  // WAIT takes whole milliseconds.
  const timeout = Math.ceil(milliseconds(given, 'replicas.timeout'))
  expectThat(
    timeout < limit && timeout <= MAX_DELAY,
    given,
    `\`replicas.timeout\` to be less than \`timeout\` (${limit} ms), and at most 24 days`,
    'A command must not time out before its replicas do.',
  )
  return { count: expectInteger(count, '`replicas.count`'), timeout }
}

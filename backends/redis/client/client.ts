import type { ClusterOptions, RedisOptions } from 'ioredis'
import { CorralError, formatValue } from '../../../src/base/errors.js'
import { expectThat, rejectOptions } from '../../../src/base/options.js'
import { importError } from '../../../src/base/peer-package.js'

/**
 * The members that this backend needs of an ioredis client, standalone or cluster, of version 5 or 6.
 * @example
 * ```ts
 * import { type RedisClient, redis } from 'corral/backends/redis'
 * import { Redis } from 'ioredis'
 *
 * const client: RedisClient = new Redis('redis://localhost:6379')
 * export const backend = redis(client)
 * ```
 */
export interface RedisClient {
  readonly status: string
  // biome-ignore lint/suspicious/noExplicitAny: listeners of an EventEmitter
  on(event: string, listener: (...args: any[]) => void): unknown
  // biome-ignore lint/suspicious/noExplicitAny: listeners of an EventEmitter
  off(event: string, listener: (...args: any[]) => void): unknown
  getBuffer(key: string): Promise<Buffer | null>
  mgetBuffer(keys: string[]): Promise<(Buffer | null)[]>
  evalsha(sha: string, count: number, ...args: (string | Buffer)[]): Promise<unknown>
  eval(lua: string, count: number, ...args: (string | Buffer)[]): Promise<unknown>
  info(section: string): Promise<string>
  time(): Promise<unknown>
  ping(): Promise<unknown>
  subscribe(channel: string): Promise<unknown>
  unsubscribe(channel: string): Promise<unknown>
  pipeline(): RedisPipeline
  connect(): Promise<void>
  quit(): Promise<unknown>
  disconnect(): void
}

export interface RedisPipeline {
  mgetBuffer(keys: string[]): unknown
  evalsha(sha: string, count: number, ...args: (string | Buffer)[]): unknown
  eval(lua: string, count: number, ...args: (string | Buffer)[]): unknown
  wait(replicas: number, ms: number): unknown
  exec(): Promise<[error: Error | null, result: unknown][] | null>
}

/**
 * The options of `new Redis(…)` without `replyMapping`, which `exactOptionalPropertyTypes` cannot pass on and this backend
 * does not need.
 * @example
 * ```ts
 * import { type Connection, redis } from 'corral/backends/redis'
 *
 * const connection: Connection = { sentinels: [{ host: 'sentinel1', port: 26379 }], name: 'primary' }
 * export const backend = redis({ connection })
 * ```
 */
export type Connection = Omit<RedisOptions, 'replyMapping'>
export type { ClusterOptions }

/**
 * A start-up node of a cluster: `redis://host:port`, `host:port`, or both apart.
 * @example
 * ```ts
 * import { type ClusterNode, redis } from 'corral/backends/redis'
 *
 * const cluster: readonly ClusterNode[] = ['node1:7000', { host: 'node2', port: 7000 }]
 * export const backend = redis({ cluster })
 * ```
 */
export type ClusterNode = string | { readonly host: string; readonly port: number }

/** The options of a client that matter here. */
interface ClientOptions {
  readonly db?: number
  readonly keyPrefix?: string | Buffer
  readonly scaleReads?: unknown
  readonly role?: string
  readonly readOnly?: boolean
  readonly monitor?: boolean
  readonly enableOfflineQueue?: boolean
  readonly shardedSubscribers?: boolean
  readonly sentinels?: readonly unknown[] | null
  readonly redisOptions?: { readonly keyPrefix?: string | Buffer }
}

export function optionsOf(client: RedisClient): ClientOptions {
  return (client as unknown as { readonly options?: ClientOptions }).options ?? {}
}

export function isCluster(client: RedisClient): boolean {
  return (client as unknown as { readonly isCluster?: unknown }).isCluster === true
}

/** The primary of a slot and its replicas, as far as the client knows. */
function nodesOf(client: RedisClient, slot: number): readonly string[] | undefined {
  const { slots } = client as unknown as { readonly slots?: readonly (readonly string[] | undefined)[] }
  return slots?.[slot]
}

/** A name for the nodes that have a slot. Each slot that the client does not know is on its own. */
export function nodeOf(client: RedisClient, slot: number): string {
  return nodesOf(client, slot)?.join(';') ?? `slot ${slot}`
}

/** The primary that has a slot, '' while the client does not know. */
export function primaryOf(client: RedisClient, slot: number): string {
  return nodesOf(client, slot)?.[0] ?? ''
}

/** Knows an ioredis client by its methods: the application's ioredis may be another copy than ours. */
export function isRedisClient(value: unknown): value is RedisClient {
  if (typeof value !== 'object' || value === null) return false
  const client = value as Record<string, unknown>
  return ['getBuffer', 'mgetBuffer', 'evalsha', 'on', 'duplicate', 'pipeline'].every(
    (name) => typeof client[name] === 'function',
  )
}

/** The prefix that the client itself puts before every key. */
export function prefixOf(client: RedisClient): string {
  const { keyPrefix, redisOptions } = optionsOf(client)
  return `${keyPrefix ?? redisOptions?.keyPrefix ?? ''}`
}

/**
 * @throws CorralError `ERR_OPTION` for a client that reads from replicas, which may return an invalidated value, that
 * moves the keys of a cluster out of the slots of their leases, or that monitors the server instead of reading replies.
 */
export function expectSafeClient<T extends RedisClient>(client: T): T {
  const prefix = prefixOf(client)
  expectThat(
    !isCluster(client) || prefix === '',
    prefix,
    'a cluster client without `keyPrefix`',
    'It would part keys from their leases. Put prefix() into the chain instead.',
  )
  expectSafeOptions(optionsOf(client))
  return client
}

/** @throws CorralError `ERR_OPTION` for options of a client that reads from replicas, or from which no reply comes. */
export function expectSafeOptions({
  scaleReads = 'master',
  role = 'master',
  readOnly = false,
  monitor = false,
}: ClientOptions): void {
  if (monitor)
    rejectOptions('Expected a client for commands, got one that monitors the server. Drop `monitor`.')
  if (scaleReads !== 'master' || role !== 'master' || readOnly)
    rejectOptions(
      'Expected a client that reads from primaries: a replica may still have an invalidated value. Drop `scaleReads`, `role` and `readOnly` from its options.',
    )
}

/**
 * A second connection like the first, for subscriptions. It waits as long as it takes, and knows no prefix.
 * @param otherwise - further options of ioredis in which it differs
 */
export function subscriberLike(client: RedisClient, otherwise: object = {}): RedisClient {
  const { duplicate } = client as unknown as { duplicate(override: object): RedisClient }
  return duplicate.call(client, {
    enableOfflineQueue: true,
    enableReadyCheck: false,
    autoResubscribe: false,
    maxRetriesPerRequest: null,
    commandTimeout: undefined,
    lazyConnect: true,
    keyPrefix: '',
    ...otherwise,
  })
}

/** A connection like the client's, or to some primary of its cluster, which does not come back by itself. */
export function nodeSubscriber(client: RedisClient): RedisClient {
  const nodes = isCluster(client)
    ? (client as unknown as { nodes(role: 'master'): RedisClient[] }).nodes('master')
    : [client]
  const node = nodes[Math.floor(Math.random() * nodes.length)]
  if (node === undefined)
    throw new CorralError('ERR_UNAVAILABLE', 'The cluster has no primary to listen to yet.')
  return subscriberLike(node, { readOnly: false, retryStrategy: () => null })
}

type Ioredis = typeof import('ioredis')

/** @throws CorralError `ERR_OPTION` if ioredis cannot be imported, `ERR_UNSUPPORTED` if it has no such class. */
async function load<N extends 'Redis' | 'Cluster'>(name: N): Promise<Ioredis[N]> {
  const module: Partial<Pick<Ioredis, 'Redis' | 'Cluster'>> = await import('ioredis').catch(
    (error: unknown) => {
      throw importError('ioredis', 'redis() makes its connections', error)
    },
  )
  const found = module[name]
  if (typeof found === 'function') return found as Ioredis[N]
  throw new CorralError(
    'ERR_UNSUPPORTED',
    `Expected ioredis from version 5 on, which exports \`${name}\`, got one without it. Call npm install ioredis@latest.`,
  )
}

/**
 * The differences to ioredis' own defaults. This backend queues and repeats commands itself, since it knows which of them
 * may be repeated. So no command is executed long after its caller saw it fail. Without retries ioredis reports a lost
 * connection at once; without `autoResendUnfulfilledCommands` alone it leaves the commands under way unsettled.
 */
const OWN_DEFAULTS = {
  lazyConnect: true,
  enableOfflineQueue: false,
  autoResendUnfulfilledCommands: false,
  maxRetriesPerRequest: 0,
  retryStrategy: (times: number) => Math.min(times * 50, 1_000) * (0.5 + Math.random() / 2),
  // ms for which ioredis waits for the end of a socket. Between two attempts to connect it has ended, and the wait holds the process.
  disconnectTimeout: 100,
  // ms. Without it ioredis waits for ever for a Sentinel that is frozen, asks no other one, and holds the process.
  sentinelCommandTimeout: 2_000,
  // A demoted primary keeps its connections: find the new one.
  reconnectOnError: (error: Error) => error.message.startsWith('READONLY'),
} as const

export async function openStandalone(url: string | undefined, connection: Connection): Promise<RedisClient> {
  const Redis = await load('Redis')
  const options = { ...OWN_DEFAULTS, ...connection }
  return url === undefined ? new Redis(options) : expectSafeClient(new Redis(url, options))
}

export async function openCluster(
  nodes: readonly ClusterNode[],
  connection: Connection,
  options: ClusterOptions,
): Promise<RedisClient> {
  const Cluster = await load('Cluster')
  const { autoResendUnfulfilledCommands, reconnectOnError } = OWN_DEFAULTS
  const places = nodes.map(parseNode)
  const nodeOptions = {
    autoResendUnfulfilledCommands,
    reconnectOnError,
    ...places[0]?.login,
    ...connection,
    ...options.redisOptions,
    // ioredis declares them in a way that exactOptionalPropertyTypes cannot take apart.
  } as NonNullable<ConstructorParameters<typeof Cluster>[1]>['redisOptions'] & object
  const startUp = places.map(({ host, port }) => ({ host, port }))
  const client = new Cluster(startUp, {
    lazyConnect: true,
    slotsRefreshTimeout: 2_000,
    // Our own attempts follow, and reads have another way: see the reads of a slot that moves.
    retryDelayOnTryAgain: 5,
    shardedSubscribers: true,
    clusterRetryStrategy: (times) => Math.min(times * 50, 1_000),
    ...options,
    redisOptions: nodeOptions,
  })
  return expectSafeClient(client)
}

/** All nodes of a cluster have the same users, so that the first URL speaks for all of them. */
function parseNode(node: ClusterNode): { host: string; port: number; login: Connection } {
  if (typeof node !== 'string') return { ...node, login: {} }
  const { protocol, hostname, port, username, password } = new URL(
    node.includes('://') ? node : `redis://${node}`,
  )
  return {
    host: hostname.replace(/^\[|\]$/g, ''),
    port: Number(port || 6_379),
    login: {
      ...(username !== '' && { username: decodeURIComponent(username) }),
      ...(password !== '' && { password: decodeURIComponent(password) }),
      ...(protocol === 'rediss:' && { tls: {} }),
    },
  }
}

/** @throws CorralError `ERR_OPTION` unless it is a URL that ioredis understands. */
export function checkUrl(url: unknown): void {
  // The URL itself may carry a password: it is not shown.
  const refuse: (why: string) => never = (why) =>
    rejectOptions(
      `Expected the URL of a Redis server such as 'redis://user:password@host:6379/0' or 'rediss://…', got ${why}.`,
    )
  if (typeof url !== 'string') refuse(formatValue(url))
  if (url.startsWith('/') || url.startsWith('unix://')) return
  if (!URL.canParse(url)) refuse('text that is no URL')
  const { protocol, hostname, pathname } = new URL(url)
  if (protocol !== 'redis:' && protocol !== 'rediss:') refuse(`the protocol '${protocol}'`)
  if (hostname === '') refuse('one without a host')
  if (!/^\/?\d*$/.test(pathname)) refuse(`the database '${pathname.slice(1)}', which is no number`)
}

import type { ConnectionOptions } from 'node:tls'
import { type Duration, milliseconds } from '../../src/base/duration.js'
import { CorralError, formatValue } from '../../src/base/errors.js'
import { expectThat, rejectUnknownOptions } from '../../src/base/options.js'
import { MAX_DELAY } from '../../src/base/timers.js'
import type { Address, Credentials } from './client/connection.js'

/**
 * A client of memjs, as far as it is read: its servers, credentials and timeout. Its sockets are left alone. Options that
 * would have another meaning here are refused.
 *
 * @example
 * ```ts
 * import memjs from 'memjs'
 * import { type MemjsClient, memcached } from 'corral/backends/memcached'
 *
 * const client: MemjsClient = memjs.Client.create('app:password@cache1:11211')
 * const backend = memcached(client)
 * ```
 */
export interface MemjsClient {
  readonly servers: readonly {
    readonly host: string
    readonly port: number | string
    readonly username?: string | undefined
    readonly password?: string | undefined
    readonly options?: { readonly timeout?: number | undefined } | undefined
  }[]
  readonly options?:
    | {
        readonly failover?: boolean | undefined
        readonly expires?: number | undefined
        readonly serializer?: unknown
      }
    | undefined
}

/**
 * The options of `memcached()`.
 *
 * @example
 * ```ts
 * import { memcached } from 'corral/backends/memcached'
 *
 * const backend = memcached({ servers: 'cache.example.com:11211', tls: true, timeout: '500ms' })
 * ```
 */
export interface MemcachedOptions {
  /** As `'host:port'`, `'user:password@host:port'` or `'/path/of/a.sock'`, in a list or separated by commas; or a client of memjs. */
  readonly servers: string | readonly string[] | MemjsClient
  /** For SASL PLAIN, on all servers that have no user of their own. */
  readonly username?: string
  readonly password?: string
  /** True, or the options of `node:tls`. The server's certificate is verified unless they forbid it. @default false */
  readonly tls?: boolean | ConnectionOptions
  /** How long an operation may take, connecting included. @default '1s' */
  readonly timeout?: Duration
  /** The longest pause between two probes of a server that is down. @default '2s' */
  readonly probe?: Duration
}

export interface Settings {
  readonly addresses: readonly Address[]
  /** ms, like `probe`. */
  readonly timeout: number
  readonly probe: number
}

const KNOWN = ['servers', 'username', 'password', 'tls', 'timeout', 'probe']

/** @throws CorralError `ERR_OPTION` */
export function settingsOf(given: string | readonly string[] | MemjsClient | MemcachedOptions): Settings {
  const options = isServers(given) ? { servers: given } : given
  rejectUnknownOptions(options, KNOWN, 'memcached()')
  const { servers, tls = false } = options
  if (!isServers(servers)) throw wrongServers(servers)
  const client = typeof servers === 'object' && 'servers' in servers ? servers : undefined
  if (client !== undefined) rejectClientOptions(client)
  const timeout = deadline('timeout', options.timeout ?? (client && clientTimeout(client)) ?? '1s')
  const probe = deadline('probe', options.probe ?? '2s')
  const common = {
    timeout,
    tls: tls === true ? {} : tls === false ? undefined : tls,
    credentials: credentialsOf(options.username, options.password),
  }
  const addresses = listOf(servers).map((server): Address => {
    const place = typeof server === 'object' ? placeOf(server) : parsePlace(server)
    return { ...common, ...place, credentials: place.credentials ?? common.credentials }
  })
  const names = new Set(addresses.map(({ name }) => name))
  if (addresses.length === 0) throw wrongServers(servers)
  if (names.size < addresses.length)
    throw optionError(
      `Expected the servers of memcached() to be different, got ${[...names].join(', ')} more than once.`,
    )
  return { addresses, timeout, probe }
}

function isServers(given: unknown): given is string | readonly string[] | MemjsClient {
  if (typeof given === 'string' || Array.isArray(given)) return true
  const servers = (given as { servers?: unknown } | null | undefined)?.servers
  return (
    Array.isArray(servers) &&
    servers.length > 0 &&
    servers.every((one) => typeof one === 'object' && one !== null && 'host' in one)
  )
}

/** The reasons for which an option of memjs is refused. */
const REFUSED = {
  failover:
    'on another server an invalidation would not find its entries, and the first server would bring them back',
  expires: 'set how long values live by `expirationTime` of the region',
  serializer: 'put an encoding around the backend, wrap(memcached(client), msgpack())',
} as const

function rejectClientOptions({ servers, options: { failover, ...options } = {} }: MemjsClient): void {
  const given = { ...options, failover: failover && servers.length > 1 }
  for (const [name, reason] of Object.entries(REFUSED))
    if (given[name as keyof typeof REFUSED])
      throw optionError(
        `Expected memcached() to receive a client of memjs without \`${name}\`: ${reason}. Give it a client of its own, or the servers' addresses.`,
      )
}

/** memjs counts in seconds, for each try of a command. */
function clientTimeout({ servers }: MemjsClient): number | undefined {
  const seconds = servers.flatMap(({ options }) => options?.timeout ?? [])
  return seconds.length === 0 ? undefined : Math.max(...seconds) * 1000
}

function deadline(name: string, value: Duration): number {
  const ms = milliseconds(value, name)
  expectThat(
    ms <= MAX_DELAY,
    value,
    `\`${name}\` of memcached() to be at most 24 days`,
    'Every operation needs a deadline.',
  )
  return ms
}

function listOf(
  servers: string | readonly string[] | MemjsClient,
): readonly (string | MemjsClient['servers'][number])[] {
  if (typeof servers === 'string') return servers.split(',').map((one) => one.trim())
  return 'servers' in servers ? servers.servers : servers
}

type Place = Pick<Address, 'name' | 'host' | 'port' | 'path' | 'credentials'>

function placeOf(server: MemjsClient['servers'][number]): Place {
  const { host, port, username, password } = server ?? {}
  const number = Number(port)
  if (typeof host !== 'string' || host === '' || !(number >= 1 && number <= 65_535))
    throw wrongServers(server)
  return {
    name: nameOf(host, number),
    host,
    port: number,
    credentials: username ? credentialsOf(username, password) : undefined,
  }
}

/** The last `@` ends the credentials: a password may have one. */
const FORM = /^(?:([^:]*):(.*)@)?(?:\[([\da-fA-F:.%]+)\]|([^\s:@/[\]]+))(?::(\d{1,5}))?$/
const DEFAULT_PORT = 11211

function parsePlace(server: unknown): Place {
  if (typeof server !== 'string') throw wrongServers(server)
  if (server.startsWith('/'))
    return { name: server, host: 'localhost', port: 0, path: server, credentials: undefined }
  const [, username, password, v6, plain, digits] = FORM.exec(server) ?? []
  const host = v6 ?? plain
  const port = Number(digits ?? DEFAULT_PORT)
  // Without the text itself: it may have a password in it.
  if (host === undefined || port < 1 || port > 65_535)
    throw optionError(
      "Expected a server of memcached() in the form 'host:port', 'user:password@host:port', '[::1]:11211' or '/path/of/a.sock', got another form.",
    )
  return { name: nameOf(host, port), host, port, credentials: credentialsOf(username, password) }
}

function nameOf(host: string, port: number): string {
  return `${host.includes(':') ? `[${host}]` : host}:${port}`
}

function credentialsOf(username: string | undefined, password: string | undefined): Credentials | undefined {
  if (username === undefined && password === undefined) return undefined
  if (typeof username !== 'string' || typeof password !== 'string' || /\0/.test(username + password))
    throw optionError(
      'Expected memcached() to receive both `username` and `password`, as text, or neither, got one of them.',
    )
  return { username, password }
}

function wrongServers(got: unknown): CorralError {
  return optionError(
    `Expected memcached() to receive its servers, as in memcached('localhost:11211'), memcached(['a:11211', 'b:11211']) or memcached({ servers, timeout }), got ${formatValue(got)}.`,
  )
}

function optionError(message: string): CorralError {
  return new CorralError('ERR_OPTION', message)
}

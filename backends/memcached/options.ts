import type { ConnectionOptions } from 'node:tls'
import { type Duration, milliseconds } from '../../src/base/duration.js'
import { CorralError } from '../../src/base/errors.js'
import { expectInteger, expectThat, ownOptions, rejectUnknownOptions } from '../../src/base/options.js'
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
  readonly username?: string | undefined
  readonly password?: string | undefined
  /** True, or the options of `node:tls`. The server's certificate is verified unless they forbid it. @default false */
  readonly tls?: boolean | ConnectionOptions | undefined
  /** How long an operation may take from its turn on, connecting included. @default '1s' */
  readonly timeout?: Duration | undefined
  /** The longest pause between two probes of a server that is down. @default '2s' */
  readonly probe?: Duration | undefined
  /**
   * Operations, and beside them commands, that wait for their turn; more are refused at once. The bound protects the memory
   * of this process. @default 100_000
   */
  readonly maxWaiting?: number | undefined
  /**
   * How long names stay marked whose transaction never ended, because its process died. False: transactions do not mark their names
   * before the commit. @default false
   */
  readonly pendingFor?: Duration | false | undefined
}

export interface Settings {
  readonly addresses: readonly Address[]
  /** ms, like `probe`. */
  readonly timeout: number
  readonly probe: number
  readonly maxWaiting: number
  /** ms; 0: names are not marked. */
  readonly pendingFor: number
}

type Servers = MemcachedOptions['servers']
type MemjsServer = MemjsClient['servers'][number]

const KNOWN = ['servers', 'username', 'password', 'tls', 'timeout', 'probe', 'maxWaiting', 'pendingFor']
const SERVERS =
  "memcached() to receive its servers, as in memcached('localhost:11211'), memcached(['a:11211', 'b:11211']) or memcached({ servers, timeout })"

/** @throws CorralError `ERR_OPTION` */
export function settingsOf(given: Servers | MemcachedOptions): Settings {
  const own = ownOptions(given)
  const options = isServers(own) ? { servers: own } : own
  rejectUnknownOptions(options, KNOWN, 'memcached()')
  const { servers, tls = false } = options
  const isTls = typeof tls === 'boolean' || (typeof tls === 'object' && !Array.isArray(tls))
  expectThat(isTls, tls, '`tls` of memcached() to be true, false or options of node:tls')
  const list = isServers(servers) ? listOf(servers) : []
  expectThat(list.length > 0, servers, SERVERS)
  const timeout = deadline('timeout', options.timeout ?? clientTimeout(list) ?? '1s')
  const probe = deadline('probe', options.probe ?? '2s')
  const credentials = credentialsOf(options.username, options.password)
  const common = { timeout, tls: tls === true ? {} : tls || undefined }
  const addresses = list.map((server): Address => {
    const place = typeof server === 'string' ? parsePlace(server) : placeOf(server)
    return { ...common, ...place, credentials: place.credentials ?? credentials }
  })
  const names = new Set(addresses.map(({ name }) => name))
  expectThat(
    names.size === addresses.length,
    addresses.map(({ name }) => name).join(', '),
    'the servers of memcached() to be different',
  )
  const maxWaiting = expectInteger(options.maxWaiting ?? 100_000, '`maxWaiting`')
  const { pendingFor = false } = options
  const life = pendingFor === false ? 0 : deadline('pendingFor', pendingFor)
  return { addresses, timeout, probe, maxWaiting, pendingFor: life }
}

function isServers(given: unknown): given is Servers {
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
  for (const name of ['failover', 'expires', 'serializer'] as const)
    expectThat(
      !given[name],
      given[name],
      `memcached() to receive a client of memjs without \`${name}\`: ${REFUSED[name]}`,
      "Give it a client of its own, or the servers' addresses.",
    )
}

/** memjs counts in seconds, for each try of a command. */
function clientTimeout(servers: readonly (string | MemjsServer)[]): number | undefined {
  const seconds = servers.flatMap((server) =>
    typeof server === 'object' ? (server?.options?.timeout ?? []) : [],
  )
  return seconds.length === 0 ? undefined : Math.max(...seconds) * 1000
}

function deadline(name: string, value: Duration): number {
  const ms = milliseconds(value, name)
  expectThat(
    ms <= MAX_DELAY,
    value,
    `\`${name}\` of memcached() to be at most 24 days`,
    'Every operation needs a deadline, and every mark an end.',
  )
  return ms
}

function listOf(servers: Servers): readonly (string | MemjsServer)[] {
  if (typeof servers === 'string') return servers.split(',').map((one) => one.trim())
  // Spread: map() passes over holes.
  if (!('servers' in servers)) return [...servers]
  rejectClientOptions(servers)
  return [...servers.servers]
}

type Place = Pick<Address, 'name' | 'host' | 'port' | 'path' | 'credentials'>

function placeOf(server: MemjsServer): Place {
  const { host, port, username, password } = server ?? {}
  expectThat(typeof host === 'string' && host !== '' && isPort(Number(port)), server, SERVERS)
  return placeAt(host, Number(port), username ? credentialsOf(username, password) : undefined)
}

/** The last `@` ends the credentials: a password may have one. */
const FORM = /^(?:([^:]*):(.*)@)?(?:\[([\da-fA-F:.%]+)\]|([^\s:@/[\]]+))(?::(\d{1,5}))?$/
const DEFAULT_PORT = 11211

function parsePlace(server: string): Place {
  if (server.startsWith('/'))
    return { name: server, host: 'localhost', port: 0, path: server, credentials: undefined }
  const [, username, password, v6, plain, digits] = FORM.exec(server) ?? []
  const host = v6 ?? plain
  const port = Number(digits ?? DEFAULT_PORT)
  // Without the text itself: it may have a password in it.
  if (host === undefined || !isPort(port))
    throw new CorralError(
      'ERR_OPTION',
      "Expected a server of memcached() in the form 'host:port', 'user:password@host:port', '[::1]:11211' or '/path/of/a.sock', got another form.",
    )
  return placeAt(host, port, credentialsOf(username, password))
}

function isPort(port: number): boolean {
  return port >= 1 && port <= 65_535
}

function placeAt(host: string, port: number, credentials: Credentials | undefined): Place {
  return { name: `${host.includes(':') ? `[${host}]` : host}:${port}`, host, port, credentials }
}

function credentialsOf(username: string | undefined, password: string | undefined): Credentials | undefined {
  if (username === undefined && password === undefined) return undefined
  if (typeof username !== 'string' || typeof password !== 'string' || /\0/.test(username + password))
    throw new CorralError(
      'ERR_OPTION',
      'Expected memcached() to receive both `username` and `password`, as text, or neither, got one of them.',
    )
  return { username, password }
}

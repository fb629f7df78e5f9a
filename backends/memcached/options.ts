import type { ConnectionOptions } from 'node:tls'
import { type Duration, milliseconds } from '../../src/base/duration.js'
import { CorralError, formatValue } from '../../src/base/errors.js'
import { rejectUnknownOptions } from '../../src/base/options.js'
import type { Address, Credentials } from './client/connection.js'

/**
 * What is looked at in a client of memjs: where its servers are, how it logs in and how long it waits. Its sockets are
 * left alone. Options of it that would mean something else here are refused.
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

export interface MemcachedOptions {
  /** As `'host:port'`, `'user:password@host:port'` or `'/path/of/a.sock'`, in a list or separated by commas; or a client of memjs. */
  readonly servers: string | readonly string[] | MemjsClient
  /** For SASL PLAIN, on all servers that name no user of their own. */
  readonly username?: string
  readonly password?: string
  /** True, or what `node:tls` takes. The server's certificate is verified unless told otherwise. @default false */
  readonly tls?: boolean | ConnectionOptions
  /** How long an operation may take, connecting included. @default '1s' */
  readonly timeout?: Duration
  /** The longest pause between two probes of a server that is down. @default '2s' */
  readonly probe?: Duration
}

export interface Settings {
  readonly addresses: readonly Address[]
  readonly timeout: number
  readonly probe: number
}

const KNOWN = ['servers', 'username', 'password', 'tls', 'timeout', 'probe']
const DEFAULT_PORT = 11211

/** @throws CorralError `ERR_OPTION` for what cannot be right. */
export function settingsOf(given: string | readonly string[] | MemjsClient | MemcachedOptions): Settings {
  const options = isServers(given) ? { servers: given } : given
  rejectUnknownOptions(options, KNOWN, 'memcached()')
  const { servers, username, password, tls = false } = options
  if (!isServers(servers)) throw wrongServers(servers)
  const client = typeof servers === 'object' && 'servers' in servers ? servers : undefined
  if (client !== undefined) refuseForeign(client)
  const timeout = milliseconds(options.timeout ?? (client && patienceOf(client)) ?? '1s', 'timeout')
  const probe = milliseconds(options.probe ?? '2s', 'probe')
  if (timeout > 2 ** 31 - 1 || probe > 2 ** 31 - 1)
    throw new CorralError(
      'ERR_OPTION',
      'Expected `timeout` and `probe` of memcached() to be at most 24 days: every operation needs a deadline.',
    )
  const common = {
    timeout,
    tls: tls === true ? {} : tls === false ? undefined : tls,
    credentials: credentialsOf(username, password),
  }
  const addresses = list(servers).map((server): Address => {
    const place = typeof server === 'object' ? fromMemjs(server) : parse(server)
    return { ...common, ...place, credentials: place.credentials ?? common.credentials }
  })
  const names = new Set(addresses.map(({ name }) => name))
  if (addresses.length === 0) throw wrongServers(servers)
  if (names.size < addresses.length)
    throw new CorralError(
      'ERR_OPTION',
      `Expected the servers of memcached() to be different, got ${[...names].join(', ')} more than once.`,
    )
  return { addresses, timeout, probe }
}

type Place = Pick<Address, 'name' | 'host' | 'port' | 'path' | 'credentials'>

function isServers(given: unknown): given is string | readonly string[] | MemjsClient {
  if (typeof given === 'string' || Array.isArray(given)) return true
  const servers = (given as { servers?: unknown } | null | undefined)?.servers
  return (
    Array.isArray(servers) &&
    servers.length > 0 &&
    servers.every((one) => typeof one === 'object' && one !== null && 'host' in one)
  )
}

function list(
  servers: string | readonly string[] | MemjsClient,
): readonly (string | MemjsClient['servers'][number])[] {
  if (typeof servers === 'string') return servers.split(',').map((one) => one.trim())
  return 'servers' in servers ? servers.servers : servers
}

/** The last `@` ends the credentials: a password may have one. */
const FORM = /^(?:([^:]*):(.*)@)?(?:\[([\da-fA-F:.%]+)\]|([^\s:@/[\]]+))(?::(\d{1,5}))?$/

function parse(server: unknown): Place {
  if (typeof server !== 'string') throw wrongServers(server)
  if (server.startsWith('/'))
    return { name: server, host: 'localhost', port: 0, path: server, credentials: undefined }
  const [, username, password, v6, plain, digits] = FORM.exec(server) ?? []
  const host = v6 ?? plain
  const port = Number(digits ?? DEFAULT_PORT)
  // Without the text itself: it may have a password in it.
  if (host === undefined || port < 1 || port > 65_535)
    throw new CorralError(
      'ERR_OPTION',
      "Expected a server of memcached() in the form 'host:port', 'user:password@host:port', '[::1]:11211' or '/path/of/a.sock', got something else.",
    )
  return { name: nameOf(host, port), host, port, credentials: credentialsOf(username, password) }
}

/** Why an option of memjs is not taken over. */
const FOREIGN = {
  failover:
    'on another server an invalidation would not find what it invalidates, and the first one would bring it back',
  expires: 'say how long values live by `expirationTime` of the region',
  serializer: 'put an encoding around the backend, wrap(memcached(client), msgpack())',
} as const

function refuseForeign({ servers, options: { failover, ...options } = {} }: MemjsClient): void {
  const given = { ...options, failover: failover && servers.length > 1 }
  for (const [name, why] of Object.entries(FOREIGN))
    if (given[name as keyof typeof FOREIGN])
      throw new CorralError(
        'ERR_OPTION',
        `Expected memcached() to receive a client of memjs without \`${name}\`: ${why}. Give it a client of its own, or the servers' addresses.`,
      )
}

/** memjs counts in seconds, for each try of a command. */
function patienceOf({ servers }: MemjsClient): number | undefined {
  const seconds = servers.flatMap(({ options }) => options?.timeout ?? [])
  return seconds.length === 0 ? undefined : Math.max(...seconds) * 1000
}

function fromMemjs(server: MemjsClient['servers'][number]): Place {
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

function nameOf(host: string, port: number): string {
  return `${host.includes(':') ? `[${host}]` : host}:${port}`
}

function credentialsOf(username: string | undefined, password: string | undefined): Credentials | undefined {
  if (username === undefined && password === undefined) return undefined
  if (typeof username !== 'string' || typeof password !== 'string' || /\0/.test(username + password))
    throw new CorralError(
      'ERR_OPTION',
      'Expected memcached() to be given both `username` and `password`, as text, or neither.',
    )
  return { username, password }
}

function wrongServers(got: unknown): CorralError {
  return new CorralError(
    'ERR_OPTION',
    `Expected memcached() to be told its servers, as in memcached('localhost:11211'), memcached(['a:11211', 'b:11211']) or memcached({ servers, timeout }), got ${formatValue(got)}.`,
  )
}

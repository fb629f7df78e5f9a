import { once } from 'node:events'
import { chmodSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Cluster, Redis } from 'ioredis'
import { type RedisBackendOptions, redis } from '../../../backends/redis/index.js'
import type { Backend, Bytes } from '../../../src/index.js'
import { type Binary, locate } from '../../support/binaries.js'
import { freePort, type Server, startRedis } from '../../support/servers.js'
import { until } from '../../support/waiting.js'
import { authority, certificate, key } from './certificates.js'

/** A real Redis in one of the ways in which people run it. */
export interface Deployment {
  readonly servers: readonly Server[]
  /** Where it is, as options of `redis()`; plain data, to be handed to other processes. */
  readonly where: RedisBackendOptions
  /** Another backend over it, closed by `stop`. */
  open(options?: Partial<RedisBackendOptions>): Backend<Bytes>
  /** A plain client, to look behind the backend's back. */
  readonly admin: Redis | Cluster
  stop(): Promise<void>
}

function deployment(
  servers: readonly Server[],
  where: RedisBackendOptions,
  admin: Redis | Cluster,
  cleanUp: () => void = () => {},
): Deployment {
  const opened: Backend<Bytes>[] = []
  admin.on('error', () => {})
  return {
    servers,
    where,
    admin,
    open(options = {}) {
      // Longer than by default: a test that is not about time must not fail on a busy machine.
      const backend = redis({ timeout: '10s', ...where, ...options })
      opened.push(backend)
      return backend
    },
    async stop() {
      await Promise.all(opened.map((backend) => backend.close()))
      admin.disconnect()
      await Promise.all(servers.map((server) => server.stop()))
      cleanUp()
    },
  }
}

export interface StandaloneOptions {
  readonly args?: readonly string[]
  readonly binary?: Binary
}

export async function standalone({ args = [], binary }: StandaloneOptions = {}): Promise<Deployment> {
  const server = await startRedis({ args, ...(binary && { binary }) })
  const { port } = server
  return deployment([server], { url: `redis://127.0.0.1:${port}` }, new Redis({ port }))
}

/** Corral connects as a user with only the permissions that docs/redis.md lists. */
export async function withUser(): Promise<Deployment> {
  const server = await startRedis({ args: ['--requirepass', 'root:secret'] })
  const { port } = server
  const admin = new Redis({ port, password: 'root:secret' })
  await admin.call('ACL', 'SETUSER', 'app', 'on', '>p@ss:word', ...RIGHTS)
  return deployment(
    [server],
    { url: `redis://app:${encodeURIComponent('p@ss:word')}@127.0.0.1:${port}` },
    admin,
  )
}

/** As docs/redis.md has it. */
const RIGHTS = [
  '~*',
  'resetchannels',
  '&~corral:*',
  '-@all',
  ...['get', 'mget', 'set', 'scan', 'unlink', 'del', 'append', 'pttl', 'pexpire', 'persist'].map(
    (name) => `+${name}`,
  ),
  ...[
    'zadd',
    'zscore',
    'zcard',
    'zpopmin',
    'time',
    'eval',
    'evalsha',
    'publish',
    'subscribe',
    'unsubscribe',
  ].map((name) => `+${name}`),
  ...['hello', 'auth', 'info', 'ping', 'select', 'quit', 'wait'].map((name) => `+${name}`),
]

export async function tls(): Promise<Deployment> {
  const dir = mkdtempSync(join(tmpdir(), 'corral-tls-'))
  for (const [name, text] of Object.entries({
    'ca.crt': authority,
    'server.crt': certificate,
    'server.key': key,
  }))
    writeFileSync(join(dir, name), text)
  const port = await freePort()
  const args = ['--tls-port', `${port}`, '--port', '0', '--tls-auth-clients', 'no']
  args.push(
    '--tls-cert-file',
    join(dir, 'server.crt'),
    '--tls-key-file',
    join(dir, 'server.key'),
    '--tls-ca-cert-file',
    join(dir, 'ca.crt'),
  )
  const server = await startRedis({ args, port, ready: 'connection' })
  return deployment(
    [server],
    { url: `rediss://localhost:${port}`, connection: { tls: { ca: authority } } },
    new Redis({ host: 'localhost', port, tls: { ca: authority } }),
    () => rmSync(dir, { recursive: true, force: true }),
  )
}

/** A primary, replicas, and three sentinels that agree on them. */
export async function sentinel({
  replicas = 1,
} = {}): Promise<Deployment & { readonly primary: () => Promise<Server> }> {
  const dir = mkdtempSync(join(tmpdir(), 'corral-sentinel-'))
  const primary = await startRedis()
  const data = [primary]
  for (let i = 0; i < replicas; i++)
    data.push(await startRedis({ args: ['--replicaof', '127.0.0.1', `${primary.port}`] }))
  const binary = locate('redis') as Binary
  const watchers = await Promise.all(
    ['one', 'two', 'three'].map((name) => {
      // Sentinel wants a file as its first argument; it is told the port as the others are.
      const [config, start] = [join(dir, `${name}.conf`), join(dir, `${name}.sh`)]
      writeFileSync(
        config,
        `sentinel monitor mymaster 127.0.0.1 ${primary.port} 2\nsentinel down-after-milliseconds mymaster 500\nsentinel failover-timeout mymaster 3000\n`,
      )
      writeFileSync(
        start,
        `#!/bin/sh\nexec ${binary.path} ${config} --sentinel --port "$2" --bind 127.0.0.1\n`,
      )
      chmodSync(start, 0o755)
      return startRedis({ binary: { ...binary, path: start } })
    }),
  )
  const sentinels = watchers.map(({ port }) => ({ host: '127.0.0.1', port }))
  const first = new Redis({ port: watchers[0]?.port ?? 0 })
  await until(async () => {
    const [found = []] = (await first.call('SENTINEL', 'MASTERS')) as string[][]
    const fact = (name: string) => Number(found[found.indexOf(name) + 1])
    return fact('num-slaves') === replicas && fact('num-other-sentinels') === 2
  })
  first.disconnect()
  const where = { connection: { sentinels, name: 'mymaster' } }
  const made = deployment([...data, ...watchers], where, new Redis(where.connection), () =>
    rmSync(dir, { recursive: true, force: true }),
  )
  return {
    ...made,
    async primary() {
      const watcher = new Redis({ port: watchers[1]?.port ?? 0 })
      const [, port] = (await watcher.call('SENTINEL', 'GET-MASTER-ADDR-BY-NAME', 'mymaster')) as string[]
      watcher.disconnect()
      return data.find((server) => server.port === Number(port)) ?? primary
    },
  }
}

const SLOTS = 16_384

/** Masters that share the slots evenly, each with so many replicas. */
export async function cluster({
  masters = 3,
  replicas = 0,
  binary,
}: {
  readonly masters?: number
  readonly replicas?: number
  readonly binary?: Binary
} = {}): Promise<Deployment> {
  const args = [
    '--cluster-enabled',
    'yes',
    '--cluster-node-timeout',
    '2000',
    '--cluster-require-full-coverage',
    'no',
  ]
  const servers = await Promise.all(
    Array.from({ length: masters * (1 + replicas) }, () => startRedis({ args, ...(binary && { binary }) })),
  )
  const nodes = servers.map(({ port }) => new Redis({ port }))
  const [first, ...others] = nodes as [Redis, ...Redis[]]
  for (const [i, node] of nodes.slice(0, masters).entries()) {
    const from = Math.floor((SLOTS * i) / masters)
    const to = Math.floor((SLOTS * (i + 1)) / masters)
    await node.call('CLUSTER', 'ADDSLOTS', ...Array.from({ length: to - from }, (_, slot) => from + slot))
    // Two masters of one epoch would contradict each other.
    await node.call('CLUSTER', 'SET-CONFIG-EPOCH', i + 1)
  }
  for (const [i] of others.entries())
    await first.call('CLUSTER', 'MEET', '127.0.0.1', servers[i + 1]?.port ?? 0)
  const known = async (node: Redis) =>
    String(await node.call('CLUSTER', 'NODES'))
      .trim()
      .split('\n')
      .filter((line) => !line.includes('handshake')).length
  await until(async () => (await Promise.all(nodes.map(known))).every((count) => count === nodes.length))
  for (const [i, node] of nodes.slice(masters).entries()) {
    const master = nodes[i % masters] as Redis
    await node.call('CLUSTER', 'REPLICATE', String(await master.call('CLUSTER', 'MYID')))
  }
  await until(async () => {
    const states = await Promise.all(nodes.map(async (node) => String(await node.call('CLUSTER', 'INFO'))))
    const links = await Promise.all(nodes.slice(masters).map((node) => node.info('replication')))
    return (
      states.every(
        (state) => state.includes('cluster_state:ok') && state.includes('cluster_slots_assigned:16384'),
      ) && links.every((link) => link.includes('master_link_status:up'))
    )
  })
  for (const node of nodes) node.disconnect()
  const starts = servers.map(({ port }) => `127.0.0.1:${port}`)
  const admin = new Cluster(starts.map((start) => `redis://${start}`))
  await once(admin, 'ready')
  return deployment(servers, { cluster: starts }, admin)
}

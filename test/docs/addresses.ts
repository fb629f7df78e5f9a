import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { Redis } from 'ioredis'
import { authority } from '../backends/redis/certificates.js'
import { cluster, sentinel, standalone, tls } from '../backends/redis/deployments.js'
import { startMemcached } from '../support/servers.js'

/** The servers that the pages speak of, and the environment that leads a program to them. */
export interface Addresses {
  readonly env: Readonly<Record<string, string>>
  readonly imports: string
  stop(): Promise<void>
}

const APP = ['ACL', 'SETUSER', 'app', 'on', '>secret', '~*', '&*', '+@all'] as const

/** Starts every one of them: the blocks of a page then run unchanged, addresses, users and passwords included. */
export async function addresses(): Promise<Addresses> {
  const folder = mkdtempSync(join(tmpdir(), 'corral-docs-'))
  writeFileSync(join(folder, 'authority.pem'), authority)
  const [plain, behindUser, overTls, watched, sharded, ...memcacheds] = await Promise.all([
    standalone(),
    standalone(),
    tls(),
    sentinel(),
    cluster(),
    startMemcached(),
    startMemcached(),
  ])
  for (const { admin } of [behindUser, overTls]) await (admin as Redis).call(...APP)
  for (const { port } of sharded.servers) {
    const node = new Redis({ port })
    await node.config('SET', 'requirepass', 'secret')
    node.disconnect()
  }
  const portOf = ({ servers: [server] }: { readonly servers: readonly { readonly port: number }[] }) =>
    server?.port ?? 0
  const sentinels = watched.where.connection?.sentinels ?? []
  const lead: Record<string, number> = {
    'localhost:6379': portOf(plain),
    'cache.example.com:6379': portOf(behindUser),
    'cache:6380': Number(new URL(overTls.where.url ?? '').port),
    ...Object.fromEntries(sentinels.slice(0, 2).map(({ port = 0 }, i) => [`s${i + 1}:26379`, port])),
    ...Object.fromEntries(sharded.servers.map(({ port }, i) => [`node${i + 1}:7000`, port])),
    // To the client of a Cluster they are addresses by then.
    '127.0.0.1:7000': portOf(sharded),
    ...Object.fromEntries(memcacheds.map(({ port }, i) => [`cache${i + 1}:11211`, port])),
  }
  return {
    env: { LEAD: JSON.stringify(lead), NODE_EXTRA_CA_CERTS: join(folder, 'authority.pem') },
    imports: fileURLToPath(new URL('lead.mjs', import.meta.url)),
    async stop() {
      await Promise.all(
        [plain, behindUser, overTls, watched, sharded, ...memcacheds].map((one) => one.stop()),
      )
      rmSync(folder, { recursive: true, force: true })
    },
  }
}

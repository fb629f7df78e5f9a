/** A process that reads and changes rows of a database, and dies. Started by `transactions.test.ts`. */
import { setTimeout as sleep } from 'node:timers/promises'
import Libsql from 'libsql'
import { memcached } from '../../backends/memcached/index.js'
import { redis } from '../../backends/redis/index.js'
import { dependencies } from '../../proxies/dependencies.js'
import { msgpack } from '../../proxies/msgpack.js'
import { dependsOn, makeRegion, wrap } from '../../src/index.js'
import { sqlCache } from '../../src/integrations/sql.js'
import { seeded } from '../support/seeded.js'

export interface TransactionsPart {
  readonly file: string
  /** Of Redis, or of memcached as `memcached://host:port`. */
  readonly url: string
  readonly seed: number
  readonly rows: number
  /** ms for which names are marked; 0: they are not. */
  readonly pendingFor: number
  /** How often a process dies between its commit and the invalidation, and before the commit; once in so many transactions. */
  readonly deaths: number
}

/** What a process has done since its last message. */
export interface TransactionsReport {
  readonly reads: number
  readonly hits: number
  readonly commits: number
  readonly rollbacks: number
  /** Reads that returned an older version than the one that was committed when they began. */
  readonly stale: readonly string[]
}

const part = JSON.parse(process.argv[2] ?? '') as TransactionsPart
const random = seeded(part.seed)
/** A killed process loses nothing that it has handed to the system, so there is no need to wait for the disk. */
const connect = () => {
  const connection = new Libsql(part.file)
  connection.exec('PRAGMA synchronous = OFF')
  return connection
}
const [reading, writing] = [connect(), connect()]
reading.exec('PRAGMA busy_timeout = 10000')

/** The driver waits synchronously, which would hold up the reads of this process for as long as another one writes. */
async function begin(): Promise<void> {
  for (;;)
    try {
      return void writing.exec('BEGIN IMMEDIATE')
    } catch (error) {
      if (!String(error).includes('locked')) throw error
      await sleep(2)
    }
}
const select = reading.prepare('SELECT version FROM row WHERE id = ?')
const committed = (id: number) => (select.get([id]) as { version: number }).version

const pendingFor = part.pendingFor === 0 ? false : part.pendingFor
const { protocol, host } = new URL(part.url)
const region = makeRegion<number>({
  name: 'rows',
  expirationTime: '1h',
  backend: wrap(
    protocol === 'memcached:'
      ? memcached({ servers: host, timeout: '20s', pendingFor })
      : redis({ url: part.url, timeout: '20s', pendingFor }),
    msgpack(),
    dependencies(),
  ),
})
const database = sqlCache({ regions: region, tables: { row: 'id' } })

let counts = { reads: 0, hits: 0, commits: 0, rollbacks: 0, stale: [] as string[] }
let over = false
process.once('message', () => {
  over = true
})

async function read(): Promise<void> {
  const id = Math.floor(random() * part.rows)
  const floor = committed(id)
  let isHit = true
  const version = await region.getOrCreate(`row ${id}`, async () => {
    isHit = false
    dependsOn(database.dependenciesOf('row', { id }))
    const found = committed(id)
    await sleep(random() * 6)
    return found
  })
  counts.reads++
  if (isHit) counts.hits++
  if (version < floor) counts.stale.push(`row ${id}: ${version} after the commit of ${floor}`)
}

const die = () => process.kill(process.pid, 'SIGKILL')

async function change(): Promise<void> {
  const ids = [Math.floor(random() * part.rows), Math.floor(random() * part.rows)]
  const fate = random()
  const isLast = fate < 1 / part.deaths
  const isUndone = fate > 0.9
  let markedAt = 0
  const run = async (statement: string) => {
    if (statement === 'BEGIN') return begin()
    if (statement !== 'COMMIT') return void writing.exec(statement)
    // The life of the marks must exceed the commit: on a machine that was busy for so long the transaction is undone.
    if (part.pendingFor > 0 && performance.now() - markedAt > part.pendingFor / 2) {
      writing.exec('ROLLBACK')
      throw new Error('late')
    }
    if (isLast && random() < 0.3) die()
    writing.exec('COMMIT')
    if (isLast) die()
  }
  try {
    await database.unitOfWork(run, async () => {
      for (const id of ids) writing.exec(`UPDATE row SET version = version + 1 WHERE id = ${id}`)
      if (isLast) writing.exec('INSERT INTO death DEFAULT VALUES')
      for (const id of ids) await database.invalidate('row', id)
      if (isUndone) throw new Error('undone')
      markedAt = performance.now()
    })
    counts.commits++
  } catch {
    counts.rollbacks++
  }
}

async function repeatedly(work: () => Promise<void>, pause: number): Promise<void> {
  while (!over) {
    await work()
    await sleep(random() * pause)
  }
}

const report = () => {
  process.send?.(counts satisfies TransactionsReport)
  counts = { reads: 0, hits: 0, commits: 0, rollbacks: 0, stale: [] }
}
process.send?.('ready')
const reports = setInterval(report, 50)
await Promise.all([...Array.from({ length: 6 }, () => repeatedly(read, 4)), repeatedly(change, 20)])
clearInterval(reports)
report()
await region.close()
process.disconnect()

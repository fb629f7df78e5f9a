/** A database with an outbox, and a cache of its rows, both in files that processes share. */
import { join } from 'node:path'
import Libsql from 'libsql'
import { lmdb } from '../../backends/lmdb/index.js'
import { dependencies } from '../../proxies/dependencies.js'
import { json } from '../../proxies/json.js'
import { dep, makeRegion, wrap } from '../../src/index.js'
import { outbox, type RunQuery } from '../../src/integrations/sql.js'

export const ROWS = [1, 2, 3, 4] as const

export function openOutbox(folder: string) {
  const file = new Libsql(join(folder, 'db'))
  file.exec('PRAGMA journal_mode = WAL; PRAGMA synchronous = OFF; PRAGMA busy_timeout = 10000')
  const run: RunQuery = (sql, values) => {
    if (sql.startsWith('SELECT')) return file.prepare(sql).all([...values])
    return values.length === 0 ? file.exec(sql) : file.prepare(sql).run([...values])
  }
  const cache = lmdb(join(folder, 'cache'), { pendingFor: false })
  const region = makeRegion<number>({ name: 'rows', backend: wrap(cache, json(), dependencies()) })
  const row = region.cacheOnArguments(
    (id: number) => (file.prepare('SELECT value FROM row WHERE id = ?').get(id) as { value: number }).value,
    { namespace: 'row', dependencies: (id) => dep.id('row', id) },
  )
  // Short claims: also those of the living are taken over.
  const box = outbox({ regions: region, claimFor: 20 })
  return { file, run, region, box, read: row, close: () => void file.close() }
}

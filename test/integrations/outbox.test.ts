/** The outbox, over libsql in a file that two processes might share. */
import { once } from 'node:events'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import Libsql from 'libsql'
import { describe, expect, it } from 'vitest'
import { memory } from '../../backends/memory/index.js'
import { dependencies } from '../../proxies/dependencies.js'
import { diagnostics } from '../../src/base/diagnostics.js'
import { dep, makeRegion, NO_VALUE, wrap } from '../../src/index.js'
import { outbox, type RunQuery } from '../../src/integrations/sql.js'
import { bundleProgram } from '../support/programs.js'
import { openOutbox, ROWS } from './outbox-shop.js'

async function open({ fails = () => false }: { readonly fails?: (sql: string) => boolean } = {}) {
  const region = makeRegion<string>({ name: 'pages', backend: wrap(memory(), dependencies()) })
  const file = new Libsql(':memory:')
  const statements: string[] = []
  const run: RunQuery = async (sql, values) => {
    const [verb = ''] = sql.split(' ')
    if (fails(verb)) throw new Error(`killed at ${verb}`)
    statements.push(verb)
    if (verb === 'SELECT') return file.prepare(sql).all([...values])
    if (values.length === 0) file.exec(sql)
    else file.prepare(sql).run([...values])
    return []
  }
  const box = outbox({ regions: region })
  file.exec(box.createTable)
  const left = () =>
    (file.prepare('SELECT COUNT(*) AS left FROM corral_outbox').get() as { left: number }).left
  const store = (key: string) => region.set(key, key, { dependencies: [key], asOf: 'now' })
  const stands = async (key: string) => (await region.get(key)) !== NO_VALUE
  await Promise.all(['a', 'b', 'c'].map(store))
  return { region, file, run, box, left, stands, store, statements }
}

describe('outbox()', () => {
  it('invalidates the names of committed transactions, and deletes their rows', async () => {
    const { run, box, left, stands } = await open()
    await run('BEGIN', [])
    await box.write(run, 'a')
    await run('COMMIT', [])
    await run('BEGIN', [])
    await box.write(run, ['b'], 'soft')
    await run('COMMIT', [])
    await run('BEGIN', [])
    await box.write(run, 'c')
    await run('ROLLBACK', [])
    expect([left(), await stands('a')]).toEqual([2, true])
    expect([await box.drain(run), left()]).toEqual([2, 0])
    expect([await stands('a'), await stands('c')]).toEqual([false, true])
    expect(await box.drain(run)).toBe(0)
  })

  it('serves what a soft name invalidated as stale', async () => {
    const { region, run, box } = await open()
    await box.write(run, 'a', 'soft')
    await box.drain(run)
    expect(await region.get('a')).toBe(NO_VALUE)
    expect(await region.get('a', { ignoreExpiration: true })).toBe('a')
  })

  it.each([
    ['nothing', () => undefined],
    ['the result of pg', (rows: unknown) => ({ rows })],
  ])('refuses a statement that returns %s instead of rows, and keeps them', async (_, wrong) => {
    const { run, box, left, stands } = await open()
    await box.write(run, 'a')
    const wrongly: RunQuery = async (sql, values) => wrong(await run(sql, values))
    await expect(box.drain(wrongly)).rejects.toMatchObject({ code: 'ERR_OPTION' })
    expect([left(), await stands('a')]).toEqual([1, true])
    expect([await box.drain(run), left(), await stands('a')]).toEqual([1, 0, false])
  })

  it.each(['UPDATE', 'SELECT', 'DELETE'])('loses nothing if the process dies at its %s', async (step) => {
    let dies = true
    const { run, box, left, stands, file } = await open({ fails: (verb) => dies && verb === step })
    await box.write(run, ['a', 'b'])
    await expect(box.drain(run)).rejects.toThrow(`killed at ${step}`)
    expect(left()).toBe(1)
    dies = false
    // Nothing is left of its process but a claim, which runs out.
    file.exec('UPDATE corral_outbox SET claimed_until = 1')
    expect([await box.drain(run), left()]).toEqual([1, 0])
    expect([await stands('a'), await stands('b'), await stands('c')]).toEqual([false, false, true])
  })

  it('takes what a process claimed whose clock was ahead, and leaves it what others hold by a clock that is near', async () => {
    const { run, box, left, stands, file } = await open()
    await box.write(run, 'a')
    const until = (ms: number) =>
      file
        .prepare("UPDATE corral_outbox SET claim = 'another', claimed_until = ?")
        .run(Math.round(Date.now() + ms))
    until(40_000)
    expect([await box.drain(run), left(), await stands('a')]).toEqual([0, 1, true])
    until(3_600_000)
    expect([await box.drain(run), left(), await stands('a')]).toEqual([1, 0, false])
  })

  it('keeps the rows whose invalidation fails, free for the next call', async () => {
    const { region, run, left } = await open()
    let away = true
    const target = {
      name: 'pages',
      invalidateDependencies: async (names: readonly string[]) => {
        if (away) throw new Error('away')
        await region.invalidateDependencies(names)
      },
    }
    const box = outbox({ regions: [target] })
    await box.write(run, 'a')
    await expect(box.drain(run)).rejects.toThrow('away')
    expect(left()).toBe(1)
    away = false
    expect([await box.drain(run), left()]).toEqual([1, 0])
  })

  it('gives each row to one of two that drain at once, and takes no row that was written meanwhile', async () => {
    const { run, box, left, stands } = await open()
    await box.write(run, 'a')
    const slow: RunQuery = async (sql, values) => {
      const rows = await run(sql, values)
      if (sql.startsWith('SELECT')) {
        expect(await box.drain(run)).toBe(0)
        await box.write(run, 'b')
      }
      return rows
    }
    expect(await box.drain(slow)).toBe(1)
    expect([left(), await stands('a'), await stands('b')]).toEqual([1, false, true])
    expect([await box.drain(run), await stands('b')]).toEqual([1, false])
  })

  it('spreads very many names over rows that MySQL does not cut', async () => {
    const { run, box, file, left, stands, store } = await open()
    const names = ['a', ...Array.from({ length: 3_000 }, (_, at) => `${at}${'é'.repeat(15)}`), 'b']
    await store('b')
    await box.write(run, names)
    const longest = file.prepare('SELECT MAX(LENGTH(CAST(names AS BLOB))) AS bytes FROM corral_outbox').get()
    expect((longest as { bytes: number }).bytes).toBeLessThan(65_536)
    expect(left()).toBe(2)
    await box.drain(run)
    expect([left(), await stands('a'), await stands('b')]).toEqual([0, false, false])
  })

  it('has the placeholders and the table of another dialect', async () => {
    const { region } = await open()
    const sent: string[] = []
    const box = outbox({ regions: region, table: 'app.box', placeholder: (at) => `$${at}` })
    await box.write((sql) => void sent.push(sql), 'a')
    expect(sent).toEqual([
      'INSERT INTO app.box (id, names, invalidation, claim, claimed_until) VALUES ($1, $2, $3, $4, $5)',
    ])
  })

  it('refuses what is no name and no mode, before anything is written', async () => {
    const { run, box, left } = await open()
    await expect(box.write(run, [])).rejects.toMatchObject({ code: 'ERR_OPTION' })
    await expect(box.write(run, [5 as never])).rejects.toMatchObject({ code: 'ERR_OPTION' })
    await expect(box.write(run, 'a', 'sof' as never)).rejects.toMatchObject({ code: 'ERR_OPTION' })
    expect(left()).toBe(0)
  })

  it('goes on past rows that it cannot read, tells of them once, and leaves them to others', async () => {
    const { run, box, file, left, stands } = await open()
    const failures: unknown[] = []
    const listen = (message: unknown) => void failures.push(message)
    diagnostics('failure').subscribe(listen)
    const unreadable = ['[5]', '{"v":2}', 'cut off, ["a', JSON.stringify([dep.version('v', () => 1)]), '[]']
    unreadable.forEach(
      (names, at) => void file.exec(`INSERT INTO corral_outbox VALUES ('${at}', '${names}', 'hard', '', 0)`),
    )
    file.exec(`INSERT INTO corral_outbox VALUES ('later', '["c"]', 'firm', '', 0)`)
    await box.write(run, 'a')
    expect([await box.drain(run), await stands('a'), await stands('c')]).toEqual([1, false, true])
    await box.write(run, 'b')
    expect([await box.drain(run), await stands('b'), left()]).toEqual([1, false, unreadable.length + 1])
    diagnostics('failure').unsubscribe(listen)
    expect(failures).toMatchObject([
      { where: 'outbox', count: unreadable.length + 1, error: { code: 'ERR_OPTION' } },
    ])
    expect(
      file.prepare('SELECT COUNT(*) AS held FROM corral_outbox WHERE claimed_until > 0').get(),
    ).toMatchObject({
      held: 0,
    })
  })

  it('says so when rows are no objects', async () => {
    const { run, box } = await open()
    await box.write(run, 'a')
    const raw: RunQuery = async (sql, values) =>
      ((await run(sql, values)) as readonly object[]).map((row) => Object.values(row))
    await expect(box.drain(raw)).rejects.toMatchObject({ code: 'ERR_OPTION' })
  })

  it('leaves nothing stale when processes that commit and drain at once are killed, and another one drains', async () => {
    const folder = mkdtempSync(join(tmpdir(), 'corral-outbox-'))
    const program = await bundleProgram('test/integrations/outbox-peer.ts')
    const { file, run, box, region, read, close } = openOutbox(folder)
    const count = () =>
      (file.prepare('SELECT COUNT(*) AS left FROM corral_outbox').get() as { left: number }).left
    let [leftByTheDead, stale] = [0, 0]
    const errors: unknown[] = []
    try {
      file.exec(`${box.createTable}; CREATE TABLE row (id INTEGER PRIMARY KEY, value INTEGER)`)
      for (const id of ROWS) file.exec(`INSERT INTO row VALUES (${id}, 0)`)
      for (let round = 0; round < 2; round++) {
        const peers = await Promise.all([program.start(folder), program.start(folder)])
        for (const peer of peers) peer.on('message', (message) => void errors.push(message))
        const until = performance.now() + 80 + 40 * round
        while (performance.now() < until) for (const id of ROWS) await read(id)
        const gone = Promise.all(peers.map((peer) => once(peer, 'exit')))
        for (const peer of peers) peer.kill('SIGKILL')
        await gone
        leftByTheDead += count()
        for (const id of ROWS) await read(id)
        // The claims of the dead run out first.
        while (count() > 0) await box.drain(run)
        for (const id of ROWS) {
          const { value } = file.prepare('SELECT value FROM row WHERE id = ?').get(id) as { value: number }
          if ((await read(id)) !== value) stale++
        }
      }
    } finally {
      program.end()
      await region.close()
      close()
      rmSync(folder, { recursive: true, force: true })
    }
    expect({ errors, stale }).toEqual({ errors: [], stale: 0 })
    expect(leftByTheDead).toBeGreaterThan(0)
  }, 30_000)

  it('claims until a whole ms, as the column holds it', async () => {
    const { region, run, stands } = await open()
    const box = outbox({ regions: region, claimFor: 20.5 })
    const times: unknown[] = []
    await box.write(run, 'a')
    await box.drain((sql, values) => {
      times.push(...values.filter((value) => typeof value === 'number'))
      return run(sql, values)
    })
    expect(times).toHaveLength(3)
    expect(times.every(Number.isInteger)).toBe(true)
    expect(await stands('a')).toBe(false)
  })

  it.each([
    ['no regions', { regions: [] }],
    ['a table that is no name', { table: 'a; DROP TABLE b' }],
    ['an option that it does not know', { tabel: 'x' }],
    ['a placeholder that is no function', { placeholder: '?' }],
    ['a claim without a time', { claimFor: 0 }],
    ['a claim that never ends', { claimFor: Number.POSITIVE_INFINITY }],
    ['a claim that ends in centuries', { claimFor: 1e18 }],
  ])('refuses %s', async (_, options) => {
    const { region } = await open()
    expect(() => outbox({ regions: region, ...options } as never)).toThrow(
      expect.objectContaining({ code: 'ERR_OPTION' }),
    )
  })
})

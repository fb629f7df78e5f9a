/** The functions `run` of the page about transactions, which let an outbox write on the connection of an ORM's transaction. */
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect } from 'vitest'
import { root } from '../../.ci/entries.mjs'
import { memory } from '../../backends/memory/index.js'
import { dependencies } from '../../proxies/dependencies.js'
import { dep, makeRegion, NO_VALUE, wrap } from '../../src/index.js'
import { type OutboxOptions, outbox, type RunQuery } from '../../src/integrations/sql.js'

/**
 * The function that the page has for a host, as it stands there.
 * @param names - the variables that it uses
 */
export function documentedRun(host: string, names: Readonly<Record<string, unknown>>): RunQuery {
  const page = readFileSync(join(root, 'docs/transactions.md'), 'utf8')
  const row = page.split('\n').find((line) => line.startsWith(`| ${host} | `) && line.includes('=>')) ?? ''
  const [, , code = ''] = /(`+)\s?(.+?)\s?\1(?!`)/.exec(row) ?? []
  expect(code, `the row of ${host}`).toMatch(/=>/)
  const make = new Function(...Object.keys(names), `return ${code}`)
  return make(...Object.values(names)) as RunQuery
}

/**
 * Writes names in a transaction that is rolled back and in one that is committed, and drains outside of both.
 * @param outside - on a connection outside of every transaction
 * @param transact - runs work in a transaction with the function of its connection
 */
export async function expectOutbox(
  outside: RunQuery,
  transact: (work: (run: RunQuery) => Promise<void>) => Promise<unknown>,
  options: Omit<OutboxOptions, 'regions'> = {},
): Promise<void> {
  const region = makeRegion<string>({ name: 'pages', backend: wrap(memory(), dependencies()) })
  for (const key of ['kept', 'old'])
    await region.set(key, key, { dependencies: dep.id('article', key), asOf: 'now' })
  const box = outbox({ regions: region, ...options })
  await outside(box.createTable, [])
  const undone = transact(async (run) => {
    await box.write(run, dep.id('article', 'kept'))
    throw new Error('undo')
  })
  await expect(undone).rejects.toThrow('undo')
  await transact((run) => box.write(run, [dep.id('article', 'old'), dep.id('article', "it's")]))
  expect(await region.get('old')).toBe('old')
  expect(await box.drain(outside)).toBe(1)
  expect([await region.get('old'), await region.get('kept')]).toEqual([NO_VALUE, 'kept'])
  expect(await box.drain(outside)).toBe(0)
}

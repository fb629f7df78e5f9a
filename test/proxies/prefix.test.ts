/** An application's prefix stands below `dependencies()`. Above it, over a store that others share, it is reported. */
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, it } from 'vitest'
import { lmdb } from '../../backends/lmdb/index.js'
import { memcached } from '../../backends/memcached/index.js'
import { memory } from '../../backends/memory/index.js'
import { redis } from '../../backends/redis/index.js'
import { dependencies } from '../../proxies/dependencies.js'
import { json } from '../../proxies/json.js'
import { prefix } from '../../proxies/prefix.js'
import {
  type Backend,
  type Bytes,
  diagnostics,
  intercept,
  type Messages,
  mapKeys,
  wrap,
} from '../../src/index.js'

/** The notices of `prefix()` while chains are built. */
function noticesOf(build: () => unknown, from = 'prefix()'): readonly string[] {
  const messages: string[] = []
  const listener = ({ where, message }: Messages['notice']) => {
    if (where === from) messages.push(message)
  }
  diagnostics('notice').subscribe(listener as never)
  try {
    build()
  } finally {
    diagnostics('notice').unsubscribe(listener as never)
  }
  return messages
}

// The servers are not connected to before the first use.
const SHARED: Readonly<Record<string, (path: string) => Backend<Bytes>>> = {
  lmdb: (path) => lmdb(path),
  redis: () => redis('redis://127.0.0.1:1'),
  memcached: () => memcached('127.0.0.1:1'),
}

for (const [name, open] of Object.entries(SHARED))
  it(`prefix() above dependencies() over ${name} is reported once for each prefix, with the remedy`, async () => {
    const folder = mkdtempSync(join(tmpdir(), 'corral-prefix-'))
    const store = open(join(folder, 'store'))
    const [one, two] = [`${name}-1:`, `${name}-2:`]
    const build = (text: string) => wrap(store, json(), dependencies(), prefix(text))
    // A chain that is built before anyone listens does not use up the only message.
    build(one)
    const first = noticesOf(() => build(one))
    expect(first).toHaveLength(1)
    expect(first[0]).toContain(`Put it below: wrap(backend, prefix('${one}'), dependencies())`)
    expect(noticesOf(() => [build(one), build(one)])).toEqual([])
    const through = () =>
      wrap(
        store,
        json(),
        dependencies(),
        intercept((_, proceed) => proceed()),
        prefix(two),
      )
    expect(noticesOf(() => [through(), build(two)])).toHaveLength(1)
    await store.close()
    rmSync(folder, { recursive: true, force: true })
  })

it('mapKeys() that puts a text before keys above dependencies() is reported as prefix() is, and no other mangler is', () => {
  const build = (mangler: (key: string) => string) =>
    wrap(redis('redis://127.0.0.1:1'), json(), dependencies(), mapKeys(mangler))
  const others = [(key: string) => key, (key: string) => key.toUpperCase(), () => 'hash']
  expect(noticesOf(() => others.map(build), 'mapKeys()')).toEqual([])
  const [notice, ...more] = noticesOf(() => build((key) => `shop:${key}`), 'mapKeys()')
  expect(notice).toContain('Put it below: wrap(backend, mapKeys(mangler), dependencies())')
  expect(more).toEqual([])
})

it('prefix() below dependencies(), without it, or over a store of one process is no notice', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'corral-prefix-'))
  const store = lmdb(join(folder, 'store'))
  const notices = noticesOf(() => [
    wrap(store, json(), prefix('below:'), dependencies()),
    wrap(store, prefix('below-encoding:'), json(), dependencies()),
    wrap(store, json(), prefix('alone:')),
    wrap(memory(), dependencies(), prefix('memory:')),
  ])
  expect(notices).toEqual([])
  await store.close()
  rmSync(folder, { recursive: true, force: true })
})

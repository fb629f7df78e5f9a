import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createStorage, prefixStorage } from 'unstorage'
import fsLite from 'unstorage/drivers/fs-lite'
import lruCache from 'unstorage/drivers/lru-cache'
import { afterAll, describe, it } from 'vitest'
import { unstorage } from '../../backends/unstorage.js'
import { backendContract, type Skip } from '../../src/testing/index.js'
import { bytes } from './values.js'

const runner = { describe, it }

/** The cases that need a driver with lifetimes. */
const skip: readonly Skip[] = [
  'a value with a lifetime leaves at its end, and not before',
  'values of one batch have their own lifetimes',
  'a second write replaces the lifetime, or takes it away',
  'a fill keeps its lifetime',
].map((name) => ({ case: name, reason: 'the driver has no lifetimes, and regions do not depend on them' }))

const folder = mkdtempSync(join(tmpdir(), 'corral-unstorage-'))
afterAll(() => rmSync(folder, { recursive: true, force: true }))
let folders = 0

const storages = {
  memory: () => createStorage(),
  'memory under a prefix': () => prefixStorage(createStorage(), 'cache'),
  'lru-cache': () => createStorage({ driver: lruCache({}) }),
  'fs-lite': () => createStorage({ driver: fsLite({ base: join(folder, `${++folders}`) }) }),
}

for (const [name, storage] of Object.entries(storages))
  backendContract(`unstorage over ${name}`, () => unstorage({ storage: storage() }), {
    values: bytes(),
    runner,
    skip,
  })

import { randomUUID } from 'node:crypto'
import KeyvRedis from '@keyv/redis'
import { afterAll, beforeAll, describe, inject, it } from 'vitest'
import { keyv } from '../../backends/keyv.js'
import { backendContract, type Skip } from '../../src/testing/index.js'
import { type Server, startRedis } from '../support/servers.js'
import { bytes } from './values.js'

const runner = { describe, it }

/** The cases that need a store from which entries leave by themselves. */
const endless: readonly Skip[] = [
  'a value with a lifetime leaves at its end, and not before',
  'values of one batch have their own lifetimes',
  'a second write replaces the lifetime, or takes it away',
  'a fill keeps its lifetime',
].map((name) => ({ case: name, reason: 'a Map has no lifetimes, and regions do not depend on them' }))

backendContract('keyv over a Map', () => keyv({ store: new Map() }), {
  values: bytes(),
  runner,
  skip: endless,
})

describe.skipIf(inject('servers').redis === null)('over @keyv/redis', () => {
  let server: Server
  const open: KeyvRedis<unknown>[] = []
  beforeAll(async () => {
    server = await startRedis()
  })
  afterAll(async () => {
    for (const store of open) await store.disconnect(true)
    await server.stop()
  })

  backendContract(
    'keyv',
    () => {
      const store = new KeyvRedis(`redis://127.0.0.1:${server.port}`, { namespace: randomUUID() })
      open.push(store)
      return keyv({ store })
    },
    { values: bytes(), runner },
  )
})

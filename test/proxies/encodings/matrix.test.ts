import { describe, expect, it } from 'vitest'
import { compress } from '../../../proxies/compress.js'
import { json } from '../../../proxies/json.js'
import { msgpack } from '../../../proxies/msgpack.js'
import { seal } from '../../../proxies/seal.js'
import { v8 } from '../../../proxies/v8.js'
import type { Backend } from '../../../src/backend/backend.js'
import type { Bytes, CachedValue } from '../../../src/backend/cached-value.js'
import { wrap } from '../../../src/chain/wrap.js'
import { defineCodec } from '../../../src/wire/codec.js'
import { undecodableTotal } from '../../support/undecodable.js'
import { METADATA, quiet, type Shelf, shelf } from './chains.js'

const text = (payload: unknown) => Buffer.from(JSON.stringify(payload))
const own = (id: number, name: string) =>
  defineCodec({ id, name, encode: text, decode: (bytes) => JSON.parse(Buffer.from(bytes).toString()) })

const old = { id: '2025', secret: Buffer.alloc(32, 1) }
const key = { id: '2026', secret: Buffer.alloc(32, 2) }
const sealed = (keys: readonly (typeof old)[], context = 'users') => seal({ keys, context })

interface Configuration {
  /** The only chains that read its entries. */
  readonly form: string
  /** The forms that it reads. @default its own */
  readonly reads?: readonly string[]
  readonly chain: (backend: Backend<Bytes>) => Backend<CachedValue>
}

/** Every chain that a region may have had, and may get, on a live cache. */
const CONFIGURATIONS: Record<string, Configuration> = {
  'json()': { form: 'json', chain: (over) => wrap(over, json()) },
  'json({ lossy })': { form: 'json', chain: (over) => wrap(over, json({ lossy: true })) },
  'msgpack()': { form: 'msgpack', chain: (over) => wrap(over, msgpack()) },
  'msgpack({ lossy })': { form: 'msgpack', chain: (over) => wrap(over, msgpack({ lossy: true })) },
  'msgpack, bundled': { form: 'msgpack', chain: (over) => wrap(over, msgpack({ profile: 'bundled' })) },
  'msgpack, records': {
    form: 'records',
    reads: ['records', 'msgpack'],
    chain: (over) => wrap(over, msgpack({ profile: 'records' })),
  },
  'v8()': { form: 'v8', chain: (over) => wrap(over, v8()) },
  'own codec': { form: 'own', chain: (over) => wrap(over, own(210, 'own')) },
  'another own codec': { form: 'another', chain: (over) => wrap(over, own(211, 'another')) },
  'compress(), json()': {
    form: 'gzip json',
    chain: (over) => wrap(over, compress({ algorithm: 'gzip', threshold: 1 }), json()),
  },
  'compress(), msgpack()': {
    form: 'gzip msgpack',
    chain: (over) => wrap(over, compress({ algorithm: 'gzip', threshold: 1 }), msgpack()),
  },
  'compress() by another algorithm, json()': {
    form: 'gzip json',
    chain: (over) => wrap(over, compress({ algorithm: 'deflate', threshold: 1 }), json()),
  },
  'compress() twice, json()': {
    form: 'gzip gzip json',
    chain: (over) =>
      wrap(
        over,
        compress({ algorithm: 'gzip', threshold: 1 }),
        compress({ algorithm: 'gzip', threshold: 1 }),
        json(),
      ),
  },
  'seal(), json()': { form: 'old json', chain: (over) => wrap(over, sealed([old]), json()) },
  'seal() with another key, json()': { form: 'new json', chain: (over) => wrap(over, sealed([key]), json()) },
  'seal() with both keys, json()': {
    form: 'new json',
    reads: ['new json', 'old json'],
    chain: (over) => wrap(over, sealed([key, old]), json()),
  },
  'seal() in another context, json()': {
    form: 'other json',
    chain: (over) => wrap(over, sealed([old], 'teams'), json()),
  },
  'seal(), compress(), json()': {
    form: 'old gzip json',
    chain: (over) => wrap(over, sealed([old]), compress({ algorithm: 'gzip', threshold: 1 }), json()),
  },
  'compress(), seal(), json()': {
    form: 'gzip old json',
    chain: (over) => wrap(over, compress({ algorithm: 'gzip', threshold: 1 }), sealed([old]), json()),
  },
}

const PAYLOAD = { id: 5, name: 'Ada', bio: 'the same again, '.repeat(30), tags: ['a', 'b'] }

async function written({ chain }: Configuration): Promise<Shelf> {
  const on = shelf()
  const writer = chain(on.backend)
  // More than once, so that shapes are learnt where shapes are.
  for (let i = 0; i < 3; i++) {
    await writer.set('key', { payload: PAYLOAD, metadata: METADATA }, {})
    await quiet()
  }
  return on
}

describe.each(Object.entries(CONFIGURATIONS))('written by %s', (_, writer) => {
  it.each(Object.entries(CONFIGURATIONS))(
    'read by %s: the same value, or a clean miss',
    async (_name, reader) => {
      const on = await written(writer)
      const chain = reader.chain(on.backend)
      const before = undecodableTotal()
      const found = await chain.get('key')
      if ((reader.reads ?? [reader.form]).includes(writer.form))
        expect(found).toEqual({ payload: PAYLOAD, metadata: METADATA })
      else {
        expect(found).toBeUndefined()
        expect(undecodableTotal()).toBeGreaterThan(before)
      }
      // And it goes on: the new configuration writes over it and reads itself.
      await chain.set('key', { payload: [PAYLOAD], metadata: METADATA }, {})
      expect(await chain.get('key')).toEqual({ payload: [PAYLOAD], metadata: METADATA })
    },
  )
  it('under another version of the frame: a clean miss', async () => {
    const on = await written(writer)
    const stored = Buffer.from(on.held.get('key') as Bytes)
    for (const first of [0, (stored[0] as number) ^ 1, (stored[0] as number) ^ 2, 0xff]) {
      on.held.set('key', Buffer.concat([Buffer.of(first), stored.subarray(1)]))
      expect(await writer.chain(on.backend).get('key')).toBeUndefined()
    }
  })
})

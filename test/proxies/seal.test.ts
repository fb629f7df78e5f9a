import { createCipheriv, createHmac, hkdfSync, randomBytes } from 'node:crypto'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { memory } from '../../backends/memory/index.js'
import { compress } from '../../proxies/compress.js'
import { json } from '../../proxies/json.js'
import { msgpack } from '../../proxies/msgpack.js'
import { type SealKey, type SealOptions, seal } from '../../proxies/seal.js'
import { v8 } from '../../proxies/v8.js'
import type { Backend } from '../../src/backend/backend.js'
import type { Bytes, CachedValue } from '../../src/backend/cached-value.js'
import { CorralError } from '../../src/base/errors.js'
import type { BackendProxy } from '../../src/chain/proxy.js'
import { wrap } from '../../src/chain/wrap.js'
import { makeRegion } from '../../src/region/region.js'
import { frame } from '../../src/wire/frame.js'
import { LONG } from '../support/long.js'
import { seeded } from '../support/seeded.js'
import { undecodableTotal } from '../support/undecodable.js'
import { bytesStore, now, rows, same } from './encodings/bytes-store.js'

const modes = ['encrypt', 'sign'] as const
const old: SealKey = { id: 1, secret: randomBytes(32) }
const current: SealKey = { id: 2, secret: randomBytes(48) }
const bytes = rows(3)
const context = 'users'

describe.each(modes)('seal in the mode %s', (mode) => {
  const proxy = seal({ keys: [current], context, mode })
  const { put, read } = bytesStore()

  it('gives back the very bytes, at once', async () => {
    for (const one of [new Uint8Array(), bytes, rows(5_000)]) {
      const stored = await put(proxy, one)
      expect(same(await read(proxy, stored), one)).toBe(true)
    }
    const chain = wrap(memory({ stores: 'bytes' }), proxy)
    now(chain.set('key', bytes, {}))
    expect(now(chain.get('key'))).toBeDefined()
  })

  it(
    mode === 'encrypt' ? 'hides what is stored, differently each time' : 'leaves what is stored readable',
    async () => {
      const stored = Buffer.from(await put(proxy, bytes))
      expect(stored.includes(Buffer.from(bytes))).toBe(mode === 'sign')
      const again = await put(proxy, bytes)
      expect(same(again, stored)).toBe(mode === 'sign')
      expect(stored).toHaveLength(bytes.length + (mode === 'encrypt' ? 33 : 37))
    },
  )

  it('misses an entry with any bit flipped, and counts it', async () => {
    const stored = await put(proxy, bytes)
    for (let bit = 0; bit < stored.length * 8; bit++) {
      const damaged = Buffer.from(stored)
      damaged[bit >> 3] = (damaged[bit >> 3] as number) ^ (1 << (bit & 7))
      const before = undecodableTotal()
      expect(await read(proxy, damaged), `bit ${bit}`).toBeUndefined()
      expect(undecodableTotal()).toBe(before + 1)
    }
  })

  it('misses every truncation and every extension', async () => {
    const stored = await put(proxy, bytes)
    for (let length = 0; length < stored.length; length++)
      expect(await read(proxy, stored.subarray(0, length)), `cut to ${length}`).toBeUndefined()
    for (const more of [1, 16, 300])
      expect(await read(proxy, Buffer.concat([stored, Buffer.alloc(more)]))).toBeUndefined()
  })

  it('misses an entry that was moved to another key', async () => {
    const stored = await put(proxy, bytes, 'user:1')
    expect(await read(proxy, stored, 'user:2')).toBeUndefined()
    expect(await read(proxy, stored, 'user:')).toBeUndefined()
    expect(await read(proxy, stored, 'user:1')).toBeDefined()
  })

  it('tells keys apart that UTF-8 makes the same', async () => {
    const stored = await put(proxy, bytes, 'a\ud800')
    expect(await read(proxy, stored, 'a\ud801')).toBeUndefined()
    expect(await read(proxy, stored, 'a\ufffd')).toBeUndefined()
    expect(await read(proxy, stored, 'a\ud800')).toBeDefined()
  })

  it('misses an entry of another context, also where context and key join to the same text', async () => {
    const stored = await put(proxy, bytes, 'x:1')
    for (const [other, key] of [
      ['orders', 'x:1'],
      ['usersx', ':1'],
      ['user', 'sx:1'],
      ['users ', 'x:1'],
    ] as const)
      expect(await read(seal({ keys: [current], context: other, mode }), stored, key)).toBeUndefined()
  })

  it('misses an entry of an unknown key, and never tries the keys that it has', async () => {
    const stored = await put(seal({ keys: [old], context, mode }), bytes)
    expect(await read(proxy, stored)).toBeUndefined()
    // The same secret under another id: the id in the entry decides, and is bound.
    expect(await read(seal({ keys: [{ id: 3, secret: old.secret }], context, mode }), stored)).toBeUndefined()
  })

  it('misses an entry that was replayed under the id of another key', async () => {
    const both = seal({ keys: [current, old], context, mode })
    const stored = Buffer.from(await put(both, bytes))
    expect(stored.toString('latin1', 3, 5)).toBe('\u00012')
    stored[4] = '1'.charCodeAt(0)
    expect(await read(both, stored)).toBeUndefined()
    // Even when both ids have one secret.
    const twins = seal({
      keys: [
        { id: 1, secret: old.secret },
        { id: 2, secret: old.secret },
      ],
      context,
      mode,
    })
    const twin = Buffer.from(await put(twins, bytes))
    twin[4] = '2'.charCodeAt(0)
    expect(await read(twins, twin)).toBeUndefined()
  })

  it('misses an entry of the other mode, also when its flags are changed', async () => {
    const other = seal({ keys: [current], context, mode: mode === 'sign' ? 'encrypt' : 'sign' })
    const stored = Buffer.from(await put(other, bytes))
    expect(await read(proxy, stored)).toBeUndefined()
    for (let flags = 0; flags < 256; flags++) {
      stored[2] = flags
      expect(await read(proxy, stored)).toBeUndefined()
    }
  })

  it('misses values that were never sealed, and a sealed entry is nothing to a chain without it', async () => {
    for (const plain of [
      new Uint8Array(),
      bytes,
      Buffer.of(0xfd, 2),
      Buffer.of(0xfd, 2, 1),
      Buffer.of(0xfd, 2, 2, 0),
    ])
      expect(await read(proxy, plain)).toBeUndefined()
    expect(await read(compress(), await put(proxy, bytes))).toBeUndefined()
  })

  it('rotates keys without one miss', async () => {
    const store = memory({ stores: 'bytes' })
    const fleet = {
      before: wrap(store, seal({ keys: [old], context, mode })),
      announced: wrap(store, seal({ keys: [old, current], context, mode })),
      rotated: wrap(store, seal({ keys: [current, old], context, mode })),
      after: wrap(store, seal({ keys: [current], context, mode })),
    }
    const before = undecodableTotal()
    const written: string[] = []
    // Two stages of a rollout always overlap; both read the values of either.
    for (const stage of [
      ['before', 'announced'],
      ['announced', 'rotated'],
    ] as const)
      for (const writer of stage) {
        const key = `${stage.join()} ${writer}`
        await fleet[writer].set(key, bytes, {})
        written.push(key)
        for (const reader of stage)
          for (const one of written) expect(await fleet[reader].get(one), `${one} in ${reader}`).toBeDefined()
      }
    for (const key of written) await fleet.rotated.set(key, (await fleet.rotated.get(key)) as Uint8Array, {})
    for (const key of written) expect(await fleet.after.get(key)).toBeDefined()
    expect(undecodableTotal()).toBe(before)
  })

  it('stops an entry that was forged with a right CRC', async () => {
    const metadata = { startedAt: 1, createdAt: 2 }
    const entry = frame(1, metadata, Buffer.from('{"admin":false}'), 'user:1')
    const forgery = frame(1, metadata, Buffer.from('{"admin":true}'), 'user:1')
    const stored = await put(proxy, entry, 'user:1')
    const inside = Buffer.from(stored).indexOf(entry)
    if (mode === 'sign') expect(inside).toBe(5)
    const swapped = Buffer.concat([stored.subarray(0, 5), forgery, stored.subarray(stored.length - 32)])
    for (const attempt of [forgery, swapped]) expect(await read(proxy, attempt, 'user:1')).toBeUndefined()
  })

  it('accepts an old entry that is replayed under its own key: nothing in it tells that it is old', async () => {
    const older = await put(proxy, rows(1), 'user:1')
    await put(proxy, rows(2), 'user:1')
    expect(same(await read(proxy, older, 'user:1'), rows(1))).toBe(true)
  })

  it(
    'never throws and never opens random or damaged bytes',
    async () => {
      const random = seeded(mode.length)
      const whole = (below: number) => Math.floor(random() * below)
      const sample = await put(proxy, rows(1))
      for (let round = 0; round < (LONG ? 1_000_000 : 5_000); round++) {
        const stored = Buffer.from(sample)
        if (round % 2 === 0)
          stored.set(
            Array.from({ length: whole(60) }, () => whole(256)),
            whole(10),
          )
        else for (let hits = 1 + whole(4); hits > 0; hits--) stored[whole(stored.length)] = whole(256)
        const cut = stored.subarray(0, round % 3 === 0 ? whole(stored.length) : stored.length)
        const found = await read(proxy, cut)
        expect(found === undefined || same(cut, sample)).toBe(true)
      }
    },
    LONG ? 600_000 : 30_000,
  )

  it('brings every key and every value back, and only under that key', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.string({ unit: 'binary' }),
        fc.string({ unit: 'binary' }),
        fc.uint8Array({ maxLength: 300 }),
        async (key, other, value) => {
          const stored = await put(proxy, value, key)
          expect(same(await read(proxy, stored, key), value)).toBe(true)
          if (other !== key) expect(await read(proxy, stored, other)).toBeUndefined()
        },
      ),
    )
  })

  it('stores bytes that share no memory', async () => {
    const stored = await put(proxy, bytes)
    expect(stored.buffer.byteLength).toBe(stored.length)
  })
})

describe('seal', () => {
  const { put, read } = bytesStore()

  it('never uses a nonce twice', async () => {
    const proxy = seal({ keys: [current], context })
    const nonces = new Set<string>()
    for (let i = 0; i < 20_000; i++)
      nonces.add(Buffer.from(await put(proxy, new Uint8Array())).toString('latin1', 5, 17))
    expect(nonces.size).toBe(20_000)
  })

  it('refuses a tag that is shorter than sixteen bytes', async () => {
    // Made with the true derived key: only the length of its tag is wrong.
    const secret = Buffer.alloc(32, 7)
    const key = hkdfSync(
      'sha256',
      secret,
      new Uint8Array(),
      Buffer.from('corral seal encrypt users', 'utf16le'),
      32,
    )
    const cipher = createCipheriv('aes-256-gcm', Buffer.from(key), Buffer.alloc(12), { authTagLength: 4 })
    const body = Buffer.concat([cipher.update(bytes), cipher.final(), cipher.getAuthTag()])
    const stored = Buffer.concat([Buffer.of(0xfd, 2, 1, 1, 0x31), Buffer.alloc(12), body])
    expect(await read(seal({ keys: [{ id: 1, secret }], context }), stored)).toBeUndefined()
  })

  it('is pinned byte by byte: values of version 1 open for ever', async () => {
    const secret = Buffer.alloc(32, 7)
    const text = (value: string) =>
      Buffer.concat([Buffer.of(value.length, 0, 0, 0), Buffer.from(value, 'utf16le')])
    const derive = (mode: string) =>
      Buffer.from(
        hkdfSync('sha256', secret, new Uint8Array(), Buffer.from(`corral seal ${mode} users`, 'utf16le'), 32),
      )
    const id = Buffer.of(2, 0x6b, 0x31)
    const bond = (mode: number) => Buffer.concat([Buffer.of(2, mode), id, text('users'), text('user:1')])
    const payload = Buffer.from('payload')

    const nonce = Buffer.alloc(12, 9)
    const cipher = createCipheriv('aes-256-gcm', derive('encrypt'), nonce).setAAD(bond(1))
    const hidden = Buffer.concat([cipher.update(payload), cipher.final(), cipher.getAuthTag()])
    const encrypted = Buffer.concat([Buffer.of(0xfd, 2, 1), id, nonce, hidden])
    const mac = createHmac('sha256', derive('sign')).update(bond(2)).update(payload).digest()
    const signed = Buffer.concat([Buffer.of(0xfd, 2, 2), id, payload, mac])

    const keys = [{ id: 'k1', secret }]
    for (const [mode, stored] of [
      ['encrypt', encrypted],
      ['sign', signed],
    ] as const)
      expect(same(await read(seal({ keys, context, mode }), stored, 'user:1'), payload), mode).toBe(true)
    expect(same(await put(seal({ keys, context, mode: 'sign' }), payload, 'user:1'), signed)).toBe(true)
    expect({ encrypted: encrypted.toString('hex'), signed: signed.toString('hex') }).toMatchInlineSnapshot(`
      {
        "encrypted": "fd0201026b310909090909090909090909091f7b601d43e797b53ab27d34c8bda15d3f81e3149facc8",
        "signed": "fd0202026b317061796c6f6164f31a7b572c82391a776b1edd9531ebb40177bb9a52c901b514b5e429d29b31c6",
      }
    `)
  })

  it('takes secrets as bytes, base64, base64url and hex', async () => {
    const secret = randomBytes(32)
    const forms = [
      secret,
      new Uint8Array(secret),
      secret.toString('base64'),
      secret.toString('base64url'),
      secret.toString('hex'),
      secret.toString('hex').toUpperCase(),
    ]
    const stored = await put(seal({ keys: [{ id: 'a', secret }], context }), bytes)
    for (const form of forms)
      expect(await read(seal({ keys: [{ id: 'a', secret: form }], context }), stored)).toBeDefined()
  })

  it('keeps no hold on the bytes of a secret', async () => {
    const secret = Buffer.from(old.secret as Uint8Array)
    const proxy = seal({ keys: [{ id: 1, secret }], context })
    secret.fill(0)
    expect(await read(seal({ keys: [old], context }), await put(proxy, bytes))).toBeDefined()
  })

  it('compresses before it seals when it stands below compress', async () => {
    const store = memory({ stores: 'bytes' })
    const chain = wrap(store, seal({ keys: [current], context }), compress())
    await chain.set('key', rows(300), {})
    expect(((await store.get('key')) as Uint8Array).length).toBeLessThan(rows(300).length / 2)
    expect(same(await chain.get('key'), rows(300))).toBe(true)
  })

  it.each<[unknown, string]>([
    [{ keys: [current] }, 'Expected `context` of seal()'],
    [{ keys: [current], context: '' }, 'Expected `context` of seal()'],
    [{ keys: [current], context: 'x'.repeat(257) }, 'Expected `context` of seal()'],
    [{ keys: [], context }, 'a list of at least one { id, secret }, got an empty one'],
    [{ keys: current, context }, 'a list of at least one { id, secret }'],
    [{ keys: [undefined], context }, 'Expected `keys[0]`'],
    [
      { keys: [current, { ...current }], context },
      'Expected every key of seal() to have an id of its own, got `2` twice',
    ],
    [
      {
        keys: [
          { id: 2, secret: old.secret },
          { id: '2', secret: old.secret },
        ],
        context,
      },
      'twice',
    ],
    [{ keys: [{ secret: old.secret }], context }, 'Expected `keys[0].id`'],
    [{ keys: [{ id: '', secret: old.secret }], context }, 'Expected `keys[0].id`'],
    [{ keys: [{ id: 1.5, secret: old.secret }], context }, 'Expected `keys[0].id`'],
    [{ keys: [{ id: 'é'.repeat(128), secret: old.secret }], context }, 'got one of 256 bytes'],
    [{ keys: [{ id: '\ud800', secret: old.secret }], context }, 'Expected `keys[0].id`'],
    [
      { keys: [{ id: 1, secret: old.secret, secrte: 1 }], context },
      'Unknown option `secrte` of keys[0] of seal()',
    ],
    [
      { keys: [current], context, mode: 'none' },
      "Expected `mode` of seal() to be 'encrypt' or 'sign', got 'none'",
    ],
    [{ keys: [current], context, algorithm: 'aes-128-gcm' }, 'Unknown option `algorithm` of seal()'],
  ])('refuses %#', (options, message) => {
    expect(() => seal(options as SealOptions)).toThrowError(message)
    expect(code(() => seal(options as SealOptions))).toBe('ERR_OPTION')
  })

  it.each([
    ['too short', randomBytes(31)],
    ['too short in hex', randomBytes(31).toString('hex')],
    ['too short in base64', randomBytes(23).toString('base64')],
    ['in neither form', 'a pass phrase, which is no random secret!'],
    ['something else', { secret: 'hunter2 hunter2 hunter2 hunter2 hunter2' }],
    ['missing', undefined],
  ])('refuses a secret that is %s, and never shows it', (_, secret) => {
    const shownForms =
      secret instanceof Uint8Array
        ? [secret.toString('hex'), secret.toString('base64')]
        : [JSON.stringify(secret)?.slice(1, -1) ?? 'never']
    try {
      seal({ keys: [current, { id: 'new', secret: secret as string }], context })
      throw new Error('Expected seal() to throw.')
    } catch (error) {
      expect(CorralError.is(error, 'ERR_OPTION')).toBe(true)
      const { message } = error as Error
      expect(message).toContain('Expected `keys[1].secret` of seal() to be at least 32 random bytes')
      for (const form of shownForms) expect(message).not.toContain(form)
    }
  })
})

describe('changing keys, context or mode on a live cache', () => {
  it('gives the right bytes or a miss, and never throws', async () => {
    const { put, read } = bytesStore()
    const plain: BackendProxy<Bytes, Bytes> = (next) => next
    const layers: readonly BackendProxy<Bytes, Bytes>[] = [
      ...modes.flatMap((mode) =>
        [[old], [current], [current, old]].flatMap((keys) =>
          ['users', 'orders'].map((one) => seal({ keys, context: one, mode })),
        ),
      ),
      compress({ threshold: 0 }),
      (next) => wrap(next, seal({ keys: [current], context }), compress({ threshold: 0 })),
      (next) => wrap(next, compress({ threshold: 0 }), seal({ keys: [current], context })),
    ]
    let hits = 0
    for (const writer of [...layers, plain])
      for (const reader of layers) {
        const found = await read(reader, await put(writer, bytes))
        if (found === undefined) continue
        // A layer that is read without the one above it gives that one's bytes, which no encoding takes for its own.
        if (found[0] !== 0xfd) expect(same(found, bytes)).toBe(true)
        hits++
      }
    expect(hits).toBeGreaterThan(layers.length)
  })
})

describe.each([
  ['json', json],
  ['msgpack', msgpack],
  ['v8', v8],
] as const)('a region over %s whose layers change between two runs of an application', (_, encoding) => {
  const layers: Readonly<Record<string, (store: Backend<Bytes>) => Backend<CachedValue>>> = {
    plain: (store) => wrap(store, encoding()),
    deflate: (store) => wrap(store, compress({ threshold: 0 }), encoding()),
    brotli: (store) => wrap(store, compress({ algorithm: 'brotli', threshold: 0 }), encoding()),
    sealed: (store) => wrap(store, seal({ keys: [current], context }), encoding()),
    signed: (store) => wrap(store, seal({ keys: [current], context, mode: 'sign' }), encoding()),
    'sealed with the old key': (store) => wrap(store, seal({ keys: [old], context }), encoding()),
    'sealed and compressed': (store) =>
      wrap(store, seal({ keys: [current, old], context }), compress({ threshold: 0 }), encoding()),
    'compressed and sealed': (store) =>
      wrap(store, compress({ threshold: 0 }), seal({ keys: [current, old], context }), encoding()),
  }
  /** The algorithm stands in the entry: these read each other. */
  const alike = ['deflate', 'brotli']

  it.each(Object.keys(layers))('always returns the created value, after %s', async (writer) => {
    for (const reader of Object.keys(layers)) {
      const store = memory({ stores: 'bytes' })
      const value = { rows: [{ id: 1, name: 'Ada' }], text: 'x'.repeat(2_000) }
      const before = makeRegion({ name: 'app', backend: layers[writer]?.(store) as Backend<CachedValue> })
      await before.set('key', value)
      const after = makeRegion({ name: 'app', backend: layers[reader]?.(store) as Backend<CachedValue> })
      let created = 0
      const found = await after.getOrCreate('key', () => {
        created++
        return value
      })
      expect(found).toEqual(value)
      const readable = reader === writer || (alike.includes(reader) && alike.includes(writer))
      expect(created, reader).toBe(readable ? 0 : 1)
      expect(after.peek('key')).toEqual(value)
    }
  })
})

function code(run: () => unknown): string | undefined {
  try {
    run()
  } catch (error) {
    return (error as CorralError).code
  }
  return undefined
}

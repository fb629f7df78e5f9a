import { Unpackr } from 'msgpackr'
import { describe, expect, it } from 'vitest'
import { json } from '../../../proxies/json.js'
import { msgpack } from '../../../proxies/msgpack.js'
import { v8 } from '../../../proxies/v8.js'
import { CODEC_JSON, CODEC_MSGPACK, CODEC_MSGPACK_SHARED, CODEC_V8 } from '../../../src/wire/codec.js'
import { benchOf, codecOf, ENCODINGS, forged, learnShapes, payloadOf } from './chains.js'

const text = (json: string) => forged(CODEC_JSON, Buffer.from(json))
const packed = (...parts: readonly (number | string | Uint8Array)[]) =>
  forged(
    CODEC_MSGPACK,
    Buffer.concat(
      parts.map((part) => (typeof part === 'number' ? Buffer.of(part) : Buffer.from(part as string))),
    ),
  )
const MAJOR = Number.parseInt(process.versions.node, 10)
const clonedBytes = (bytes: Uint8Array) =>
  forged(CODEC_V8, Buffer.concat([Buffer.of(MAJOR, 0xff, 15), bytes]))
const cloned = (...bytes: readonly number[]) => clonedBytes(Buffer.from(bytes))

const DEEP = 200_000

/** Runs something, and checks that it neither takes long nor keeps much. */
function cheaply<T>(run: () => T): T {
  const start = performance.now()
  const before = process.memoryUsage()
  const result = run()
  const after = process.memoryUsage()
  expect(performance.now() - start).toBeLessThan(3000)
  const used = (usage: NodeJS.MemoryUsage) => usage.external + usage.arrayBuffers + usage.heapUsed
  expect(used(after) - used(before)).toBeLessThan(128 * 2 ** 20)
  return result
}

describe.each(Object.entries(ENCODINGS))('%s: accidents are misses', (_, make) => {
  const stored = Buffer.from(benchOf(make()).put({ id: 5, name: 'x' }))
  const bench = benchOf(make())

  it('every bit flipped', () => {
    for (let bit = 0; bit < stored.length * 8; bit++) {
      const damaged = Buffer.from(stored)
      damaged[bit >> 3] = (damaged[bit >> 3] as number) ^ (1 << (bit & 7))
      expect(bench.misses(damaged)).toBe(true)
    }
  })
  it('truncated, extended, empty', () => {
    for (let length = 0; length < stored.length; length++)
      expect(bench.misses(stored.subarray(0, length))).toBe(true)
    expect(bench.misses(Buffer.concat([stored, Buffer.of(0)]))).toBe(true)
    expect(bench.misses(Buffer.concat([stored, stored]))).toBe(true)
  })
  it('swapped between keys', () => {
    expect(bench.read(stored, 'key')).toBeDefined()
    expect(bench.misses(stored, 'other')).toBe(true)
  })
  it('values that other programs store', () => {
    for (const foreign of ['', '5', '{"a":1}', 'plain text', '\ud83d\ude00', '\0'.repeat(64)])
      expect(bench.misses(Buffer.from(foreign))).toBe(true)
  })
  it('replayed under every other codec', () => {
    const payload = payloadOf(stored)
    const own = codecOf(stored) as number
    for (let codec = 0; codec < 256; codec++) {
      if (codec === own) continue
      const read = bench.read(forged(codec, payload))
      // Both ids of MessagePack are read by `records`; the other's payload has no table of that name.
      if (read !== undefined) expect([own, codec].sort()).toEqual([CODEC_MSGPACK, CODEC_MSGPACK_SHARED])
    }
  })
  it('empty payloads', () => {
    for (const codec of [CODEC_JSON, CODEC_MSGPACK, CODEC_MSGPACK_SHARED, CODEC_V8])
      expect(bench.read(forged(codec, new Uint8Array()))?.payload).toBeUndefined()
  })
})

describe('json(): forged entries', () => {
  const bench = benchOf(json())
  it.each([
    ['arrays', '['.repeat(DEEP) + ']'.repeat(DEEP)],
    ['objects', `${'{"a":'.repeat(DEEP)}1${'}'.repeat(DEEP)}`],
    ['arrays, the deep one not the first', `[1,[2],${'[0,'.repeat(DEEP)}1${']'.repeat(DEEP)}]`],
    ['501 levels', '['.repeat(501) + ']'.repeat(501)],
  ])('nesting without end: %s', (_, deep) => {
    expect(cheaply(() => bench.misses(text(deep)))).toBe(true)
  })
  it('but as deep as may be stored is read', () => {
    expect(bench.read(text('['.repeat(500) + ']'.repeat(500)))).toBeDefined()
    const deeper = benchOf(json({ maxDepth: 1000 }))
    expect(deeper.read(text('['.repeat(1000) + ']'.repeat(1000)))).toBeDefined()
  })
  it('nesting without end for a reviver', () => {
    const reviving = benchOf(json({ reviver: (_, value) => value }))
    expect(reviving.misses(text('['.repeat(DEEP) + ']'.repeat(DEEP)))).toBe(true)
  })
  it.each([
    '{"__proto__":{"admin":true}}',
    '{"a":[{"__proto__":1}]}',
    '{"\\u005f_proto__":1}',
    '{"__\\u0070roto__":1}',
    '{"__p\\u0072oto__":1}',
    '{"__pr\\u006Fto__":1}',
    '{"__pro\\u0074o__":1}',
    '{"\\u005F\\u005f\\u0070\\u0072\\u006f\\u0074\\u006f\\u005f\\u005f":1}',
  ])('a key that poisons prototypes: %s', (poison) => {
    expect(bench.misses(text(poison))).toBe(true)
    expect(benchOf(json({ reviver: (_, value) => value })).misses(text(poison))).toBe(true)
  })
  it('but text that only mentions it is read', () => {
    for (const fine of [
      '__proto__',
      '"__proto__":1',
      '\\u005f_proto__',
      { x__proto__: 1, __proto__x: '"__proto__":' },
    ])
      expect(bench.back(fine)).toMatchObject({ payload: fine })
  })
  it('no JSON at all', () => {
    for (const broken of ['{', '[1,]', 'undefined', 'NaN', '\ufeff1', '1 2', '"', '{"a":1,}', "'a'"])
      expect(bench.misses(text(broken))).toBe(true)
  })
})

describe.each<[string, () => ReturnType<typeof msgpack>]>([
  ['msgpack()', () => msgpack()],
  ["msgpack({ profile: 'records' })", () => msgpack({ profile: 'records' })],
])('%s: forged entries', (_, make) => {
  const bench = benchOf(make())

  it.each<[string, Uint8Array]>([
    ['arrays', Buffer.alloc(DEEP, 0x91)],
    ['arrays with an end', Buffer.concat([Buffer.alloc(DEEP, 0x91), Buffer.of(1)])],
    ['maps', Buffer.alloc(DEEP * 2, Buffer.of(0x81, 0x01))],
    ['maps in keys', Buffer.alloc(DEEP, 0x81)],
    ['sets', Buffer.alloc(DEEP * 4, Buffer.of(0xd4, 0x73, 0x00, 0x91))],
    ['references', Buffer.alloc(DEEP * 7, Buffer.of(0xd6, 0x69, 0, 0, 0, 1, 0x91))],
    ['records', Buffer.concat([Buffer.from('d4724091a161', 'hex'), Buffer.alloc(DEEP, 0x40)])],
    ['definitions', Buffer.alloc(DEEP * 6, Buffer.from('d4724091a161', 'hex'))],
    ['errors', Buffer.alloc(DEEP * 3, Buffer.of(0xd4, 0x65, 0x00))],
    ['bundles', Buffer.alloc(DEEP * 6, Buffer.of(0xd6, 0x62, 0, 0, 0, 4))],
  ])('nesting without end: %s', (_name, payload) => {
    expect(cheaply(() => bench.misses(forged(CODEC_MSGPACK, payload)))).toBe(true)
    expect(bench.back({ still: 'well' })).toMatchObject({ payload: { still: 'well' } })
  })

  it.each<[string, ...(number | string)[]]>([
    ['an array', 0xdd, 0xff, 0xff, 0xff, 0xff],
    ['an array of 2^16', 0xdc, 0xff, 0xff],
    ['a map', 0xdf, 0xff, 0xff, 0xff, 0xff],
    ['text', 0xdb, 0xff, 0xff, 0xff, 0xff],
    ['bytes', 0xc6, 0xff, 0xff, 0xff, 0xff],
    ['an extension', 0xc9, 0xff, 0xff, 0xff, 0xff, 0x74],
    ['a typed array', 0xc9, 0x7f, 0xff, 0xff, 0xff, 0x74, 0x08],
    ['a bigint', 0xc9, 0xff, 0xff, 0xff, 0xff, 0x42],
    ['a bundle', 0xd6, 0x62, 0x7f, 0xff, 0xff, 0xff],
    ['a bundle before the beginning', 0xd6, 0x62, 0xff, 0xff, 0xff, 0x00],
    [
      'many arrays',
      ...Array(2000)
        .fill('\u{dd}')
        .flatMap(() => [0xdd, 0x00, 0x00, 0xff, 0xff]),
    ],
    ['a record', 0xd4, 0x72, 0x40, 0xdd, 0xff, 0xff, 0xff, 0xff],
  ])('an absurd length of %s', (_name, ...parts) => {
    expect(cheaply(() => bench.misses(packed(...parts)))).toBe(true)
  })

  it('a float array whose bytes are not a multiple of eight', () => {
    expect(bench.misses(packed(0xc7, 0x05, 0x74, 0x08, 1, 2, 3))).toBe(true)
  })
  it('trailing bytes, unknown extensions, nothing that any writer writes', () => {
    for (const parts of [
      [1, 1],
      [0xd4, 0x20, 0],
      [0xd6, 0x70, 0, 0, 0, 9],
      [0xc7, 0, 0x13],
    ])
      expect(bench.misses(packed(...parts))).toBe(true)
  })

  it('bytes behind a value whose parts are shared 2^100 times', () => {
    const level = (kind: number, id: number) => Buffer.of(0xd6, kind, 0, 0, 0, id)
    const ids = Array.from({ length: 100 }, (_, i) => i + 1)
    const opening = ids.map((id) => Buffer.concat([Buffer.of(0x92), level(0x69, id)]))
    const closing = ids.map((id) => level(0x70, id)).reverse()
    const bytes = Buffer.concat([...opening, Buffer.of(0x90), ...closing])
    expect(cheaply(() => bench.read(forged(CODEC_MSGPACK, bytes)))).toBeDefined()
    expect(cheaply(() => bench.misses(forged(CODEC_MSGPACK, Buffer.concat([bytes, Buffer.of(1)]))))).toBe(
      true,
    )
  })

  it.each<[string, ...(number | string)[]]>([
    ['fixext 1', 0xd4, 0x78, 0x00, 0x92, 0xa4, '(a+)', 0xa0],
    ['ext 8', 0xc7, 0x00, 0x78, 0x92, 0xa4, '(a+)', 0xa0],
    ['ext 16', 0xc8, 0x00, 0x00, 0x78, 0x92, 0xa4, '(a+)', 0xa0],
    ['ext 32', 0xc9, 0x00, 0x00, 0x00, 0x00, 0x78, 0x92, 0xa4, '(a+)', 0xa0],
    ['fixext 2', 0xd5, 0x78, 0, 0, 0x92, 0xa4, '(a+)', 0xa0],
    ['fixext 4', 0xd6, 0x78, 0, 0, 0, 0, 0x92, 0xa4, '(a+)', 0xa0],
    ['fixext 8', 0xd7, 0x78, ...Array(8).fill(0), 0x92, 0xa4, '(a+)', 0xa0],
    ['fixext 16', 0xd8, 0x78, ...Array(16).fill(0), 0x92, 0xa4, '(a+)', 0xa0],
  ])('a RegExp as %s', (_name, ...parts) => {
    expect(bench.misses(packed(...parts))).toBe(true)
    expect(bench.misses(packed(0x92, 1, ...parts))).toBe(true)
    expect(bench.misses(packed(0x81, ...parts, 1))).toBe(true)
    // The bytes do make one: the refusal above has no other reason.
    expect(benchOf(msgpack({ regExp: true })).read(packed(...parts))).toMatchObject({ payload: /(a+)/ })
  })
  it('a RegExp that cannot be', () => {
    expect(benchOf(msgpack({ regExp: true })).misses(packed(0xd4, 0x78, 0x00, 0x92, 0xa2, '(a', 0xa0))).toBe(
      true,
    )
  })
  it('but text that looks like a RegExp is read', () => {
    for (const fine of [
      '\u00d4x',
      '\u01c7x',
      '\u0487x',
      'x'.repeat(300),
      Buffer.from([0xd4, 0x78, 0xc7, 0, 0x78]),
    ])
      expect(bench.back([fine])?.payload).toEqual([fine])
  })

  it('a key that poisons prototypes, in a map, a record, a bundle', () => {
    const key = '__proto__'
    const record = [0xd4, 0x72, 0x40, 0x91, 0xa9, key]
    expect(bench.misses(packed(...record, 0x81, 0xa1, 'a', 1))).toBe(true)
    expect(bench.misses(packed(0x95, ...record, 1, 0x40, 1, 0x40, 1, 0x40, 1, 0x40, 1))).toBe(true)
    // Without records msgpackr reads a map as a Map, in which the key is harmless.
    expect(bench.read(packed(0x81, 0xa9, key, 1))?.payload).toEqual(new Map([[key, 1]]))
    expect(({} as { a?: unknown }).a).toBeUndefined()
    // Through Object.assign of the object into which a cycle was read.
    expect(bench.misses(packed(0xd6, 0x69, 0, 0, 0, 1, ...record, 0xd6, 0x70, 0, 0, 0, 1))).toBe(true)
  })
  it('but text that only mentions it is read', () => {
    const fine = { text: '__proto__', x__proto__: new Map([['__proto__', 1]]) }
    expect(bench.back(fine)?.payload).toEqual(fine)
  })
})

describe('msgpack(): record definitions', () => {
  const bench = benchOf(msgpack())
  const define = (name: string) => {
    const bytes = Buffer.from(name)
    return [0xd4, 0x72, 0x40, 0x91, 0xda, bytes.length >> 8, bytes.length & 0xff, name] as const
  }
  const global = globalThis as { pwned?: boolean }

  it.each([
    'a"]:globalThis.pwned=true,["b',
    'a:globalThis.pwned=true,b',
    '})}+(globalThis.pwned=true)+function(){({',
    '"]:r()})};globalThis.pwned=true;//',
    '\\"]:globalThis.pwned=true,["b',
    '\u2028globalThis.pwned=true',
    `\${globalThis.pwned=true}`,
    '`+(globalThis.pwned=true)+`',
    '[globalThis.pwned=true]',
    'get a(){globalThis.pwned=true},b',
    'constructor',
    '__defineGetter__',
    'a\0b',
    '',
    'r',
    'Function',
    'this',
    '\ufeff',
    '1e5',
    'ſ',
  ])('of the name %j are names and no code, however often they are read', (name) => {
    const definition = define(name)
    const rows = Array.from({ length: 9 }, () => [0x40, 1]).flat()
    const read = bench.read(packed(0x9a, ...definition, 1, ...rows))
    expect(global.pwned).toBeUndefined()
    expect(read?.payload).toEqual(Array.from({ length: 10 }, () => ({ [name]: 1 })))
  })
  it('are gone with their entry', () => {
    expect(bench.read(packed(...define('a'), 1))?.payload).toEqual({ a: 1 })
    expect(bench.read(packed(0x40))?.payload).toBe(0x40)
    // Of two bytes, whose places are no elements of msgpackr's list.
    bench.read(packed(0xd5, 0x72, 0x41, 0x05, 0x91, 0xa1, 'a', 1))
    expect(bench.misses(packed(0xd5, 0x72, 0x41, 0x00, 0x91, 0xa1, 'b', 1, 0x41, 0x05))).toBe(true)
  })
  it('in such number that compiling them would take half a minute', () => {
    const count = 50_000
    const parts = [Buffer.from('dd00000000', 'hex')]
    parts[0]?.writeUInt32BE(count * 4, 1)
    for (let i = 0; i < count; i++)
      parts.push(
        Buffer.from(
          `d4724091a4${Buffer.from(i.toString(36).padStart(4, '_')).toString('hex')}01400140014001`,
          'hex',
        ),
      )
    const attack = Buffer.concat(parts)
    const timed = (run: () => unknown) => {
      const start = performance.now()
      run()
      return performance.now() - start
    }
    const bare = timed(() => new Unpackr({ moreTypes: true }).unpack(attack))
    const ours = timed(() =>
      expect(bench.read(forged(CODEC_MSGPACK, attack))?.payload).toHaveLength(count * 4),
    )
    expect(ours).toBeLessThan(bare / 2)
  })
  it('of many true shapes are read none the worse', () => {
    const rows = Array.from({ length: 4000 }, (_, i) => ({ [`kind${i % 300}`]: i, name: `row ${i}` }))
    expect(bench.back(rows)?.payload).toEqual(rows)
  })
})

describe("msgpack({ profile: 'records' }): a shared table", () => {
  it('is not changed by an entry that redefines its records', async () => {
    const bench = benchOf(msgpack({ profile: 'records' }))
    const value = { id: 1, name: 'x' }
    await learnShapes(bench, value)
    const shared = Buffer.from(bench.put(value))
    expect(codecOf(shared)).toBe(CODEC_MSGPACK_SHARED)
    const table = payloadOf(shared).subarray(0, 8)
    const evil = Buffer.concat([
      table,
      Buffer.from('93d4724092a561646d696ea27375', 'hex'),
      Buffer.from('0102400304400506', 'hex'),
    ])
    expect(bench.read(forged(CODEC_MSGPACK_SHARED, evil))?.payload).toEqual([
      { admin: 1, su: 2 },
      { admin: 3, su: 4 },
      { admin: 5, su: 6 },
    ])
    const broken = Buffer.concat([table, Buffer.from('93d4724092a561646d696ea27375', 'hex')])
    expect(bench.misses(forged(CODEC_MSGPACK_SHARED, broken))).toBe(true)
    for (let i = 0; i < 10; i++) expect(bench.read(shared)?.payload).toEqual(value)
  })
})

describe('v8(): forged entries', () => {
  const bench = benchOf(v8())
  it('nesting without end', () => {
    const dense = Buffer.concat(Array.from({ length: DEEP }, () => Buffer.of(0x41, 1)))
    expect(cheaply(() => bench.misses(clonedBytes(dense)))).toBe(true)
    const objects = Buffer.concat(Array.from({ length: DEEP }, () => Buffer.from('o"\u0001a')))
    expect(cheaply(() => bench.misses(clonedBytes(objects)))).toBe(true)
  })
  it.each<[string, number[]]>([
    ['an array', [0x41, 0xff, 0xff, 0xff, 0xff, 0x0f]],
    ['text', [0x22, 0xff, 0xff, 0xff, 0xff, 0x0f]],
    ['wide text', [0x63, 0xff, 0xff, 0xff, 0xff, 0x0f]],
    ['an ArrayBuffer', [0x42, 0xff, 0xff, 0xff, 0xff, 0x0f]],
    ['a bigint', [0x5a, 0xfe, 0xff, 0xff, 0xff, 0x0f]],
    ['a view', [0x5c, 1, 0xff, 0xff, 0xff, 0xff, 0x0f]],
    ['a view of no kind', [0x5c, 99, 1, 1]],
    ['a view of half an element', [0x5c, 8, 3, 1, 2, 3]],
  ])('an absurd length of %s', (_, bytes) => {
    expect(cheaply(() => bench.misses(cloned(...bytes)))).toBe(true)
  })
  it('arrays that ask for memory their bytes do not account for', () => {
    const varint = (value: number) =>
      [0, 7, 14, 21, 28].map((shift) => ((value >>> shift) & 0x7f) | (shift < 28 ? 0x80 : 0))
    const sparse = [0x61, ...varint(30_000_000)]
    expect(cheaply(() => bench.misses(cloned(...sparse, 0x40, 0, 0)))).toBe(true)
    expect(cheaply(() => bench.misses(cloned(0x41, 100, ...Array(100).fill(sparse).flat())))).toBe(true)
    const nested = Buffer.alloc(2400, Buffer.from([0x41, ...varint(2000)]))
    expect(cheaply(() => bench.misses(clonedBytes(nested)))).toBe(true)
    const short = Buffer.concat([
      Buffer.from([0x41, ...varint(20_000)]),
      Buffer.alloc(100_000, Buffer.of(0x61, 0x7f, 0x40, 0, 0x7f)),
    ])
    expect(cheaply(() => bench.misses(clonedBytes(short)))).toBe(true)
  })
  it('but arrays with holes are read, within reason', () => {
    const holes = Object.assign(Array(60_000), { 5: 'x', 50000: 'y' })
    expect(bench.back(holes)?.payload).toHaveLength(60_000)
    expect(() => bench.put(Array(100_000))).toThrow(expect.objectContaining({ code: 'ERR_UNENCODABLE' }))
    expect(() => bench.put(Array(4_000_000_000))).toThrow(/many more holes than elements/)
    expect(bench.back(new Array(100_000).fill(1))?.payload).toHaveLength(100_000)
  })
  it('a RegExp, however it is padded', () => {
    const pattern = [0x22, 4, ...Buffer.from('(a+)'), 0]
    expect(bench.misses(cloned(0x52, ...pattern))).toBe(true)
    expect(bench.misses(cloned(0x52, 0, 0, ...pattern))).toBe(true)
    expect(bench.misses(cloned(0x52, 0x63, 2, 0x61, 0, 0))).toBe(true)
    expect(benchOf(v8({ regExp: true })).read(cloned(0x52, ...pattern))).toMatchObject({ payload: /(a+)/ })
    expect(bench.back(['R"', 'Rc', 'RS'])).toMatchObject({ payload: ['R"', 'Rc', 'RS'] })
  })
  it('a key that poisons prototypes, in either width', () => {
    const narrow = [0x22, 9, ...Buffer.from('__proto__')]
    const wide = [0x63, 18, ...Buffer.from('__proto__', 'utf16le')]
    for (const key of [narrow, wide, [0, ...wide]])
      expect(bench.misses(cloned(0x6f, ...key, 0x49, 2, 0x7b, 1))).toBe(true)
    expect(bench.back({ text: '__proto__' })).toMatchObject({ payload: { text: '__proto__' } })
  })
  it('another major version of Node', () => {
    const stored = payloadOf(bench.put({ a: 1 }))
    expect(bench.read(forged(CODEC_V8, stored))).toBeDefined()
    for (const major of [0, MAJOR - 2, MAJOR + 2, 255]) {
      const other = Buffer.from(stored)
      other[0] = major
      expect(bench.misses(forged(CODEC_V8, other))).toBe(true)
    }
  })
})

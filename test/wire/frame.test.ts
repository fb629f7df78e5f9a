import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { memory } from '../../backends/memory/index.js'
import { json } from '../../proxies/json.js'
import type { Metadata } from '../../src/backend/cached-value.js'
import { CorralError } from '../../src/base/errors.js'
import { wrap } from '../../src/chain/wrap.js'
import type { DependencySnapshot } from '../../src/ledger/snapshot.js'
import { crc32, crcOfKey, RESIDUE, tableCrc32, withoutFourZeros } from '../../src/wire/crc.js'
import { frame, isOlderFrame, readFrame } from '../../src/wire/frame.js'
import { varintSize, writeVarint } from '../../src/wire/varint.js'
import { METADATA } from '../proxies/encodings/chains.js'
import { undecodableTotal } from '../support/undecodable.js'

const PAYLOAD = Buffer.from('payload')
/** As a region writes it: whole ms. */
const WHOLE: Metadata = { startedAt: 1_790_000_000_000, createdAt: 1_790_000_000_012 }
const UUID = '01234567-89ab-cdef-0123-456789abcdef'

const hex = (metadata: Metadata, codec = 200) =>
  Buffer.from(frame(codec, metadata, PAYLOAD, 'key')).toString('hex')

/** The written entry, read again under the same key. */
function reread(metadata: Metadata): Metadata | undefined {
  return readFrame(frame(200, metadata, PAYLOAD, 'key'), 'key')?.metadata
}

describe('the bytes of an entry, version 2', () => {
  it('are pinned: a change here makes every stored entry of every user a miss', () => {
    const snapshot: DependencySnapshot = {
      epoch: UUID,
      groups: [
        { asOf: 0, names: ['user:5', 'org:é'] },
        { asOf: 1_790_000_000_000_123, names: [] },
        { asOf: 0.5, names: ['n'] },
      ],
    }
    expect({
      'the least': hex({ startedAt: 1, createdAt: 1 }),
      'a creation of 12 ms': hex(WHOLE),
      'an expiration time in seconds': hex({ ...WHOLE, expiresIn: 300_000 }),
      'an expiration time in ms': hex({ ...WHOLE, expiresIn: 287_654 }),
      'an expiration time without end': hex({ ...WHOLE, expiresIn: Number.POSITIVE_INFINITY }),
      'a codec with a low id': hex(WHOLE, 2),
      'a fraction': hex({ startedAt: WHOLE.startedAt + 0.5, createdAt: WHOLE.createdAt }),
      'a region': hex({
        ...WHOLE,
        snapshot: { epoch: 'AbCdEf-_', groups: [{ asOf: 1_789_999_940_000_000, names: ['region:e'] }] },
      }),
      'a creation of 11.75 ms': hex(METADATA),
      'a wide expiration time': hex({ ...METADATA, expiresIn: 300_000 }),
      'a wide expiration time without end': hex({ ...METADATA, expiresIn: Number.POSITIVE_INFINITY }),
      stale: hex({ ...WHOLE, stale: true }),
      untracked: hex({ ...WHOLE, untracked: true }),
      'a grace': hex({ ...WHOLE, standsFor: 3_600_000 }),
      'wide numbers': hex({ startedAt: -0.1, createdAt: 0.3, expiresIn: 1.5 }),
      'a snapshot': hex({ ...WHOLE, snapshot }),
      'a snapshot whose epoch is no UUID': hex({ ...WHOLE, snapshot: { epoch: 'e1', groups: [] } }),
      'a snapshot with versions': hex({
        ...WHOLE,
        snapshot: { ...snapshot, versions: ['~version:schema:[]:é', ''] },
      }),
    }).toMatchInlineSnapshot(`
      {
        "a codec with a low id": "fa020084e965310c7061796c6f6164a693398f",
        "a creation of 11.75 ms": "fa80c8040008c006450c7a4200c4c006450c7a427061796c6f61640ae0cfb3",
        "a creation of 12 ms": "fa00c80084e965310c7061796c6f6164bebb2922",
        "a fraction": "fa20c80084e9653100080c7061796c6f61648323865d",
        "a grace": "fa80c8100084e965310c9f387061796c6f6164b5035509",
        "a region": "fa50c80084e965310c030101b09d11ffbf829c9c397061796c6f616441d5dc96",
        "a snapshot": "fa10c80084e965310c000123456789abcdef0123456789abcdef03010206757365723a35066f72673ac3a9f781afa2dbffad060000000000000000e03f01016e7061796c6f616488d01435",
        "a snapshot whose epoch is no UUID": "fa10c80084e965310c046531007061796c6f6164b4033c3f",
        "a snapshot with versions": "fa90c8080084e965310c000123456789abcdef0123456789abcdef03010206757365723a35066f72673ac3a9f781afa2dbffad060000000000000000e03f01016e02157e76657273696f6e3a736368656d613a5b5d3ac3a9007061796c6f616498fd6436",
        "a wide expiration time": "fa88c8040008c006450c7a4200c4c006450c7a4200000000804f12417061796c6f6164b17ed8e4",
        "a wide expiration time without end": "fa88c8040008c006450c7a4200c4c006450c7a42000000000000f07f7061796c6f616421ff0f78",
        "an expiration time in ms": "fa08c80084e965310cce8e237061796c6f61645b41e7a9",
        "an expiration time in seconds": "fa08c80084e965310cd7047061796c6f6164342b5297",
        "an expiration time without end": "fa08c80084e965310c007061796c6f6164fc8a1588",
        "stale": "fa80c8010084e965310c7061796c6f6164f6880fa9",
        "the least": "fa80c804000000000000f03f000000000000f03f7061796c6f616403abbb29",
        "untracked": "fa80c8020084e965310c7061796c6f61642dad6ed5",
        "wide numbers": "fa88c8049a9999999999b9bf333333333333d33f000000000000f83f7061796c6f6164a528f3b8",
      }
    `)
  })

  it('take 12 bytes beyond the payload at least, 14 with an expiration time of their own', () => {
    const overhead = (metadata: Metadata) => frame(1, metadata, PAYLOAD, 'key').length - PAYLOAD.length
    const startedAt = 1_790_000_000_000
    expect(overhead({ startedAt, createdAt: startedAt })).toBe(12)
    expect(overhead({ startedAt, createdAt: startedAt + 100 })).toBe(12)
    expect(overhead({ startedAt, createdAt: startedAt + 1000 })).toBe(13)
    expect(overhead({ startedAt: startedAt + 2 ** -10, createdAt: startedAt })).toBe(14)
    expect(overhead({ startedAt, createdAt: startedAt + 100, expiresIn: 300_000 })).toBe(14)
    expect(overhead({ startedAt, createdAt: startedAt + 100, expiresIn: 287_654 })).toBe(15)
  })

  it('take at most 24 in a region, whose name stands in the key, with the clock that they were judged by', () => {
    const startedAt = 1_790_000_000_000
    const overhead = (ago: number, key = 'users:5', expiresIn?: number) => {
      const snapshot: DependencySnapshot = {
        epoch: 'AbCdEf-_',
        groups: [{ asOf: startedAt * 1000 - ago, names: ['region:users'] }],
      }
      const metadata: Metadata = {
        ...{ startedAt, createdAt: startedAt + 12, snapshot },
        ...(expiresIn === undefined ? {} : { expiresIn }),
      }
      const stored = frame(1, metadata, PAYLOAD, key)
      expect(readFrame(stored, key)?.metadata).toEqual(metadata)
      return stored.length - PAYLOAD.length
    }
    const [minute, day] = [60_000_000, 86_400_000_000]
    expect(overhead(minute)).toBe(23)
    expect(overhead(day)).toBe(25)
    expect(overhead(minute, 'users:5', 300_000)).toBe(25)
    expect(overhead(minute, 'shop:users:5')).toBe(24)
    expect(overhead(-5)).toBe(27)
    // The text is not in there.
    expect(overhead(minute, 'other')).toBeGreaterThan(30)
  })
})

describe('the snapshot of a region', () => {
  const startedAt = 1_790_000_000_000.25
  const snapshotOf = (asOf: number, name: string, epoch = 'AbCdEf-_'): DependencySnapshot => ({
    epoch,
    groups: [{ asOf, names: [name] }],
  })
  const through = (snapshot: DependencySnapshot, key: string) =>
    readFrame(frame(1, { startedAt, createdAt: startedAt + 0.75, snapshot }, PAYLOAD, key), key)?.metadata
      .snapshot

  it('comes back as it was, whatever stood before it', () => {
    const text = fc.string({ unit: 'grapheme', maxLength: 20 })
    fc.assert(
      fc.property(
        fc.array(
          fc.tuple(
            fc.oneof(fc.constantFrom(0, 1, 7, 2 ** 51, 2 ** 53, 0.5, -1), fc.nat()),
            text,
            text,
            fc.constantFrom('AbCdEf-_', '01234567', 'abcdefgh', 'abc', UUID),
          ),
        ),
        (entries) => {
          for (const [asOf, name, before, epoch] of entries) {
            const snapshot = snapshotOf(asOf, `region:${name}`, epoch)
            expect(through(snapshot, `${before}${name}:5`)).toEqual(snapshot)
            expect(through(snapshot, before)).toEqual(snapshot)
          }
        },
      ),
      { numRuns: 500 },
    )
  })

  it('is one object for entries that are read one after another', () => {
    const one = through(snapshotOf(5, 'region:users'), 'users:1')
    expect(through(snapshotOf(5, 'region:users'), 'users:2')).toBe(one)
    expect(through(snapshotOf(6, 'region:users'), 'users:2')).toEqual(snapshotOf(6, 'region:users'))
    expect(through(snapshotOf(6, 'region:users'), 'users:2')?.groups[0]?.names).toBe(one?.groups[0]?.names)
    const others = [snapshotOf(6, 'region:users', 'abcdefgh'), snapshotOf(6, 'region:lists', 'abcdefgh')]
    for (const other of others)
      expect(through(other, `${other.groups[0]?.names[0]?.slice(7)}:1`)).toEqual(other)
  })
})

describe('an entry of an earlier version', () => {
  const first = Buffer.from('f9c8000008c006450c1a80f8027061796c6f6164df544baa', 'hex')
  it('is a miss, and known for a whole one', () => {
    expect(readFrame(first, 'key')).toBeUndefined()
    expect(isOlderFrame(first, 'key')).toBe(true)
    expect(isOlderFrame(first, 'other')).toBe(false)
    expect(isOlderFrame(first.subarray(1), 'key')).toBe(false)
    expect(isOlderFrame(frame(200, METADATA, PAYLOAD, 'key'), 'key')).toBe(false)
    expect(isOlderFrame('text' as never, 'key')).toBe(false)
  })
  it('is no undecodable value: nothing is wrong with it', async () => {
    const store = memory({ stores: 'bytes' })
    const chain = wrap(store, json())
    await store.set('key', first, {})
    const before = undecodableTotal()
    expect(await chain.get('key')).toBeUndefined()
    expect(undecodableTotal()).toBe(before)
    await store.set('key', first.subarray(0, first.length - 1), {})
    expect(await chain.get('key')).toBeUndefined()
    expect(undecodableTotal()).toBe(before + 1)
  })
})

describe('metadata', () => {
  const times = fc.oneof(
    fc.integer({ min: 0, max: 2 ** 42 }),
    fc.double({ min: 1e12, max: 3e12 }),
    fc.double(),
    fc.constantFrom(
      0,
      -0,
      Number.NaN,
      Number.POSITIVE_INFINITY,
      2 ** 44,
      2 ** 53,
      1_790_000_000_000 + 2 ** -10,
    ),
  )
  const text = fc.string({ unit: 'grapheme', maxLength: 20 })
  const snapshot = fc.record(
    {
      epoch: fc.oneof(fc.uuid(), fc.constant(UUID.toUpperCase()), text),
      groups: fc.array(fc.record({ asOf: times, names: fc.array(text, { maxLength: 200 }) }), {
        maxLength: 5,
      }),
      versions: fc.array(text, { maxLength: 20 }),
    },
    { requiredKeys: ['epoch', 'groups'] },
  )
  it('comes back as it was, for any numbers', () => {
    fc.assert(
      fc.property(
        times,
        times,
        fc.option(times),
        fc.option(snapshot),
        fc.boolean(),
        fc.boolean(),
        fc.option(
          fc.oneof(
            fc.nat(),
            fc.maxSafeNat().map((n) => n % 2 ** 50),
            fc.constant(Number.POSITIVE_INFINITY),
          ),
        ),
        (startedAt, createdAt, expiresIn, from, stale, untracked, standsFor) => {
          const metadata: Metadata = {
            startedAt,
            createdAt,
            ...(from === null ? {} : { snapshot: from }),
            ...(expiresIn === null ? {} : { expiresIn }),
            ...(stale ? { stale } : {}),
            ...(untracked ? { untracked } : {}),
            ...(standsFor === null ? {} : { standsFor }),
          }
          expect(JSON.stringify(reread(metadata))).toBe(JSON.stringify(metadata))
          expect(reread(metadata)).toEqual(metadata)
        },
      ),
      { numRuns: 3000 },
    )
  })

  it('keeps the steps by which a process orders its own events', () => {
    const step = 0.0009765625
    for (let i = 0; i < 2000; i++) {
      const startedAt = 1_790_000_000_000 + i * step
      expect(reread({ startedAt, createdAt: startedAt + step })).toEqual({
        startedAt,
        createdAt: startedAt + step,
      })
    }
  })

  it('refuses a name that UTF-8 would change: the entry would outlive the invalidation of the true one', () => {
    const metadata = { ...METADATA, snapshot: { epoch: 'e', groups: [{ asOf: 1, names: ['x\ud800'] }] } }
    expect(() => hex(metadata)).toThrow(CorralError)
    expect(() => hex(metadata)).toThrow(/well-formed/)
    expect(() => hex({ ...METADATA, snapshot: { epoch: 'e', groups: [], versions: ['x\ud800'] } })).toThrow(
      /well-formed/,
    )
  })
})

describe('a damaged entry is a miss', () => {
  const metadata: Metadata = {
    ...METADATA,
    expiresIn: 1000,
    stale: true,
    snapshot: { epoch: UUID, groups: [{ asOf: 7, names: ['user:5', 'org'] }] },
  }
  const stored = frame(200, metadata, PAYLOAD, 'key')

  it('for every single bit', () => {
    for (let bit = 0; bit < stored.length * 8; bit++) {
      const damaged = Buffer.from(stored)
      damaged[bit >> 3] = (damaged[bit >> 3] as number) ^ (1 << (bit & 7))
      expect(readFrame(damaged, 'key')).toBeUndefined()
    }
  })
  it('for every length it can be cut to, at either end', () => {
    for (let length = 0; length < stored.length; length++) {
      expect(readFrame(stored.subarray(0, length), 'key')).toBeUndefined()
      expect(readFrame(stored.subarray(stored.length - length), 'key')).toBeUndefined()
    }
  })
  it('for anything put behind, before or twice', () => {
    for (const extra of [Buffer.of(0), Buffer.alloc(4), Buffer.from(stored)]) {
      expect(readFrame(Buffer.concat([stored, extra]), 'key')).toBeUndefined()
      expect(readFrame(Buffer.concat([extra, stored]), 'key')).toBeUndefined()
    }
  })
  it('under every other key', () => {
    for (const key of ['', 'ke', 'keys', 'Key', 'yek', 'kéy', 'key'.repeat(50)])
      expect(readFrame(stored, key)).toBeUndefined()
    const long = 'é'.repeat(200)
    expect(readFrame(frame(200, metadata, PAYLOAD, long), long)).toBeDefined()
    expect(readFrame(frame(200, metadata, PAYLOAD, long), `${long}é`)).toBeUndefined()
  })
  it('that no bytes at all are', () => {
    for (const nothing of ['text', null, undefined, 5, {}, [1, 2]])
      expect(readFrame(nothing as never, 'key')).toBeUndefined()
  })
})

/** The frame with other bytes between its head and its payload, and a true CRC: only a forger can make it. */
function forgedMetadata(flags: number, metadata: readonly number[], version = 0xfa): Buffer {
  const bytes = Buffer.from([version, flags | 1, ...metadata, 0, 0, 0, 0])
  bytes.writeUInt32LE(withoutFourZeros(crc32(bytes, crcOfKey('key'))), bytes.length - 4)
  return bytes
}

describe('forged metadata is a miss, and asks for no memory', () => {
  const times = [1, 0, 0, 0, 0, 0]
  const most = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x0f]
  const [LIFE, SNAPSHOT, FRACTION, OF_REGION, MORE] = [0x08, 0x10, 0x20, 0x40, 0x80]
  const [WIDE, VERSIONS, STANDS] = [0x04, 0x08, 0x10]
  const wide = Array(16).fill(0)
  const epoch = [1, 2, 3, 4, 5, 6]
  it.each<[string, Buffer]>([
    ['an unknown version', forgedMetadata(0, times, 0xfb)],
    ['the first version', forgedMetadata(0, times, 0xf9)],
    ['the header of a layer', forgedMetadata(0, times, 0xfd)],
    ['an unknown flag', forgedMetadata(MORE, [0x20, ...times])],
    ['another unknown flag', forgedMetadata(MORE, [0x40, ...times])],
    ['a third unknown flag', forgedMetadata(MORE, [0x80, ...times])],
    ['versions without a snapshot', forgedMetadata(MORE, [VERSIONS, ...times, 0])],
    ['versions that are not there', forgedMetadata(MORE | SNAPSHOT, [VERSIONS, ...times, 2, 0])],
    ['2^53 versions', forgedMetadata(MORE | SNAPSHOT, [VERSIONS, ...times, 2, 0, ...most])],
    [
      'versions of a region',
      forgedMetadata(MORE | SNAPSHOT | OF_REGION, [VERSIONS, ...times, 2, ...epoch, 1, 0]),
    ],
    ['a start that is cut short', forgedMetadata(MORE, [STANDS, ...times.slice(0, 4)])],
    ['a fraction that is not there', forgedMetadata(FRACTION, times.slice(0, 6))],
    ['a fraction of nothing', forgedMetadata(FRACTION, [...times, 0, 0])],
    ['a fraction of a whole', forgedMetadata(FRACTION, [...times.slice(0, 5), 0, 0x10, 0])],
    ['a duration that does not end', forgedMetadata(0, [...times.slice(0, 5), 0xff, 0xff])],
    ['a duration that is too long', forgedMetadata(0, [...times.slice(0, 5), ...Array(9).fill(0xff), 1])],
    ['a duration with a zero on top', forgedMetadata(0, [...times.slice(0, 5), 0x80, 0])],
    ['a duration beyond 2^53', forgedMetadata(0, [...times.slice(0, 5), ...most.slice(0, 7), 0x10])],
    ['a lifetime that is not there', forgedMetadata(LIFE, times)],
    ['a time to stand that is not there', forgedMetadata(MORE, [STANDS, ...times])],
    ['wide numbers that are not there', forgedMetadata(MORE, [WIDE, ...times])],
    ['wide numbers with a fraction', forgedMetadata(MORE | FRACTION, [WIDE, ...wide, 1, 0])],
    [
      'wide numbers of a region',
      forgedMetadata(MORE | SNAPSHOT | OF_REGION, [WIDE, ...wide, 2, ...epoch, 1]),
    ],
    ['a region without a snapshot', forgedMetadata(OF_REGION, [...times, 2, ...epoch, 1])],
    ['a region without a name', forgedMetadata(SNAPSHOT | OF_REGION, [...times, 0, ...epoch, 1])],
    ['a region longer than the key', forgedMetadata(SNAPSHOT | OF_REGION, [...times, 8, ...epoch, 1])],
    ['a region beyond the key', forgedMetadata(SNAPSHOT | OF_REGION, [...times, 3, 3, ...epoch, 1])],
    ['a region without an epoch', forgedMetadata(SNAPSHOT | OF_REGION, [...times, 2, 1, 2])],
    ['a region without a time', forgedMetadata(SNAPSHOT | OF_REGION, [...times, 2, ...epoch])],
    ['a region with a time of 0', forgedMetadata(SNAPSHOT | OF_REGION, [...times, 2, ...epoch, 0])],
    [
      'a time before all',
      forgedMetadata(SNAPSHOT | OF_REGION, [...times, 2, ...epoch, 0xfe, ...most.slice(1, 7), 0x0e]),
    ],
    ['an epoch that is not there', forgedMetadata(SNAPSHOT, times)],
    ['an epoch cut short', forgedMetadata(SNAPSHOT, [...times, 0, 1, 2, 3])],
    ['a short epoch cut short', forgedMetadata(SNAPSHOT, [...times, 1, 1, 2, 3])],
    ['an epoch of 2^53 bytes', forgedMetadata(SNAPSHOT, [...times, ...most])],
    ['2^53 groups', forgedMetadata(SNAPSHOT, [...times, 2, ...most])],
    ['2^53 names', forgedMetadata(SNAPSHOT, [...times, 2, 1, 1, ...most])],
    ['a name of 2^53 bytes', forgedMetadata(SNAPSHOT, [...times, 2, 1, 1, 1, ...most])],
    ['a group cut short', forgedMetadata(SNAPSHOT, [...times, 2, 1, 0, 1, 2, 3])],
  ])('%s', (_, bytes) => {
    const before = process.memoryUsage()
    expect(readFrame(bytes, 'key')).toBeUndefined()
    const after = process.memoryUsage()
    expect(after.heapUsed + after.external - before.heapUsed - before.external).toBeLessThan(2 ** 22)
  })
  it('but a frame that is only unusual is read', () => {
    expect(readFrame(forgedMetadata(0, times), 'key')).toMatchObject({
      codec: 1,
      metadata: { startedAt: 1_577_836_800_001 },
    })
    expect(readFrame(forgedMetadata(MORE | LIFE, [STANDS, ...times, 3, 7]), 'key')).toMatchObject({
      metadata: { startedAt: 1_577_836_800_001, expiresIn: 2_000 },
    })
    expect(readFrame(forgedMetadata(SNAPSHOT | OF_REGION, [...times, 2, ...epoch, 3]), 'key')).toMatchObject({
      metadata: { snapshot: { groups: [{ asOf: 1, names: ['region:k'] }] } },
    })
  })
})

describe('the CRC', () => {
  const data = fc.uint8Array({ minLength: 1, maxLength: 300 })
  it('is the same with and without a native one', () => {
    fc.assert(
      fc.property(data, fc.nat(), (bytes, before) => {
        expect(tableCrc32(bytes, before)).toBe(crc32(bytes, before))
      }),
    )
    expect(tableCrc32('text é')).toBe(crc32('text é'))
  })
  it('is found from the data with room for it, and leaves a known residue', () => {
    fc.assert(
      fc.property(data, fc.nat(), (bytes, before) => {
        const roomy = Buffer.concat([bytes, Buffer.alloc(4)])
        const crc = withoutFourZeros(crc32(roomy, before))
        expect(crc).toBe(crc32(bytes, before))
        roomy.writeUInt32LE(crc, bytes.length)
        expect(crc32(roomy, before)).toBe(RESIDUE)
      }),
    )
  })
  it('of a key is that of its UTF-8 form', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'binary', minLength: 1, maxLength: 100 }), (key) => {
        expect(crcOfKey(key)).toBe(crc32(key))
      }),
    )
    expect(crcOfKey('')).toBe(0)
  })
})

describe('whole numbers', () => {
  it('take as many bytes as announced', () => {
    const into = Buffer.alloc(10)
    for (const value of [
      0,
      1,
      127,
      128,
      16_383,
      16_384,
      2 ** 31,
      2 ** 32,
      2 ** 42 - 1,
      Number.MAX_SAFE_INTEGER,
    ])
      expect(writeVarint(into, 0, value)).toBe(varintSize(value))
  })
})

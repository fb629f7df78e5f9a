import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import type { Metadata } from '../../src/backend/cached-value.js'
import { CorralError } from '../../src/base/errors.js'
import type { DependencySnapshot } from '../../src/ledger/snapshot.js'
import { crc32, crcOfKey, RESIDUE, tableCrc32, withoutFourZeros } from '../../src/wire/crc.js'
import { frame, readFrame } from '../../src/wire/frame.js'
import { varintSize, writeVarint } from '../../src/wire/varint.js'
import { METADATA } from '../proxies/encodings/chains.js'

const PAYLOAD = Buffer.from('payload')
const UUID = '01234567-89ab-cdef-0123-456789abcdef'

const hex = (metadata: Metadata, codec = 200) =>
  Buffer.from(frame(codec, metadata, PAYLOAD, 'key')).toString('hex')

/** The written entry, read again under the same key. */
function reread(metadata: Metadata): Metadata | undefined {
  return readFrame(frame(200, metadata, PAYLOAD, 'key'), 'key')?.metadata
}

describe('the bytes of an entry, version 1', () => {
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
      'a creation of 11.75 ms': hex(METADATA),
      'an expiration time': hex({ ...METADATA, expiresIn: 300_000 }),
      'an expiration time without end': hex({ ...METADATA, expiresIn: Number.POSITIVE_INFINITY }),
      stale: hex({ ...METADATA, stale: true }),
      untold: hex({ ...METADATA, untracked: true }),
      'wide numbers': hex({ startedAt: -0.1, createdAt: 0.3, expiresIn: 1.5 }),
      'a snapshot': hex({ ...METADATA, snapshot }),
      'a snapshot whose epoch is no UUID': hex({ ...METADATA, snapshot: { epoch: 'e1', groups: [] } }),
      'a snapshot with versions': hex({
        ...METADATA,
        snapshot: { ...snapshot, versions: ['~version:schema:[]:é', ''] },
      }),
    }).toMatchInlineSnapshot(`
      {
        "a creation of 11.75 ms": "f9c8000008c006450c1a80f8027061796c6f6164df544baa",
        "a snapshot": "f9c8040008c006450c1a80f802000123456789abcdef0123456789abcdef03010206757365723a35066f72673ac3a9fcc097d1edff96030000000000000000e03f01016e7061796c6f6164116b05ea",
        "a snapshot whose epoch is no UUID": "f9c8040008c006450c1a80f802036531007061796c6f6164f1bb68cc",
        "a snapshot with versions": "f9c8140008c006450c1a80f802000123456789abcdef0123456789abcdef03010206757365723a35066f72673ac3a9fcc097d1edff96030000000000000000e03f01016e02157e76657273696f6e3a736368656d613a5b5d3ac3a9007061796c6f61640b7197f5",
        "an expiration time": "f9c8010008c006450c1a80f802e1a7127061796c6f6164471d40cb",
        "an expiration time without end": "f9c8010008c006450c1a80f802007061796c6f6164caa6d916",
        "stale": "f9c8020008c006450c1a80f8027061796c6f61645c3f9faf",
        "the least": "f9c80000100000000000007061796c6f61647f38eaf9",
        "untold": "f9c8200008c006450c1a80f8027061796c6f6164efec0df7",
        "wide numbers": "f9c8099a9999999999b9bf333333333333d33f000000000000f83f7061796c6f61643d699d12",
      }
    `)
  })

  it('take 15 bytes beyond the payload at least, 18 for a creation that took a second', () => {
    const overhead = (metadata: Metadata) => frame(1, metadata, PAYLOAD, 'key').length - PAYLOAD.length
    const startedAt = 1_790_000_000_000
    expect(overhead({ startedAt, createdAt: startedAt })).toBe(15)
    expect(overhead({ startedAt, createdAt: startedAt + 0.25 })).toBe(16)
    expect(overhead({ startedAt, createdAt: startedAt + 3.75 })).toBe(16)
    expect(overhead({ startedAt, createdAt: startedAt + 500 })).toBe(17)
    expect(overhead({ startedAt, createdAt: startedAt + 1000 })).toBe(18)
    expect(overhead({ startedAt, createdAt: startedAt + 1000, expiresIn: 300_000 })).toBe(21)
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
        (startedAt, createdAt, expiresIn, from, stale, untracked) => {
          const metadata: Metadata = {
            startedAt,
            createdAt,
            ...(expiresIn === null ? {} : { expiresIn }),
            ...(from === null ? {} : { snapshot: from }),
            ...(stale ? { stale } : {}),
            ...(untracked ? { untracked } : {}),
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
function forgedMetadata(flags: number, metadata: readonly number[], version = 0xf9): Buffer {
  const bytes = Buffer.from([version, 200, flags, ...metadata, 0, 0, 0, 0])
  bytes.writeUInt32LE(withoutFourZeros(crc32(bytes, crcOfKey('key'))), bytes.length - 4)
  return bytes
}

describe('forged metadata is a miss, and asks for no memory', () => {
  const times = [1, 0, 0, 0, 0, 0, 0, 0]
  const most = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x0f]
  it.each<[string, Buffer]>([
    ['an unknown version', forgedMetadata(0, times, 0xfa)],
    ['the header of a layer', forgedMetadata(0, times, 0xfd)],
    ['an unknown flag', forgedMetadata(0x40, times)],
    ['another unknown flag', forgedMetadata(0x80, times)],
    ['versions without a snapshot', forgedMetadata(0x10, [...times, 0])],
    ['versions that are not there', forgedMetadata(0x14, [...times, 1, 0])],
    ['2^53 versions', forgedMetadata(0x14, [...times, 1, 0, ...most])],
    ['a duration that does not end', forgedMetadata(0, [...times.slice(0, 7), 0xff, 0xff])],
    ['a duration that is too long', forgedMetadata(0, [...times.slice(0, 7), ...Array(9).fill(0xff), 1])],
    ['a duration with a zero on top', forgedMetadata(0, [...times.slice(0, 7), 0x80, 0])],
    ['a duration beyond 2^53', forgedMetadata(0, [...times.slice(0, 7), ...most.slice(0, 7), 0x10])],
    ['wide numbers that are not there', forgedMetadata(0x08, times)],
    ['an epoch that is not there', forgedMetadata(0x04, times)],
    ['an epoch cut short', forgedMetadata(0x04, [...times, 0, 1, 2, 3])],
    ['an epoch of 2^53 bytes', forgedMetadata(0x04, [...times, ...most])],
    ['2^53 groups', forgedMetadata(0x04, [...times, 1, ...most])],
    ['2^53 names', forgedMetadata(0x04, [...times, 1, 1, 1, ...most])],
    ['a name of 2^53 bytes', forgedMetadata(0x04, [...times, 1, 1, 1, 1, ...most])],
    ['a group cut short', forgedMetadata(0x04, [...times, 1, 1, 0, 1, 2, 3])],
  ])('%s', (_, bytes) => {
    const before = process.memoryUsage()
    expect(readFrame(bytes, 'key')).toBeUndefined()
    const after = process.memoryUsage()
    expect(after.heapUsed + after.external - before.heapUsed - before.external).toBeLessThan(2 ** 22)
  })
  it('but a frame that is only unusual is read', () => {
    expect(readFrame(forgedMetadata(0, times), 'key')).toMatchObject({
      codec: 200,
      metadata: { startedAt: 1 / 4096 },
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

import assert from 'node:assert/strict'
import { algorithms } from '../../../proxies/compress/algorithms.js'
import { type CompressionAlgorithm, compress } from '../../../proxies/compress.js'
import { crc32 } from '../../../src/wire/crc.js'
import { seeded } from '../../support/seeded.js'
import { bytesStore, rows, same } from '../encodings/bytes-store.js'

/** Runs in the tests' own Node and, bundled, in other ones; so it asserts without a test runner. */
interface Attack {
  readonly title: string
  run(algorithm: CompressionAlgorithm, rounds: number): Promise<void>
}

const HEADER = 3
const LIMIT = 256 * 1024
const { put, read } = bytesStore()

/** An entry around packed bytes as an attacker would write it, with a CRC that is right. */
export function forged(algorithm: CompressionAlgorithm, size: number, packed: Uint8Array): Uint8Array {
  const varint: number[] = []
  let rest = size
  for (; rest > 0x7f; rest = Math.floor(rest / 128)) varint.push((rest % 128) + 128)
  const checked = Buffer.concat([Buffer.of(...varint, rest), packed])
  const crc = Buffer.alloc(4)
  crc.writeUInt32LE(crc32(checked))
  return Buffer.concat([Buffer.of(0xfd, 1, algorithms[algorithm].id), crc, checked])
}

/** The parts of a compressed entry. */
function opened(stored: Uint8Array): { readonly size: number; readonly packed: Uint8Array } {
  let size = 0
  let at = HEADER + 4
  for (let scale = 1; ; scale *= 128) {
    const byte = stored[at++] as number
    size += (byte & 0x7f) * scale
    if (byte < 128) return { size, packed: stored.subarray(at) }
  }
}

export const attacks: readonly Attack[] = [
  {
    title: 'every flipped bit of an entry is a miss',
    async run(algorithm) {
      const proxy = compress({ algorithm, threshold: 0 })
      const stored = await put(proxy, rows(8))
      assert.equal(stored[2], algorithms[algorithm].id, 'expected the entry to be compressed')
      for (let bit = 0; bit < stored.length * 8; bit++) {
        const damaged = Buffer.from(stored)
        damaged[bit >> 3] = (damaged[bit >> 3] as number) ^ (1 << (bit & 7))
        const found = await read(proxy, damaged)
        // Marked as stored raw, it goes up as it is: the encoding above has a CRC of its own.
        if (damaged[2] !== 0) assert.equal(found, undefined, `bit ${bit}`)
      }
    },
  },
  {
    title: 'every truncation and every extension of an entry is a miss',
    async run(algorithm) {
      const proxy = compress({ algorithm, threshold: 0 })
      const stored = await put(proxy, rows(8))
      for (let length = 0; length < stored.length; length++)
        assert.equal(await read(proxy, stored.subarray(0, length)), undefined, `cut to ${length}`)
      for (const more of [1, 2, 7, 100])
        assert.equal(
          await read(proxy, Buffer.concat([stored, Buffer.alloc(more)])),
          undefined,
          `${more} more`,
        )
    },
  },
  {
    title: 'a forged entry that lies about its size is a miss',
    async run(algorithm) {
      const proxy = compress({ algorithm, threshold: 0, maxBytes: LIMIT })
      const { size, packed } = opened(await put(proxy, rows(30)))
      assert.ok(same(await read(proxy, forged(algorithm, size, packed)), rows(30)))
      for (const lie of [
        0,
        1,
        64,
        size - 1,
        size + 1,
        size * 2,
        65_536,
        65_537,
        LIMIT,
        LIMIT + 1,
        2 ** 31,
        2 ** 32 + size,
        2 ** 53 - 1,
      ])
        assert.equal(
          await read(proxy, forged(algorithm, lie, packed)),
          undefined,
          `${size} bytes told as ${lie}`,
        )
    },
  },
  {
    title: 'random damage and random garbage end in a miss or in bounded bytes, never in a throw',
    async run(algorithm, rounds) {
      const random = seeded(algorithms[algorithm].id)
      const whole = (below: number) => Math.floor(random() * below)
      const proxy = compress({ algorithm, threshold: 0, maxBytes: LIMIT })
      const samples = await Promise.all([6, 20, 60].map((count) => put(proxy, rows(count, count))))
      for (let round = 0; round < rounds; round++) {
        const sample = samples[round % samples.length] as Uint8Array
        const { size, packed } = opened(sample)
        const damaged = Buffer.from(packed)
        for (let hits = 1 + whole(6); hits > 0; hits--) damaged[whole(damaged.length)] = whole(256)
        const kind = round % 4
        const stored =
          kind === 0
            ? Buffer.concat([sample.subarray(0, whole(sample.length)), damaged.subarray(0, whole(40))])
            : kind === 1
              ? forged(algorithm, size, damaged)
              : kind === 2
                ? forged(algorithm, 1 + whole(LIMIT + 10), damaged.subarray(0, whole(damaged.length)))
                : Buffer.from([0xfd, 1, whole(256), ...Array.from({ length: whole(64) }, () => whole(256))])
        const found = await read(proxy, stored)
        if (kind === 0) assert.equal(found, undefined, `round ${round}`)
        assert.ok(found === undefined || found.length <= LIMIT, `round ${round}: ${found?.length} bytes`)
      }
    },
  },
]

import { memory } from '../../../backends/memory/index.js'
import { algorithms, engineOf } from '../../../proxies/compress/algorithms.js'
import { type CompressionAlgorithm, compress } from '../../../proxies/compress.js'
import { wrap } from '../../../src/chain/wrap.js'
import { undecodableTotal } from '../../support/undecodable.js'
import { bytesStore, rows, same } from '../encodings/bytes-store.js'
import { attacks, forged } from './attacks.js'

/**
 * Bundled and run in other Nodes, with and without optional packages. Reads the entries of other processes from stdin,
 * writes its findings and its entries to stdout.
 */
export interface Everywhere {
  readonly node: string
  readonly has: readonly CompressionAlgorithm[]
  readonly written: Readonly<Record<string, string>>
  /** The outcome for entries of other processes: `same`, `miss`, or the failure. */
  readonly read: Readonly<Record<string, string>>
  readonly failures: readonly string[]
  /** How much memory zstd bombs took, in bytes. */
  readonly bombs: Readonly<Record<string, number>>
}

const names = Object.keys(algorithms) as CompressionAlgorithm[]
const has = names.filter((name) => engineOf(algorithms[name]) !== undefined)
const small = rows(40)
const large = rows(4_000)
const rounds = Number(process.env.ROUNDS ?? '200')

async function main(): Promise<Everywhere> {
  const input: string[] = []
  for await (const chunk of process.stdin.setEncoding('utf8')) input.push(chunk as string)
  const { put, read } = bytesStore()
  const written: Record<string, string> = {}
  for (const algorithm of has)
    for (const [size, bytes] of [
      ['small', small],
      ['large', large],
    ] as const)
      written[`${algorithm} ${size}`] = Buffer.from(await put(compress({ algorithm }), bytes)).toString(
        'base64',
      )

  const found: Record<string, string> = {}
  for (const [label, stored] of Object.entries(JSON.parse(input.join('')) as Record<string, string>)) {
    const before = undecodableTotal()
    try {
      const bytes = await read(compress(), Buffer.from(stored, 'base64'))
      const expected = label.endsWith('small') ? small : large
      found[label] =
        bytes === undefined
          ? `miss, reported ${undecodableTotal() - before}`
          : same(bytes, expected)
            ? 'same'
            : 'WRONG'
    } catch (error) {
      found[label] = `THREW ${String(error)}`
    }
  }

  const failures: string[] = []
  for (const algorithm of has)
    for (const attack of attacks)
      await attack.run(algorithm, rounds).catch((error: unknown) => {
        failures.push(`${algorithm}: ${attack.title}: ${String(error)}`)
      })
  return {
    node: process.version,
    has,
    written,
    read: found,
    failures,
    bombs: has.includes('zstd') ? await zstdBombs(failures) : {},
  }
}

/** Frames of a few bytes that unpack to 128 MiB, or that ask for a window of that size. */
async function zstdBombs(failures: string[]): Promise<Record<string, number>> {
  const inner = memory({ stores: 'bytes' })
  const chain = wrap(inner, compress())
  // Magic, no checksum and no size, a window of 128 MiB; then blocks of 128 KiB of one repeated byte.
  const block = Buffer.of(0x02, 0x00, 0x10, 0x00)
  const bomb = Buffer.concat([
    Buffer.of(0x28, 0xb5, 0x2f, 0xfd, 0x00, 0x88),
    ...Array.from({ length: 1024 }, () => block),
    Buffer.of(0x01, 0x00, 0x00),
  ])
  const grown: Record<string, number> = {}
  for (const told of [1_000, 60_000, 1_000_000, 32 * 1024 * 1024, 64 * 1024 * 1024]) {
    await inner.set('key', forged('zstd', told, bomb), {})
    const before = process.resourceUsage().maxRSS
    if ((await chain.get('key')) !== undefined)
      failures.push(`a zstd bomb told as ${told} bytes was unpacked`)
    grown[told] = (process.resourceUsage().maxRSS - before) * 1024
  }
  return grown
}

process.stdout.write(JSON.stringify(await main()))

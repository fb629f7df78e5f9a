import { execFile } from 'node:child_process'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createGzip, type Gzip } from 'node:zlib'
import { build } from 'esbuild'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { memory } from '../../../backends/memory/index.js'
import { algorithms, engineOf } from '../../../proxies/compress/algorithms.js'
import { type CompressionAlgorithm, type CompressOptions, compress } from '../../../proxies/compress.js'
import type { Bytes } from '../../../src/backend/cached-value.js'
import { diagnostics, type Messages } from '../../../src/base/diagnostics.js'
import { CorralError } from '../../../src/base/errors.js'
import { isPromise } from '../../../src/base/maybe-promise.js'
import type { BackendProxy } from '../../../src/chain/proxy.js'
import { wrap } from '../../../src/chain/wrap.js'
import { LONG } from '../../support/long.js'
import { seeded } from '../../support/seeded.js'
import { bytesStore, now, rows, same } from '../encodings/bytes-store.js'
import { attacks, forged } from './attacks.js'
import type { Everywhere } from './everywhere.js'
import { type Fetched, fetchPackage } from './fetched-packages.js'

const builtin = ['deflate', 'gzip', 'brotli'] as const
/** 100 MB of zeros in 80 bytes: 1,250,000 to 1. Takes ten seconds to make, so it was made once. */
const BOMB_BYTES = 100_000_000
const brotliBomb = Buffer.from(
  'z///f/gnAOKxQCD3/p/////wTwDEYQGA7v0/////4Z8AiMMiAN37f/7//8M/ARCHBQC69//8//+HfwIgDgsAdO//8x+8Hv8EQBwWAOhi1wM=',
  'base64',
)

function refusal(run: () => unknown): CorralError {
  try {
    run()
  } catch (error) {
    if (CorralError.is(error)) return error
    throw error
  }
  throw new Error('Expected a CorralError, nothing was thrown.')
}

function noise(length: number): Uint8Array {
  const random = seeded(length)
  return Uint8Array.from({ length }, () => Math.floor(random() * 256))
}

describe('compress', () => {
  it.each(builtin)('makes entries smaller with %s and gives back the very bytes', async (algorithm) => {
    const { put, read } = bytesStore()
    for (const count of [20, 300, 5_000]) {
      const proxy = compress({ algorithm })
      const bytes = rows(count)
      const stored = await put(proxy, bytes)
      expect(stored.length).toBeLessThan(bytes.length / 2)
      expect(same(await read(proxy, stored), bytes)).toBe(true)
    }
  })

  it.each(
    builtin.flatMap((algorithm) =>
      [algorithms[algorithm].levels.least, algorithms[algorithm].levels.most].map((level) => ({
        algorithm,
        level,
      })),
    ),
  )('takes level $level of $algorithm', async ({ algorithm, level }) => {
    const { put, read } = bytesStore()
    const proxy = compress({ algorithm, level })
    expect(same(await read(proxy, await put(proxy, rows(100))), rows(100))).toBe(true)
  })

  it('stores values below the threshold as they are, with a header of three bytes', async () => {
    const { put, read } = bytesStore()
    for (const bytes of [new Uint8Array(), rows(1), rows(1_000).subarray(0, 1023)]) {
      const stored = await put(compress(), bytes)
      expect(stored).toHaveLength(bytes.length + 3)
      expect(same(await read(compress(), stored), bytes)).toBe(true)
    }
    expect((await put(compress(), rows(1_000).subarray(0, 1024))).length).toBeLessThan(1024)
  })

  it.each(builtin)('stores a value that %s cannot shrink as it is', async (algorithm) => {
    const { put, read } = bytesStore()
    for (const length of [1_024, 100_000]) {
      const stored = await put(compress({ algorithm, threshold: 0 }), noise(length))
      expect(stored).toHaveLength(length + 3)
      expect(same(await read(compress(), stored), noise(length))).toBe(true)
    }
  })

  it('answers at once up to 64 KiB, so that peek works, and from the thread pool above', async () => {
    const chain = wrap(memory({ stores: 'bytes' }), compress())
    now(chain.set('small', rows(900).subarray(0, 65_536), {}))
    expect(now(chain.get('small'))).toHaveLength(65_536)
    const writing = chain.set('large', rows(1_000), {})
    expect(isPromise(writing)).toBe(true)
    await writing
    const reading = chain.get('large')
    expect(isPromise(reading)).toBe(true)
    expect(await reading).toHaveLength(rows(1_000).length)
  })

  it('writes at a slow level in the thread pool from 4 KiB on', async () => {
    const chain = wrap(memory({ stores: 'bytes' }), compress({ algorithm: 'brotli', level: 11 }))
    now(chain.set('small', rows(20), {}))
    const writing = chain.set('medium', rows(100), {})
    expect(isPromise(writing)).toBe(true)
    await writing
  })

  it('hands out bytes that pin no more memory than they fill', async () => {
    const { put, read } = bytesStore()
    for (const algorithm of builtin)
      for (const count of [3, 20, 40, 500, 2_000]) {
        const proxy = compress({ algorithm, threshold: 0 })
        const stored = await put(proxy, rows(count))
        expect(stored.buffer.byteLength).toBe(stored.length)
        const bytes = (await read(proxy, stored)) as Uint8Array
        expect(bytes.buffer.byteLength - bytes.length).toBeLessThanOrEqual(64)
      }
  })

  it('works on several keys at once', async () => {
    const chain = wrap(memory({ stores: 'bytes' }), compress())
    await chain.setMulti([
      ['a', rows(30), {}],
      ['b', rows(2_000), {}],
    ])
    const [a, missing, b] = await chain.getMulti(['a', 'missing', 'b'])
    expect([a?.length, missing, b?.length]).toEqual([rows(30).length, undefined, rows(2_000).length])
  })

  it('refuses an entry above maxBytes before anything is stored', async () => {
    const backend = memory({ stores: 'bytes' })
    const chain = wrap(backend, compress({ maxBytes: 5_000 }))
    const error = refusal(() => chain.set('key', new Uint8Array(5_001), {}))
    expect(error.code).toBe('ERR_VALUE_TOO_LARGE')
    expect(error.message).toContain('at most 5000 bytes, got 5001')
    expect(await backend.get('key')).toBeUndefined()
  })

  it('misses an entry that is larger than this process unpacks, and says so', async () => {
    const { put, read } = bytesStore()
    const stored = await put(compress(), rows(100))
    const reports: Messages['undecodable'][] = []
    const listen = (message: unknown) => reports.push(message as Messages['undecodable'])
    diagnostics('undecodable').subscribe(listen)
    expect(await read(compress({ maxBytes: 4_000 }), stored)).toBeUndefined()
    diagnostics('undecodable').unsubscribe(listen)
    expect(reports).toHaveLength(1)
    expect(reports[0]).toMatchObject({ layer: 'compress', key: 'key' })
    expect(String(reports[0]?.error)).toContain('Raise `maxBytes`')
  })

  it.each([
    [
      { algorithm: 'zip' },
      "Expected `algorithm` of compress() to be 'deflate', 'gzip', 'brotli', 'zstd', 'lz4' or 'snappy'",
    ],
    [{ algorithm: 'toString' }, 'Expected `algorithm`'],
    [{ level: 0 }, 'Expected `level` of compress() with deflate to be a whole number from 1 to 9, got `0`'],
    [{ algorithm: 'brotli', level: 12 }, 'from 0 to 11, got `12`'],
    [{ level: 1.5 }, 'whole number'],
    [{ threshold: -1 }, 'Expected `threshold`'],
    [{ maxBytes: 0 }, 'Expected `maxBytes`'],
    [{ maxBytes: Number.POSITIVE_INFINITY }, 'Expected `maxBytes`'],
    [{ quality: 3 }, 'Unknown option `quality` of compress()'],
  ])('refuses the options %j', (options, message) => {
    const error = refusal(() => compress(options as CompressOptions))
    expect(error.code).toBe('ERR_OPTION')
    expect(error.message).toContain(message)
  })

  it('names the package to install where an algorithm is missing', () => {
    for (const algorithm of ['zstd', 'lz4', 'snappy'] as const) {
      if (engineOf(algorithms[algorithm]) !== undefined) continue
      const error = refusal(() => compress({ algorithm }))
      expect(error.code).toBe('ERR_UNSUPPORTED')
      expect(error.message).toContain(algorithms[algorithm].needs)
    }
  })
})

describe('a compressed entry that was tampered with', () => {
  for (const algorithm of builtin)
    for (const { title, run } of attacks)
      it(`${algorithm}: ${title}`, { timeout: LONG ? 600_000 : 30_000 }, () =>
        run(algorithm, LONG ? 334_000 : 3_000),
      )

  it('is a miss under an unknown or a wrong algorithm', async () => {
    const { put, read } = bytesStore()
    for (const algorithm of builtin) {
      const stored = await put(compress({ algorithm }), rows(100))
      for (let flags = 1; flags < 256; flags++) {
        if (flags === algorithms[algorithm].id) continue
        const other = Buffer.from(stored)
        other[2] = flags
        expect(await read(compress(), other), `${algorithm} marked ${flags}`).toBeUndefined()
      }
    }
  })

  it.each([
    ['brotli', () => brotliBomb, 1_000_000],
    ['gzip', () => packZeros(createGzip({ level: 9 }), BOMB_BYTES), 1_000],
  ] as const)('is a miss, not memory, when it is a bomb of %s', async (algorithm, make, ratio) => {
    const bomb = await make()
    expect(BOMB_BYTES / bomb.length).toBeGreaterThan(ratio)
    const { read } = bytesStore()
    for (const told of [10, 60_000, 1_000_000, 32 * 1024 * 1024, BOMB_BYTES, 2 ** 40]) {
      const before = process.resourceUsage().maxRSS
      expect(await read(compress(), forged(algorithm, told, bomb)), `told as ${told}`).toBeUndefined()
      const grown = (process.resourceUsage().maxRSS - before) * 1024
      // Brotli and zstd may ask for a window of 16 MiB; beyond that an entry gets its declared window, or the limit.
      expect(grown, `memory for ${told} bytes`).toBeLessThan(
        Math.min(told, 40 * 1024 * 1024) * 2.2 + 24 * 1024 * 1024,
      )
    }
  })
})

describe('changing compression on a live cache', () => {
  const configurations: readonly BackendProxy<Bytes, Bytes>[] = [
    ...builtin.map((algorithm) => compress({ algorithm, threshold: 0 })),
    compress({ threshold: 2_000_000 }),
    compress({ algorithm: 'brotli', level: 9, threshold: 0 }),
  ]

  it('reads under every configuration the values that any other one wrote', async () => {
    const { put, read } = bytesStore()
    for (const count of [1, 10, 1_000])
      for (const writer of configurations)
        for (const reader of configurations)
          expect(same(await read(reader, await put(writer, rows(count))), rows(count))).toBe(true)
  })

  it('misses values written without it, and values written with it are no text to a chain without it', async () => {
    const { put, read } = bytesStore()
    for (const reader of configurations)
      for (const bytes of [new Uint8Array(), rows(1), rows(100), noise(500)])
        expect(await read(reader, bytes)).toBeUndefined()
    for (const writer of configurations) expect((await put(writer, rows(100)))[0]).toBe(0xfd)
  })
})

describe('compress in other Nodes and with optional packages', () => {
  const folder = mkdtempSync(join(tmpdir(), 'corral-compress-'))
  const script = join(folder, 'everywhere.mjs')
  const processes: {
    readonly label: string
    readonly node: string
    readonly modules: string
    first: Everywhere
    second: Everywhere
  }[] = []
  const problems: string[] = []

  const run = (
    node: string,
    modules: string,
    written: Readonly<Record<string, string>>,
  ): Promise<Everywhere> =>
    new Promise((resolve, reject) => {
      const rounds = LONG ? '60000' : '300'
      const child = execFile(
        node,
        [script],
        {
          env: {
            ...process.env,
            NODE_PATH: modules,
            ROUNDS: Object.keys(written).length === 0 ? '0' : rounds,
          },
          maxBuffer: 1e9,
        },
        (error, stdout, stderr) =>
          error === null ? resolve(JSON.parse(stdout) as Everywhere) : reject(new Error(stderr)),
      )
      child.stdin?.end(JSON.stringify(written))
    })

  beforeAll(async () => {
    await build({
      entryPoints: [join(import.meta.dirname, 'everywhere.ts')],
      bundle: true,
      platform: 'node',
      format: 'esm',
      outfile: script,
      logLevel: 'error',
    })
    const usable = (spec: string, fetched: Fetched, mayFailToBuild = false): string | undefined => {
      if ('folder' in fetched) return join(fetched.folder, 'node_modules')
      if (!fetched.unreachable && !mayFailToBuild) throw new Error(`npm install ${spec}: ${fetched.problem}`)
      problems.push(`${spec}: ${fetched.problem}`)
      return undefined
    }
    const node22 = usable('node@22', await fetchPackage('node@22'))
    const lz4 = usable('lz4-napi', await fetchPackage('lz4-napi'))
    const snappy = usable('snappy', await fetchPackage('snappy'))
    // Compiled on the spot for half a minute where its ready-made binaries cannot be reached.
    const zstd = LONG ? usable('zstd-napi', await fetchPackage('zstd-napi'), true) : undefined
    const packages = [lz4, snappy, zstd].filter((path) => path !== undefined).join(':')
    const nodes = [
      ['this Node', process.execPath],
      ['Node 22', node22 && join(node22, 'node/bin/node')],
    ] as const
    for (const [name, node] of nodes)
      if (node !== undefined)
        for (const [label, modules] of [
          [name, ''],
          [`${name} with packages`, packages],
        ] as const)
          processes.push({
            label,
            node,
            modules,
            first: await run(node, modules, {}),
            second: undefined as never,
          })
    const all = Object.fromEntries(
      processes.flatMap(({ label, first }) =>
        Object.entries(first.written).map(([name, stored]) => [`${label}: ${name}`, stored]),
      ),
    )
    for (const one of processes) one.second = await run(one.node, one.modules, all)
    if (problems.length > 0) console.warn(`\n*** Compression NOT tested with ${problems.join('; ')} ***\n`)
  }, 900_000)

  afterAll(() => rmSync(folder, { recursive: true, force: true }))

  it('has zstd in Node 22, and lz4 and snappy where they are installed', (context) => {
    if (problems.length > 0) context.skip(problems.join('; '))
    const has = Object.fromEntries(processes.map(({ label, first }) => [label, first.has.join(' ')]))
    expect(has).toMatchObject({
      'Node 22': 'deflate gzip brotli zstd',
      'Node 22 with packages': 'deflate gzip brotli zstd lz4 snappy',
    })
    expect(has['this Node with packages']).toMatch(/lz4 snappy$/)
    expect(processes.find(({ label }) => label === 'Node 22')?.first.node).toMatch(/^v22\./)
  })

  it('reads everywhere the values written anywhere, or reports a miss where the algorithm is missing', () => {
    for (const { label, second } of processes)
      for (const [entry, result] of Object.entries(second.read)) {
        const algorithm = /: (\w+)/.exec(entry)?.[1] as CompressionAlgorithm
        expect(result, `${entry}, read in ${label}`).toBe(
          second.has.includes(algorithm) ? 'same' : 'miss, reported 1',
        )
      }
  })

  it('withstands every attack with every algorithm', () => {
    for (const { label, second } of processes) expect(second.failures, label).toEqual([])
  })

  it('spends no memory on bombs of zstd', (context) => {
    const bombed = processes.filter(({ second }) => Object.keys(second.bombs).length > 0)
    if (bombed.length === 0) context.skip(problems.join('; '))
    for (const { label, second } of bombed)
      for (const [told, grown] of Object.entries(second.bombs))
        expect(grown, `${label}, told as ${told}`).toBeLessThan(
          Math.min(Number(told), 40 * 1024 * 1024) * 2.2 + 24 * 1024 * 1024,
        )
  })
})

/** Zeros, packed in pieces, so that the test's own memory tells nothing. */
function packZeros(packer: Gzip, size: number): Promise<Uint8Array> {
  return new Promise((resolve, reject) => {
    const pieces: Uint8Array[] = []
    packer.on('data', (piece: Uint8Array) => pieces.push(piece))
    packer.on('end', () => resolve(Buffer.concat(pieces)))
    packer.on('error', reject)
    const zeros = new Uint8Array(1_000_000)
    const feed = (left: number): void => {
      if (left === 0) packer.end()
      else packer.write(zeros, () => feed(left - zeros.length))
    }
    feed(size)
  })
}

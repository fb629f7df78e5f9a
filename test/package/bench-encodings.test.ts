import { spawn } from 'node:child_process'
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { build } from 'esbuild'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { root } from '../../.ci/entries.mjs'
import { difference } from '../../bench/encodings/command/fidelity.js'
import type { Measurement } from '../../bench/encodings/command/measure.js'
import type { Report } from '../../bench/encodings/command/report.js'
import { conclude } from '../../bench/encodings/command/verdict.js'

const folder = mkdtempSync(join(tmpdir(), 'corral-bench-'))
// Inside node_modules, so that the bundle finds msgpackr as an installed package would.
const cache = join(root, 'node_modules/.cache/bench-command')
const command = join(cache, `${process.pid}.mjs`)
const out = join(folder, 'report.html')

interface Outcome {
  readonly code: number | null
  readonly stdout: string
  readonly stderr: string
}

function run(args: readonly string[], input = '', cwd = folder): Promise<Outcome> {
  return new Promise((resolve, reject) => {
    const child = spawn(process.execPath, [command, ...args], { cwd })
    let [stdout, stderr] = ['', '']
    child.stdout.setEncoding('utf8').on('data', (text: string) => {
      stdout += text
    })
    child.stderr.setEncoding('utf8').on('data', (text: string) => {
      stderr += text
    })
    child.once('error', reject)
    child.once('close', (code) => resolve({ code, stdout, stderr }))
    child.stdin.on('error', () => {}).end(input)
  })
}

/** As quick as it gets: the figures are not tested. */
const quick = ['bench-encodings', '--quick', '--rounds', '1', '--samples', '5', '--out', out]

function file(name: string, content: string): string {
  const path = join(folder, name)
  writeFileSync(path, content)
  return path
}

const users = Array.from({ length: 20 }, (_, i) => ({
  id: i,
  name: `user ${i}`,
  tags: ['a', 'b'],
  text: 'word '.repeat(200),
}))

beforeAll(async () => {
  mkdirSync(cache, { recursive: true })
  await build({
    entryPoints: [join(root, 'bench/encodings/command/index.ts')],
    outfile: command,
    bundle: true,
    format: 'esm',
    platform: 'node',
    packages: 'external',
    logLevel: 'error',
  })
})

afterAll(() => {
  rmSync(folder, { recursive: true, force: true })
  rmSync(command, { force: true })
})

describe('corral bench-encodings', () => {
  it('measures NDJSON, prints a table and writes a report that needs nothing else', async () => {
    const lines = file('users.ndjson', `${users.map((user) => JSON.stringify(user)).join('\n')}\n\n`)
    const { code, stdout, stderr } = await run([...quick, lines])
    expect(stderr).toContain('0 % checking json')
    expect(code).toBe(0)
    expect(stdout).toContain('5 of 20 values from users.ndjson')
    for (const part of ['encoding', 'json', 'msgpack', 'msgpack records', 'v8', 'deflate', 'gzip', 'brotli'])
      expect(stdout).toContain(part)
    expect(stdout).toMatch(/^→ .+ all$/m)
    expect(stdout).toMatch(/^Recommended: .+$/m)
    expect(stdout).toContain('read = round trip + bytes × 8 ÷ bandwidth + decode')
    expect(stdout).toMatch(/10,000 reads a second keep [\d.]+ % of an event loop busy/)
    expect(stdout).toContain('Waiting for the store has no price')
    expect(stdout).toContain(`Report: ${out}`)

    const html = readFileSync(out, 'utf8')
    expect(html).not.toMatch(/https?:|\bsrc=|<link|@import|url\(/)
    expect(html.match(/<svg/g)?.length).toBeGreaterThanOrEqual(6)
    const { verdict, values, found } = embedded(html)
    expect({ values, found }).toEqual({ values: 5, found: 20 })
    expect(html).toContain(`<h2>${verdict.recommended?.name}</h2>`)
    for (const one of verdict.rated) {
      expect(one.bytes).toBeGreaterThan(0)
      expect(one.decode.median).toBeGreaterThan(0)
      expect(one.read).toBeCloseTo(500 + (one.bytes * 8) / 1e3 + one.decode.median, 6)
      expect(one.memory).toBeCloseTo(((one.bytes * 1e6) / 2 ** 30) * 3.5, 9)
      expect(one.busy).toBeCloseTo(one.decode.median + one.encode.median / 10, 9)
      expect(one.processor).toBeCloseTo(one.busy * 0.25, 9)
      expect(one.cost).toBeCloseTo(one.memory + one.processor, 9)
    }
  })

  it('takes a JSON file as one value, and its elements with --each', async () => {
    const list = file('list.json', JSON.stringify(users))
    const whole = await run([...quick, '--only', 'json', list])
    expect(whole.stdout).toContain('1 value from list.json')
    expect(whole.stdout).toContain('say --each')
    expect((await run([...quick, '--only', 'json', '--each', list])).stdout).toContain(
      '5 of 20 values from list.json',
    )
  })

  it('takes standard input, JSON and NDJSON alike', async () => {
    expect((await run([...quick, '--only', 'json', '-'], JSON.stringify(users[0]))).stdout).toContain(
      '1 value from standard input',
    )
    const lines = await run(
      [...quick, '--only', 'json', '-'],
      users.map((user) => JSON.stringify(user)).join('\n'),
    )
    expect(lines.stdout).toContain('5 of 20 values from standard input')
  })

  it('takes a module with values that JSON has no form for, and says which encoding keeps them', async () => {
    const module = file(
      'values.mjs',
      'export const samples = [{ at: new Date(0), tags: new Set(["a"]) }, { plain: 1 }]\nexport const other = 1',
    )
    const { code, stdout } = await run([...quick, module])
    expect(code).toBe(0)
    expect(stdout).toContain('2 values from values.mjs')
    expect(stdout).toMatch(/^ {2}json .*1 refused$/m)
    expect(stdout).toMatch(/Not kept by json: value 1: .*value\.at/)
    expect(stdout).toMatch(/^Recommended: (msgpack|v8)/m)
    const single = file('single.cjs', 'module.exports = { a: { one: 1 }, b: [2], helper() {} }')
    expect((await run([...quick, '--only', 'json', single])).stdout).toContain('2 values from single.cjs')
  })

  it('measures codecs of the user, and reports their losses', async () => {
    const codecs = file(
      'codecs.mjs',
      `export const text = { id: 200, encode: (value) => Buffer.from(JSON.stringify(value)), decode: (bytes) => JSON.parse(Buffer.from(bytes).toString()) }
       export const broken = { id: 201, name: 'one-way', encode: () => new Uint8Array(3), decode: () => { throw new Error('no way back') } }`,
    )
    const module = file('dates.mjs', 'export const samples = [{ at: new Date(0) }, { at: 1 }]')
    const { code, stdout } = await run([...quick, '--codec', codecs, module])
    expect(code).toBe(0)
    expect(stdout).toMatch(/^ {2}text .*1 changed$/m)
    expect(stdout).toContain('Not kept by text: value 1: value.at was Date, came back as string')
    expect(stdout).toMatch(/^ {2}one-way .*none: 2 unread$/m)
    expect(stdout).toContain('no way back')
  })

  it('prints the figures as JSON', async () => {
    const { stdout } = await run(
      [
        ...quick,
        '--json',
        '--only',
        'json + deflate',
        '--rtt',
        '200us',
        '--bandwidth',
        '12.5MB',
        '--gb-price',
        '0',
        '--core-price',
        '40',
        '--reads',
        '500',
      ],
      '',
    )
    const report = JSON.parse(stdout) as Report
    expect(report.prices).toEqual({
      rtt: 200,
      bandwidth: 1e8,
      gbPrice: 0,
      corePrice: 40,
      reads: 500,
      readsPerWrite: 10,
    })
    expect(report.label).toContain('@mdn/browser-compat-data')
    expect(report.verdict.rated.map(({ name }) => name).toSorted()).toEqual(['json', 'json + deflate'])
    expect(report.verdict.rated.every(({ memory }) => memory === 0)).toBe(true)
  })

  it('explains itself', async () => {
    for (const args of [[], ['--help'], ['bench-encodings', '--help'], ['bench-encodings', '-h']]) {
      const { code, stdout } = await run(args)
      expect(code).toBe(0)
      expect(stdout).toContain('corral bench-encodings [options] [files…|-]')
      for (const [line] of stdout.matchAll(/^.*$/gm)) expect(line.length, line).toBeLessThanOrEqual(100)
    }
  })

  it.each([
    [['bench-encodings', '--bandwith', '3'], 'got --bandwith. Did you mean --bandwidth?'],
    [['bench-encodings', '--Quick'], 'Did you mean --quick?'],
    [['bench-encodings', '--frobnicate'], 'It takes: --rtt, --bandwidth'],
    [['bench-encodings', '--rtt', '3'], 'Expected --rtt to be a time such as 200us or 0.5ms, got '],
    [['bench-encodings', '--bandwidth', 'fast'], 'Expected --bandwidth to be a rate'],
    [['bench-encodings', '--gb-price', '-1'], '--gb-price'],
    [['bench-encodings', '--gb-price=-1'], 'Expected --gb-price to be a number 0 or above'],
    [['bench-encodings', '--core-price', 'much'], 'Expected --core-price to be a number 0 or above'],
    [['bench-encodings', '--reads=-5'], 'Expected --reads to be a number 0 or above'],
    [['bench-encodings', '--rounds', '0'], 'Expected --rounds to be a whole number above 0'],
    [['bench-encodings', 'missing.json'], 'Expected a file to read at missing.json'],
    [['bench-encodings', '--codec', 'missing.mjs'], 'Expected a module of codecs at missing.mjs'],
    [['bench-encodings', '--only', 'nothing'], 'Expected --only to leave something to measure'],
    [['bench-encoding'], "Expected a command, got 'bench-encoding'"],
  ])('refuses %j with advice and exit code 2', async (args, message) => {
    const { code, stderr, stdout } = await run(args)
    expect({ code, stdout }).toEqual({ code: 2, stdout: '' })
    expect(stderr).toContain(message)
    expect(stderr).not.toContain('    at ')
    expect(stderr).toContain('See: corral bench-encodings --help')
  })

  it.each([
    ['broken.json', '{"a":', 'Expected JSON in '],
    ['broken.ndjson', '{"a":1}\n{"a":\n', 'Expected a JSON value in line 2 of '],
    ['empty.ndjson', '\n\n', 'found none'],
    ['throws.mjs', 'throw new Error("no")', 'Expected a module to import'],
    ['wrong.mjs', 'export const samples = 3', 'Expected the export `samples`'],
  ])('names the mistake in %s', async (name, content, message) => {
    const { code, stderr } = await run([...quick, file(name, content)])
    expect(code).toBe(2)
    expect(stderr).toContain(message)
  })

  it('keeps the text of a value out of the markup', async () => {
    const module = file(
      'markup.mjs',
      'export const samples = [{ "<script>alert(1)</script>": new Date(0), b: "</script><b>" }]',
    )
    const { code } = await run([...quick, module])
    expect(code).toBe(0)
    const html = readFileSync(out, 'utf8')
    expect(html.match(/<script/g)).toHaveLength(2)
    expect(JSON.stringify(embedded(html))).toContain('<script>alert(1)')
  })
})

function embedded(html: string): Report {
  return JSON.parse(
    /<script type="application\/json" id="figures">(.*)<\/script>/.exec(html)?.[1] ?? '',
  ) as Report
}

describe('the recommendation', () => {
  const prices = { rtt: 500, bandwidth: 1e9, gbPrice: 4, corePrice: 25, reads: 10_000, readsPerWrite: 10 }
  const measured = (
    name: string,
    bytes: number,
    encode: number,
    decode: number,
    changed = 0,
  ): Measurement => ({
    name,
    encoding: name,
    compression: 'none',
    note: undefined,
    bytes,
    bytesMedian: bytes,
    bytes95: bytes,
    sharedBytes: 0,
    encode: { median: encode, spread: 0 },
    decode: { median: decode, spread: 0 },
    fidelity: { kept: 10 - changed, changed, refused: 0, missed: 0 },
  })
  const chosen = (...measurements: Measurement[]) => chosenAt({}, ...measurements)
  const chosenAt = (changed: Partial<typeof prices>, ...measurements: Measurement[]) =>
    conclude({ measurements, rounds: 1, noise: { encode: 0, decode: 0 } }, { ...prices, ...changed })
      .recommended?.name

  it('never depends on the time for which a read waits for the store', () => {
    const pair = [measured('records', 500, 5, 5), measured('packed', 350, 20, 20)] as const
    for (const rtt of [0, 500, 50_000])
      for (const bandwidth of [1e7, 1e10]) expect(chosenAt({ rtt, bandwidth }, ...pair)).toBe('records')
  })

  it('goes to the smaller one where memory costs more than the processor time, and the other way round', () => {
    const pair = [measured('quick', 1_000, 5, 5), measured('small', 500, 20, 20)] as const
    expect(chosenAt({ reads: 10_000 }, ...pair)).toBe('quick')
    expect(chosenAt({ reads: 1_000 }, ...pair)).toBe('small')
    expect(chosenAt({ gbPrice: 40 }, ...pair)).toBe('small')
    expect(chosenAt({ corePrice: 1 }, ...pair)).toBe('small')
  })

  it('goes to the simplest one where nothing costs anything', () => {
    expect(chosenAt({ gbPrice: 0, reads: 0 }, measured('a', 9, 9, 9), measured('b', 1, 1, 1))).toBe('a')
  })

  it('goes to the simpler one in a tie', () => {
    expect(chosen(measured('simple', 1_000, 5, 5), measured('elaborate', 980, 5, 5))).toBe('simple')
  })

  it('never goes to a combination that loses a value', () => {
    expect(chosen(measured('true', 1_000, 5, 5), measured('lossy', 10, 1, 1, 1))).toBe('true')
    expect(chosen(measured('lossy', 10, 1, 1, 1))).toBeUndefined()
  })

  it('weighs a slow encoder by the number of writes', () => {
    expect(chosen(measured('quick', 1_000, 5, 5), measured('slow', 500, 9_000, 5))).toBe('quick')
  })

  it('marks as front the combinations that no other beats in size and time', () => {
    const { rated } = conclude(
      {
        measurements: [
          measured('fast', 1_000, 5, 1),
          measured('worse', 1_000, 5, 2),
          measured('small', 500, 5, 9),
          measured('lossy', 1, 1, 1, 1),
        ],
        rounds: 1,
        noise: { encode: 0, decode: 0 },
      },
      prices,
    )
    expect(
      rated
        .filter(({ frontDecode }) => frontDecode)
        .map(({ name }) => name)
        .toSorted(),
    ).toEqual(['fast', 'small'])
  })
})

describe('difference', () => {
  it.each<[unknown, unknown, string]>([
    [{ a: [1, { at: new Date(0) }] }, { a: [1, { at: 'x' }] }, 'value.a[1].at was Date, came back as string'],
    [{ a: 1 }, {}, 'value.a is gone'],
    [{}, { a: 1 }, 'value.a was added'],
    [[-0], [0], 'value[0] was -0, came back as number'],
    [new Map([[1, 2]]), new Map([[1, 3]]), 'value, Map, has another content'],
    [[1], { 0: 1 }, 'value was Array, came back as Object'],
    [undefined, null, 'value was undefined, came back as null'],
  ])('finds where %j and %j part', (before, after, told) => {
    expect(difference(before, after)).toBe(told)
  })
})

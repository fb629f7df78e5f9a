import { parseArgs } from 'node:util'

/** A mistake in the arguments of the command: shown without a stack, exit code 2. */
export class UsageError extends Error {}

export interface Prices {
  /** One round trip to the store, in µs. */
  readonly rtt: number
  /** Bits per second. */
  readonly bandwidth: number
  /** Cost of a GB (2^30 bytes) of the store's memory a month, in any currency. */
  readonly gbPrice: number
  /** Cost of a processor core a month, in the same currency. */
  readonly corePrice: number
  /** Reads a second of a million entries. */
  readonly reads: number
  readonly readsPerWrite: number
}

export interface Request {
  readonly files: readonly string[]
  readonly codecs: readonly string[]
  readonly each: boolean
  readonly only: readonly string[]
  readonly samples: number
  readonly rounds: number
  /** How long a combination's turn takes, in ms. */
  readonly turn: number
  readonly prices: Prices
  readonly out: string
  readonly json: boolean
}

const options = {
  rtt: { type: 'string', default: '0.5ms' },
  bandwidth: { type: 'string', default: '1Gbit' },
  'gb-price': { type: 'string', default: '3.5' },
  'core-price': { type: 'string', default: '25' },
  reads: { type: 'string', default: '10000' },
  'reads-per-write': { type: 'string', default: '10' },
  each: { type: 'boolean', default: false },
  only: { type: 'string', multiple: true, default: [] as string[] },
  codec: { type: 'string', multiple: true, default: [] as string[] },
  samples: { type: 'string' },
  rounds: { type: 'string' },
  quick: { type: 'boolean', default: false },
  out: { type: 'string', default: 'corral-encodings.html' },
  json: { type: 'boolean', default: false },
  help: { type: 'boolean', short: 'h', default: false },
} as const

export const help = `corral bench-encodings [options] [files…|-]

Measures every encoding and compression on your own values, recommends one, and writes a report.

Values
  file.json              one value; with --each, every element of its array is a value
  file.ndjson, .jsonl    one value a line
  file.mjs, .js, .cjs    a module: the elements of its export \`samples\`, else every export
  -                      JSON or NDJSON from standard input
  nothing                browser compatibility tables; made-up records where they are not installed
  --each                 take a top-level array apart
  --samples <n>          at most so many values, spread evenly over all of them   (200; quick 40)

Measurement
  --codec <module>       also your own encodings: a module that exports proxies, or objects
                         { id, name, encode, decode }; may be repeated
  --only <text>          only combinations with this in their name, such as msgpack or
                         "json + brotli"; may be repeated
  --rounds <n>           at least so many rounds, more while they are noisy       (15; quick 5)
  --quick                fewer values, fewer and shorter rounds: a first look

Costs
  --rtt <time>           round trip to the store, such as 200us or 0.5ms          (0.5ms)
  --bandwidth <rate>     to the store, such as 100Mbit, 1Gbit or 125MB            (1Gbit)
  --gb-price <number>    a GB (2^30 bytes) of its memory a month, any currency    (3.5)
  --core-price <number>  a processor core of the application a month              (25)
  --reads <n>            reads a second of a million entries                      (10000)
  --reads-per-write <n>                                                           (10)

Output
  --out <file>           the report, one HTML file               (corral-encodings.html)
  --json                 print the figures as JSON instead of the table
  -h, --help             this text

Exit codes: 0 done, 1 failed, 2 not understood.
`

/** `undefined`: show the help. */
export function understand(args: readonly string[]): Request | undefined {
  const { values, positionals } = parsed(args)
  if (values.help) return undefined
  return {
    files: positionals,
    codecs: values.codec,
    each: values.each,
    only: values.only,
    samples: count('samples', values.samples ?? (values.quick ? '40' : '200')),
    rounds: count('rounds', values.rounds ?? (values.quick ? '5' : '15')),
    turn: values.quick ? 1 : 4,
    prices: {
      rtt: microseconds(values.rtt),
      bandwidth: bitsPerSecond(values.bandwidth),
      gbPrice: amount('gb-price', values['gb-price']),
      corePrice: amount('core-price', values['core-price']),
      reads: amount('reads', values.reads),
      readsPerWrite: amount('reads-per-write', values['reads-per-write'], 'above 0'),
    },
    out: values.out,
    json: values.json,
  }
}

function parsed(args: readonly string[]) {
  try {
    return parseArgs({ args: [...args], options, allowPositionals: true, strict: true })
  } catch (error) {
    const { code, message } = error as Error & { readonly code?: string }
    const flag = /'(-[^'\s]*)/.exec(message)?.[1] ?? ''
    if (code !== 'ERR_PARSE_ARGS_UNKNOWN_OPTION') throw new UsageError(message)
    throw new UsageError(`Expected a flag of this command, got ${flag}. ${advice(flag)}`)
  }
}

function advice(flag: string): string {
  const name = flag.replace(/^-+/, '').split('=')[0] ?? ''
  const [closest] = Object.keys(options)
    .map((known) => ({ known, far: distance(name, known) }))
    .sort((a, b) => a.far - b.far)
  if (closest !== undefined && closest.far <= Math.max(2, name.length / 3))
    return `Did you mean --${closest.known}?`
  return `It takes: ${Object.keys(options)
    .map((known) => `--${known}`)
    .join(', ')}.`
}

/** How many letters have to be added, dropped or changed. */
function distance(a: string, b: string): number {
  let row = Array.from({ length: b.length + 1 }, (_, i) => i)
  for (let i = 0; i < a.length; i++) {
    const next = [i + 1]
    for (let j = 0; j < b.length; j++)
      next.push(Math.min((row[j] ?? 0) + (a[i] === b[j] ? 0 : 1), (row[j + 1] ?? 0) + 1, (next[j] ?? 0) + 1))
    row = next
  }
  return row[b.length] ?? 0
}

function count(flag: string, text: string): number {
  if (/^[1-9]\d{0,6}$/.test(text)) return Number(text)
  throw new UsageError(`Expected --${flag} to be a whole number above 0, got '${text}'.`)
}

function amount(flag: string, text: string, range = '0 or above'): number {
  const value = text.trim() === '' ? Number.NaN : Number(text)
  if (Number.isFinite(value) && (value > 0 || (value === 0 && range === '0 or above'))) return value
  throw new UsageError(`Expected --${flag} to be a number ${range}, got '${text}'.`)
}

function microseconds(text: string): number {
  const [, value, unit] = /^(\d+(?:\.\d+)?)(us|µs|ms|s)$/.exec(text) ?? []
  if (value !== undefined) return Number(value) * (unit === 's' ? 1e6 : unit === 'ms' ? 1e3 : 1)
  throw new UsageError(`Expected --rtt to be a time such as 200us or 0.5ms, got '${text}'.`)
}

function bitsPerSecond(text: string): number {
  const [, value, prefix, unit] = /^(\d+(?:\.\d+)?)\s?([kMG])(bit|B)(?:\/s)?$/.exec(text) ?? []
  const scale = { k: 1e3, M: 1e6, G: 1e9 }[prefix ?? ''] ?? 0
  if (Number(value) > 0) return Number(value) * scale * (unit === 'B' ? 8 : 1)
  throw new UsageError(`Expected --bandwidth to be a rate such as 100Mbit, 1Gbit or 125MB, got '${text}'.`)
}

import { readFile } from 'node:fs/promises'
import { createRequire } from 'node:module'
import { basename, extname, resolve } from 'node:path'
import { text } from 'node:stream/consumers'
import { pathToFileURL } from 'node:url'
import { UsageError } from './usage.js'

export interface Samples {
  /** Where the values are from, for the reader of the report. */
  readonly label: string
  readonly values: readonly unknown[]
  /** How many there were before they were thinned out. */
  readonly found: number
}

/**
 * The values to measure on, at most `limit` of them, spread evenly over all.
 * @throws UsageError for a file that is not there or not in its format
 */
export async function loadSamples(files: readonly string[], each: boolean, limit: number): Promise<Samples> {
  if (files.length === 0) return thinned(shipped(), limit)
  const values: unknown[] = []
  for (const file of files) for (const value of await valuesIn(file, each)) values.push(value)
  if (values.length === 0)
    throw new UsageError(
      `Expected values in ${files.join(', ')}, found none. Give a file with at least one, or no file at all.`,
    )
  return thinned(
    { label: files.map((file) => (file === '-' ? 'standard input' : basename(file))).join(', '), values },
    limit,
  )
}

function thinned({ label, values }: Pick<Samples, 'label' | 'values'>, limit: number): Samples {
  const found = values.length
  const step = Math.max(1, found / limit)
  const chosen = Array.from({ length: Math.min(found, limit) }, (_, i) => values[Math.floor(i * step)])
  return { label, values: chosen, found }
}

async function valuesIn(file: string, each: boolean): Promise<readonly unknown[]> {
  if (file === '-') return fromText(await text(process.stdin), 'standard input', each)
  const extension = extname(file).toLowerCase()
  if (['.mjs', '.js', '.cjs'].includes(extension)) return fromModule(file)
  let content: string
  try {
    content = await readFile(file, 'utf8')
  } catch (error) {
    throw new UsageError(`Expected a file to read at ${file}, got: ${(error as Error).message}.`)
  }
  return ['.ndjson', '.jsonl'].includes(extension) ? fromLines(content, file) : fromText(content, file, each)
}

function fromText(content: string, file: string, each: boolean): readonly unknown[] {
  try {
    const value: unknown = JSON.parse(content)
    return each && Array.isArray(value) ? value : [value]
  } catch (error) {
    // A text that is not JSON as a whole may be JSON line by line.
    if (/\n\s*\S/.test(content.trim())) return fromLines(content, file, error)
    throw new UsageError(`Expected JSON in ${file}, got: ${(error as Error).message}.`)
  }
}

function fromLines(content: string, file: string, asWhole?: unknown): readonly unknown[] {
  return content.split('\n').flatMap((line, i) => {
    if (line.trim() === '') return []
    try {
      return [JSON.parse(line) as unknown]
    } catch (error) {
      const whole =
        asWhole === undefined ? '' : ` As one value it is not JSON either: ${(asWhole as Error).message}.`
      throw new UsageError(
        `Expected a JSON value in line ${i + 1} of ${file}, got: ${(error as Error).message}.${whole}`,
      )
    }
  })
}

async function fromModule(file: string): Promise<readonly unknown[]> {
  let module: Record<string, unknown>
  try {
    module = (await import(pathToFileURL(resolve(file)).href)) as Record<string, unknown>
  } catch (error) {
    throw new UsageError(`Expected a module to import at ${file}, got: ${(error as Error).message}.`)
  }
  // A CommonJS module shows its exports twice: by name where Node could tell, and all of them as `default`.
  const { 'module.exports': _, ...exported } = module
  const named = Object.keys(exported).filter((name) => name !== 'default')
  const source = named.length === 0 && isRecord(exported.default) ? exported.default : exported
  const samples = source.samples
  if (Array.isArray(samples)) return samples
  if (samples !== undefined)
    throw new UsageError(`Expected the export \`samples\` of ${file} to be an array of values.`)
  return Object.entries(source)
    .filter(([name, value]) => (name !== 'default' || named.length === 0) && typeof value !== 'function')
    .map(([, value]) => value)
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return (
    typeof value === 'object' &&
    value !== null &&
    !Array.isArray(value) &&
    Object.getPrototypeOf(value) === Object.prototype
  )
}

function shipped(): Pick<Samples, 'label' | 'values'> {
  try {
    const data = createRequire(import.meta.url ?? __filename)('@mdn/browser-compat-data') as Record<
      string,
      unknown
    >
    const version = (data.__meta as { readonly version?: string } | undefined)?.version ?? ''
    const features: unknown[] = []
    for (const part of ['api', 'css', 'javascript', 'html', 'http']) collect(data[part], features)
    return { label: `browser compatibility tables, @mdn/browser-compat-data ${version}`, values: features }
  } catch {
    return { label: 'made-up records', values: madeUp(200) }
  }
}

/** Every feature's own table; and every interface, with all of its features, as a large value. */
function collect(node: unknown, into: unknown[], depth = 0): void {
  if (!isRecord(node)) return
  if (isRecord(node.__compat)) into.push(depth === 1 ? node : node.__compat)
  for (const [name, child] of Object.entries(node)) if (name !== '__compat') collect(child, into, depth + 1)
}

/** Records, lists and pages as applications cache them; the same in every run. */
function madeUp(count: number): readonly unknown[] {
  let state = 1
  const random = (below: number) => {
    state = (Math.imul(state, 48_271) >>> 0) % 0x7fffffff
    return state % below
  }
  const pick = <T>(list: readonly T[]): T => list[random(list.length)] as T
  const words = 'harbour light paper river stone window garden copper signal winter market silver'.split(' ')
  const sentence = (length: number) => Array.from({ length }, () => pick(words)).join(' ')
  const user = () => ({
    id: random(1_000_000),
    name: `${pick(['Ada', 'Grace', 'Alan', 'Barbara', 'Edsger'])} ${pick(words)}`,
    email: `${pick(words)}.${random(10_000)}@example.com`,
    active: random(3) > 0,
    roles: ['reader', pick(['editor', 'admin', 'guest'])],
    createdAt: new Date(1.6e12 + random(1e9) * 100).toISOString(),
    balance: random(1e6) / 100,
  })
  return Array.from({ length: count }, (_, i) => {
    if (i % 4 < 2) return user()
    if (i % 4 === 2)
      return { total: random(500), next: random(500), users: Array.from({ length: 10 + random(40) }, user) }
    return {
      slug: sentence(3).replaceAll(' ', '-'),
      title: sentence(5),
      tags: [pick(words), pick(words)],
      body: sentence(100 + random(400)),
    }
  })
}

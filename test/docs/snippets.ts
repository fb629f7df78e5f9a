import { spawn } from 'node:child_process'
import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { basename, join } from 'node:path'
import { build } from 'esbuild'
import { aliases, root } from '../../.ci/entries.mjs'
import { filesOf, LIBRARY } from '../../.ci/sources.mjs'

export interface Snippet {
  readonly name: string
  readonly file: string
  readonly language: string
  readonly flags: readonly string[]
  /** The page with everything else blanked out, so that every line number is the page's own. */
  readonly source: string
}

export const FLAGS = ['servers', 'fails', 'continues']
export const PATIENCE = 60_000

/** The code blocks of README.md and of every page under docs/. */
export function snippets(): Snippet[] {
  const docs = existsSync(`${root}docs`)
    ? readdirSync(`${root}docs`, { recursive: true, encoding: 'utf8' })
    : []
  return ['README.md', ...docs.map((page) => `docs/${page}`)]
    .filter((page) => page.endsWith('.md') && existsSync(root + page))
    .sort()
    .flatMap((page) => snippetsOf(page, readFileSync(root + page, 'utf8')))
}

/** The blocks below an `@example` in the sources of the library. */
export function examples(): Snippet[] {
  return filesOf(LIBRARY).flatMap((file) => {
    const code = readFileSync(root + file, 'utf8')
    return code.includes('@example') ? snippetsOf(file, commentsOf(code)) : []
  })
}

/** The text of the doc comments, with everything else blanked out. */
function commentsOf(code: string): string {
  let inside = false
  return code
    .split('\n')
    .map((line) => {
      inside ||= /^\s*\/\*\*/.test(line)
      const text = inside ? line.replace(/^\s*(\/\*\*|\*(?!\/)) ?/, '').replace(/\s*\*\/$/, '') : ''
      inside &&= !line.includes('*/')
      return text
    })
    .join('\n')
}

function snippetsOf(page: string, text: string): Snippet[] {
  const lines = text.split('\n')
  const found: Snippet[] = []
  for (let at = 0; at < lines.length; at++) {
    const [, fence, language = '', words = ''] = /^(`{3,})(\w+) ?(.*)$/.exec(lines[at] ?? '') ?? []
    if (fence === undefined) continue
    const end = lines.indexOf(fence, at + 1)
    const flags = words.split(/\s+/).filter(Boolean)
    const before = flags.includes('continues') ? (found.at(-1)?.source.split('\n') ?? []) : []
    const source = lines
      .slice(0, end)
      .map((line, i) => (i > at ? line : (before[i] ?? '')))
      .join('\n')
    const name = `${page}:${at + 1}`
    found.push({ name, file: `${root}${name.replaceAll(/\W/g, '-')}.${language}`, language, flags, source })
    at = end
  }
  return found
}

/** The compiler's errors of each block, by the block's name: one run of the native compiler with the project's settings. */
export async function compile(
  compiled: readonly Snippet[],
  folder: string,
): Promise<ReadonlyMap<string, readonly string[]>> {
  const files = new Map(compiled.map((snippet) => [basename(snippet.file), snippet]))
  const config = {
    extends: `${root}tsconfig.json`,
    compilerOptions: { moduleDetection: 'force' },
    files: [...files.keys()],
    include: [],
  }
  writeFileSync(join(folder, 'package.json'), JSON.stringify({ type: 'module' }))
  writeFileSync(join(folder, 'tsconfig.json'), JSON.stringify(config))
  for (const [file, { source }] of files) writeFileSync(join(folder, file), source)
  const { output, code } = await nativeCompiler(folder)
  const problems = new Map(compiled.map(({ name }): [string, string[]] => [name, []]))
  const lost: string[] = []
  for (const line of output.split('\n')) {
    const [, file = '', at, message] = /^(\S+)\((\d+),\d+\): error (.*)$/.exec(line) ?? []
    const name = files.get(basename(file))?.name
    if (name !== undefined) problems.get(name)?.push(`${name.replace(/\d+$/, `${at}`)} ${message}`)
    else if (line.includes('error')) lost.push(line)
  }
  if (lost.length > 0 || (code !== 0 && output === ''))
    throw new Error(`tsc ended with ${code}: ${lost.join('\n')}`)
  return problems
}

async function nativeCompiler(folder: string): Promise<{ output: string; code: number | null }> {
  const tsc = `${root}node_modules/typescript-7.0/bin/tsc`
  const child = spawn(process.execPath, [tsc, '--noEmit', '--pretty', 'false', '-p', folder], { cwd: folder })
  let output = ''
  for (const stream of [child.stdout, child.stderr])
    stream.on('data', (chunk) => {
      output += chunk
    })
  const code = await new Promise<number | null>((resolve, reject) => {
    child.once('error', reject)
    child.once('close', resolve)
  })
  return { output, code }
}

/** How programs are led to the servers that they name. */
export interface Lead {
  readonly env: Readonly<Record<string, string>>
  readonly imports: string
}

/** Runs them, two at a time, as bundles in a folder from which npm packages resolve; answers how each ended. */
export async function execute(
  run: readonly Snippet[],
  folder: string,
  lead?: Lead,
): Promise<Map<Snippet, string>> {
  const outcomes = new Map<Snippet, string>()
  const queue = run.values()
  const work = async () => {
    for (const snippet of queue)
      outcomes.set(snippet, await runOne(snippet, folder, lead).catch((error: Error) => error.message))
  }
  await Promise.all([work(), work()])
  return outcomes
}

async function runOne(
  { file, flags, language, name, source }: Snippet,
  folder: string,
  lead: Lead | undefined,
): Promise<string> {
  const outfile = join(folder, `${name.replaceAll(/\W/g, '-')}.mjs`)
  const loader = language === 'ts' ? 'ts' : 'js'
  const stdin = { contents: source, loader, resolveDir: root, sourcefile: file } as const
  const target = { format: 'esm', platform: 'node', target: 'node20.19' } as const
  await build({
    stdin,
    outfile,
    bundle: true,
    ...target,
    packages: 'external',
    alias: aliases(),
    sourcemap: 'inline',
    logLevel: 'silent',
  })
  const led = flags.includes('servers') ? lead : undefined
  const args = ['--enable-source-maps', ...(led === undefined ? [] : ['--import', led.imports]), outfile]
  const child = spawn(process.execPath, args, {
    env: { ...process.env, ...led?.env },
    stdio: ['ignore', 'pipe', 'pipe'],
    timeout: PATIENCE,
    killSignal: 'SIGKILL',
  })
  let errors = ''
  child.stdout.resume()
  child.stderr.on('data', (chunk) => (errors += chunk))
  return new Promise((resolve) => {
    child.once('close', (code, signal) =>
      resolve(
        code === 0
          ? 'exit 0'
          : `${signal === null ? `exit ${code}` : `no end within ${PATIENCE} ms`}\n${errors}`,
      ),
    )
  })
}

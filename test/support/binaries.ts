/** Finds real binaries of redis-server, memcached and Chromium, or fetches them without installing anything. */
import { execFileSync } from 'node:child_process'
import {
  accessSync,
  constants,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  renameSync,
  rmSync,
} from 'node:fs'
import { delimiter, join } from 'node:path'
import { root } from '../../.ci/entries.mjs'

export type ServerKind = 'redis' | 'memcached'
type Kind = ServerKind | 'chromium'

export interface Binary {
  readonly path: string
  /** Variables that its environment needs beside those of this process. */
  readonly env: Readonly<Record<string, string>>
  readonly version: string
  /** Where it was found, for the reader of a log. */
  readonly source: string
}

const kinds = {
  redis: {
    names: ['redis-server', 'valkey-server'],
    packages: ['redis-server', 'redis-tools'],
    variable: 'TEST_REDIS_SERVER',
    version: '--version',
  },
  memcached: { names: ['memcached'], packages: ['memcached'], variable: 'TEST_MEMCACHED', version: '-V' },
  // The script `chromium` looks for its parts in the places of a system.
  chromium: {
    names: ['chromium', 'chromium-browser', 'google-chrome'],
    packages: ['chromium', 'chromium-common', 'fonts-dejavu-core'],
    variable: 'TEST_CHROMIUM',
    version: '--version',
  },
} as const

const cache = join(root, 'node_modules/.cache/test-servers')
/** The servers are fetched together; the browser, which is large, alone. */
const unpackedFor = (kind: Kind): string => join(cache, kind === 'chromium' ? 'chromium' : 'unpacked')

/** The binary named by a variable such as `TEST_REDIS_SERVER`, else the one on the PATH, else one fetched earlier. */
export function locate(kind: Kind): Binary | undefined {
  const { names, variable } = kinds[kind]
  const named = process.env[variable]
  if (named !== undefined) return runnable(kind, named, variable, {})
  const found = onPath(names)
  if (found !== undefined) return runnable(kind, found, 'PATH', {})
  const unpacked = unpackedFor(kind)
  const places = ['usr/lib/chromium', 'usr/bin'].map((place) => join(unpacked, place))
  const fetched = places.flatMap((place) => names.map((name) => join(place, name))).find(executable)
  if (fetched === undefined) return undefined
  return runnable(kind, fetched, 'node_modules/.cache', { LD_LIBRARY_PATH: libraries(unpacked).join(':') })
}

/**
 * Debian and Ubuntu only: apt verifies and downloads the packages with a state of its own, dpkg-deb unpacks them under
 * node_modules/.cache. It needs no root, changes no package database, starts no service.
 * @returns why it could not, or `undefined`.
 */
export function fetchBinaries(wanted: readonly Kind[]): string | undefined {
  if (onPath(['apt-get']) === undefined || onPath(['dpkg-deb']) === undefined)
    return 'This machine has no apt-get and dpkg-deb'
  const packages = wanted.flatMap((kind) => kinds[kind].packages)
  mkdirSync(cache, { recursive: true })
  const work = mkdtempSync(join(cache, 'fetch-'))
  try {
    for (const folder of ['lists/partial', 'archives/partial', 'debs', 'tree'])
      mkdirSync(join(work, folder), { recursive: true })
    const options = [
      '-qq',
      ...['-o', `Dir::State::lists=${work}/lists`, '-o', `Dir::Cache=${work}`, '-o', 'Debug::NoLocking=1'],
      ...['-o', 'APT::Sandbox::User=root', '-o', 'Acquire::Retries=1', '-o', 'Acquire::http::Timeout=10'],
    ]
    const apt = (...args: string[]) =>
      execFileSync('apt-get', [...options, ...args], {
        cwd: join(work, 'debs'),
        encoding: 'utf8',
        stdio: ['ignore', 'pipe', 'pipe'],
      })
    apt('update')
    const plan = apt('--simulate', '--no-install-recommends', 'install', ...packages)
    const needed = [...plan.matchAll(/^Inst (\S+)/gm)].map((match) => match[1] ?? '')
    apt('download', ...new Set([...packages, ...needed.filter((name) => /^lib(?!.*perl)/.test(name))]))
    for (const deb of readdirSync(join(work, 'debs')))
      execFileSync('dpkg-deb', ['-x', join(work, 'debs', deb), join(work, 'tree')])
    const unpacked = unpackedFor(wanted[0] as Kind)
    rmSync(unpacked, { recursive: true, force: true })
    renameSync(join(work, 'tree'), unpacked)
    return undefined
  } catch (error) {
    return firstLine(error)
  } finally {
    rmSync(work, { recursive: true, force: true })
  }
}

function runnable(kind: Kind, path: string, source: string, env: Record<string, string>): Binary {
  try {
    const output = execFileSync(path, [kinds[kind].version], {
      env: { ...process.env, ...env },
      encoding: 'utf8',
    })
    return { path, env, source, version: /\d+\.\d+\.\d+/.exec(output)?.[0] ?? output.trim() }
  } catch (error) {
    throw new Error(`Expected ${path} (from ${source}) to run, got: ${firstLine(error)}`, { cause: error })
  }
}

function onPath(names: readonly string[]): string | undefined {
  // Debian keeps servers in /usr/sbin, which is not on every user's PATH.
  const folders = [...(process.env.PATH ?? '').split(delimiter), '/usr/sbin']
  return names.flatMap((name) => folders.map((folder) => join(folder, name))).find(executable)
}

function executable(path: string): boolean {
  try {
    accessSync(path, constants.X_OK)
    return true
  } catch {
    return false
  }
}

function libraries(unpacked: string): string[] {
  const folders = ['usr/lib', 'lib']
    .map((folder) => join(unpacked, folder))
    .filter((folder) => existsSync(folder))
  return folders.flatMap((folder) =>
    readdirSync(folder)
      .filter((name) => name.endsWith('-linux-gnu'))
      // Chromium's sound has a folder of its own.
      .flatMap((name) => [join(folder, name), join(folder, name, 'pulseaudio')]),
  )
}

function firstLine(error: unknown): string {
  const stderr = (error as { stderr?: unknown }).stderr
  const text = typeof stderr === 'string' && stderr.trim() !== '' ? stderr : String((error as Error).message)
  return text.trim().split('\n')[0] ?? ''
}

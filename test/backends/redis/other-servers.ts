/** Servers beside the one that the tests find: other makes and versions, fetched from Debian without installing anything. */
import { execFile } from 'node:child_process'
import {
  chmodSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs'
import { delimiter, join } from 'node:path'
import { promisify } from 'node:util'
import { root } from '../../../.ci/entries.mjs'
import type { Binary } from '../../support/binaries.js'

interface Source {
  readonly suite: string
  /** The suite that holds the dependencies of this suite's packages. */
  readonly base?: string
  readonly server: string
  readonly packages: readonly string[]
  /** Made for a newer system: it brings its own C library and its loader. */
  readonly ownLibraries?: boolean
}

const SOURCES = {
  'Valkey 8.0': {
    suite: 'bookworm-backports',
    base: 'bookworm',
    server: 'valkey-server',
    packages: ['valkey-server', 'valkey-tools', 'libjemalloc2', 'liblzf1'],
  },
  'Valkey 8.1': {
    suite: 'trixie',
    server: 'valkey-server',
    packages: [
      ...[
        'valkey-server',
        'valkey-tools',
        'libc6',
        'libssl3t64',
        'libsystemd0',
        'libatomic1',
        'libjemalloc2',
      ],
      ...['liblzf1', 'libcap2', 'libzstd1', 'zlib1g', 'libgcc-s1', 'libhiredis1.1.0'],
    ],
    ownLibraries: true,
  },
  'Redis 6.0': {
    suite: 'bullseye',
    server: 'redis-server',
    packages: [
      'redis-server',
      'redis-tools',
      'libjemalloc2',
      'liblua5.1-0',
      'liblzf1',
      'libhiredis0.14',
      'lua-cjson',
      'lua-bitop',
      'libssl1.1',
    ],
  },
} as const satisfies Readonly<Record<string, Source>>

export type OtherServer = keyof typeof SOURCES

const cache = join(root, 'node_modules/.cache/test-servers-other')
const run = promisify(execFile)

/** Whether they can be had here: Debian's packages for this processor, or fetched earlier. */
export function canFetch(which: OtherServer): boolean {
  const folders = (process.env.PATH ?? '').split(delimiter)
  const tools = ['apt-get', 'dpkg-deb'].every((tool) =>
    folders.some((folder) => existsSync(join(folder, tool))),
  )
  return (
    existsSync(join(cache, SOURCES[which].suite)) ||
    (process.platform === 'linux' && process.arch === 'x64' && tools)
  )
}

/** Downloads and unpacks a server, once, and answers how to start it. */
export async function other(which: OtherServer): Promise<Binary> {
  const source: Source = SOURCES[which]
  const tree = join(cache, source.suite)
  if (!existsSync(tree)) await fetchInto(tree, source)
  const libraries = ['usr/lib', 'lib'].flatMap((folder) => {
    const path = join(tree, folder)
    return existsSync(path)
      ? readdirSync(path)
          .filter((name) => name.endsWith('-linux-gnu'))
          .map((name) => join(path, name))
      : []
  })
  const server = join(tree, 'usr/bin', source.server)
  if (source.ownLibraries !== true)
    return {
      path: server,
      env: { LD_LIBRARY_PATH: libraries.join(':') },
      version: which,
      source: source.suite,
    }
  const start = join(tree, 'start.sh')
  const loader = ['usr/lib64', 'lib64', 'usr/lib/x86_64-linux-gnu', 'lib/x86_64-linux-gnu']
    .map((folder) => join(tree, folder, 'ld-linux-x86-64.so.2'))
    .find((path) => existsSync(path))
  writeFileSync(start, `#!/bin/sh\nexec ${loader} --library-path ${libraries.join(':')} ${server} "$@"\n`)
  chmodSync(start, 0o755)
  return { path: start, env: {}, version: which, source: source.suite }
}

/** Where this machine gets its Debian packages: other suites are beside the one that it uses. */
function archive(): string {
  const folder = '/etc/apt/sources.list.d'
  const files = [
    '/etc/apt/sources.list',
    ...(existsSync(folder) ? readdirSync(folder).map((file) => join(folder, file)) : []),
  ]
  for (const file of files) {
    const text = existsSync(file) ? readFileSync(file, 'utf8') : ''
    const [, found] = /^(?:URIs:|deb(?:\s+\[[^\]]*\])?)\s+(\S+\/debian)\/?(?:\s|$)/m.exec(text) ?? []
    if (found !== undefined) return found
  }
  throw new Error(
    'Expected a Debian archive in the sources of apt. Install valkey-server by hand, or run on Debian.',
  )
}

async function fetchInto(tree: string, { suite, base, packages }: Source): Promise<void> {
  mkdirSync(cache, { recursive: true })
  const work = mkdtempSync(join(cache, 'fetch-'))
  try {
    for (const folder of ['lists/partial', 'archives/partial', 'debs', 'tree'])
      mkdirSync(join(work, folder), { recursive: true })
    const lines = [suite, ...(base === undefined ? [] : [base])].map(
      (name) => `deb ${archive()} ${name} main\n`,
    )
    writeFileSync(join(work, 'sources.list'), lines.join(''))
    // Without the packages of this machine: apt takes an installed one that is newer for the one to download.
    writeFileSync(join(work, 'status'), '')
    const options = [
      ...['-qq', '-o', `Dir::Etc::sourcelist=${work}/sources.list`, '-o', 'Dir::Etc::sourceparts=/dev/null'],
      ...[
        '-o',
        `Dir::State::status=${work}/status`,
        '-o',
        `Dir::State::lists=${work}/lists`,
        '-o',
        `Dir::Cache=${work}`,
        '-o',
        'Debug::NoLocking=1',
      ],
      ...['-o', 'APT::Sandbox::User=root', '-o', 'Acquire::Retries=1', '-o', 'Acquire::http::Timeout=10'],
    ]
    const debs = join(work, 'debs')
    await run('apt-get', [...options, 'update'], { cwd: debs })
    await run('apt-get', [...options, 'download', ...packages], { cwd: debs })
    for (const deb of readdirSync(debs)) await run('dpkg-deb', ['-x', join(debs, deb), join(work, 'tree')])
    try {
      renameSync(join(work, 'tree'), tree)
    } catch (error) {
      // Another process was quicker.
      if (!existsSync(tree)) throw error
    }
  } finally {
    rmSync(work, { recursive: true, force: true })
  }
}

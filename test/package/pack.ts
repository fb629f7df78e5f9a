/** Packs the built package and installs it into empty projects, as a user would. */
import { execFile } from 'node:child_process'
import {
  copyFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { promisify } from 'node:util'
import { manifest, root } from '../../.ci/entries.mjs'

const execute = promisify(execFile)

export interface Run {
  readonly code: number
  readonly output: string
}

export interface Project {
  readonly folder: string
  write(file: string, content: string | object): string
  /** Runs node in the project; never rejects. */
  node(...args: string[]): Promise<Run>
  remove(): void
}

export interface ProjectOptions {
  /** Packages of ours to lend it, such as peers and types. Default: none. */
  readonly lend?: readonly string[]
  readonly type?: 'module' | 'commonjs'
}

/** Packs the build that is there; returns the tarball's path and the files in it. */
export async function pack(): Promise<{ tarball: string; files: string[]; remove(): void }> {
  refuseStaleBuild()
  const folder = mkdtempSync(join(tmpdir(), 'corral-pack-'))
  const { stdout } = await execute(
    'npm',
    ['pack', '--json', '--ignore-scripts', '--pack-destination', folder],
    { cwd: root },
  )
  const [{ filename, files }] = JSON.parse(stdout) as [{ filename: string; files: { path: string }[] }]
  return {
    tarball: join(folder, filename),
    files: files.map(({ path }) => path),
    remove: () => rmSync(folder, { recursive: true, force: true }),
  }
}

export async function makeProject(
  tarball: string,
  { lend = [], type = 'module' }: ProjectOptions = {},
): Promise<Project> {
  const folder = mkdtempSync(join(tmpdir(), 'corral-consumer-'))
  const write = (file: string, content: string | object) => {
    const path = join(folder, file)
    mkdirSync(dirname(path), { recursive: true })
    writeFileSync(path, typeof content === 'string' ? content : JSON.stringify(content))
    return path
  }
  write('package.json', { name: 'consumer', private: true, type })
  // There is nothing to fetch: the package has no dependency, and its peers are optional.
  await execute('npm', ['install', '--offline', '--no-audit', '--no-fund', tarball], { cwd: folder })
  for (const name of lend) {
    mkdirSync(dirname(join(folder, 'node_modules', name)), { recursive: true })
    symlinkSync(join(root, 'node_modules', name), join(folder, 'node_modules', name), 'dir')
  }
  return {
    folder,
    write,
    node: (...args) =>
      execute(process.execPath, args, { cwd: folder, timeout: 120_000 }).then(
        ({ stdout, stderr }) => ({ code: 0, output: stdout + stderr }),
        ({ code, stdout, stderr }) => ({ code: Number(code ?? -1), output: `${stdout}${stderr}` }),
      ),
    remove: () => rmSync(folder, { recursive: true, force: true }),
  }
}

/** Packs a copy of the tree that was never built; returns the names of the files in the tarball. */
export async function packUnbuilt(): Promise<string[]> {
  const folder = mkdtempSync(join(tmpdir(), 'corral-unbuilt-'))
  try {
    const tree = join(folder, 'tree')
    const { stdout: tracked } = await execute('git', ['ls-files', '-co', '--exclude-standard'], { cwd: root })
    for (const file of tracked.split('\n').filter((name) => name !== '' && existsSync(join(root, name)))) {
      mkdirSync(dirname(join(tree, file)), { recursive: true })
      copyFileSync(join(root, file), join(tree, file))
    }
    symlinkSync(join(root, 'node_modules'), join(tree, 'node_modules'), 'dir')
    await execute('npm', ['pack', '--pack-destination', folder], { cwd: tree })
    const tarball = readdirSync(folder).find((name) => name.endsWith('.tgz')) ?? ''
    const { stdout } = await execute('tar', ['-tzf', join(folder, tarball)])
    return stdout.split('\n').map((name) => name.replace('package/', ''))
  } finally {
    rmSync(folder, { recursive: true, force: true })
  }
}

export const peers = (): string[] => Object.keys(manifest().peerDependencies)

function refuseStaleBuild(): void {
  const newer = staleSource()
  if (newer !== undefined)
    throw new Error(
      `Expected dist/ to be built from the sources as they are, but ${newer} is newer: npm run build`,
    )
}

/** A source that is newer than the build. */
export function staleSource(): string | undefined {
  const built = existsSync(join(root, 'dist/index.js')) ? statSync(join(root, 'dist/index.js')).mtimeMs : 0
  return ['src', 'backends', 'proxies']
    .flatMap((folder) =>
      readdirSync(join(root, folder), { recursive: true, encoding: 'utf8' }).map((file) =>
        join(folder, file),
      ),
    )
    .find((file) => file.endsWith('.ts') && statSync(join(root, file)).mtimeMs > built)
}

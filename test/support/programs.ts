/** Programs of tests that run in processes, bundled once and started as often as a test needs. */
import { type ChildProcess, fork } from 'node:child_process'
import { once } from 'node:events'
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { build } from 'esbuild'
import { root } from '../../.ci/entries.mjs'

export interface Program {
  /** The bundle, for tests that start it in their own way. */
  readonly path: string
  /** Starts a process and resolves with its first message's arrival. */
  start(...args: readonly string[]): Promise<ChildProcess>
  /** Kills every process, frozen ones included, and removes the bundle. */
  end(): void
}

/** @param source - path of a TypeScript file, from the root of the repository */
export async function bundleProgram(source: string): Promise<Program> {
  // Inside node_modules, so that packages are found that stay outside the bundle.
  const cache = join(root, 'node_modules/.cache/programs')
  mkdirSync(cache, { recursive: true })
  const folder = mkdtempSync(`${cache}/`)
  const path = join(folder, 'program.mjs')
  await build({
    entryPoints: [join(root, source)],
    outfile: path,
    bundle: true,
    format: 'esm',
    platform: 'node',
    target: 'node20',
    packages: 'external',
    logLevel: 'warning',
  })
  const children = new Set<ChildProcess>()
  return {
    path,
    async start(...args) {
      const child = fork(path, args, {
        stdio: ['ignore', 'inherit', 'inherit', 'ipc'],
        serialization: 'advanced',
      })
      children.add(child)
      child.once('exit', () => children.delete(child))
      await once(child, 'message')
      return child
    },
    end() {
      for (const child of children) child.kill('SIGKILL')
      rmSync(folder, { recursive: true, force: true })
    },
  }
}

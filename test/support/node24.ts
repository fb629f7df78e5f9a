/** Tests of packages that need a later Node than the oldest one that Corral supports. */
import { spawnSync } from 'node:child_process'
import { join } from 'node:path'
import { fetchPackage } from '../proxies/compress/fetched-packages.js'
import { bundleProgram } from './programs.js'

/** Keyv 6 and undici 8 ask for it. */
const NEEDED = [22, 19] as const

export interface Outcome {
  readonly passed: number
  /** The titles of the tests that failed, and the output if something else did. */
  readonly failed: readonly string[]
}

/**
 * Runs a program of `node:test` on this Node if it is late enough, else on the npm package `node@24`. The package is fetched
 * once, beside the project: as a dependency its `node` would be the one of every npm script.
 */
export async function runOnNode24(source: string): Promise<Outcome> {
  const program = await bundleProgram(source)
  try {
    const { status, stdout, stderr } = spawnSync(await node(), ['--test-reporter=tap', program.path], {
      encoding: 'utf8',
      env: { ...process.env, NODE_OPTIONS: '' },
    })
    const passed = Number(/^# pass (\d+)$/m.exec(stdout)?.[1] ?? 0)
    const failed = [...stdout.matchAll(/^ *not ok \d+ - (.*)$/gm)].map(([, title = '']) => title)
    return { passed, failed: status === 0 || failed.length === 0 ? failed : [...failed, stdout, stderr] }
  } finally {
    program.end()
  }
}

async function node(): Promise<string> {
  const [major = 0, minor = 0] = process.versions.node.split('.').map(Number)
  if (major > NEEDED[0] || (major === NEEDED[0] && minor >= NEEDED[1])) return process.execPath
  const fetched = await fetchPackage('node@24.21.0')
  if ('problem' in fetched) throw new Error(`Expected node@24 to be installed: ${fetched.problem}`)
  return join(fetched.folder, 'node_modules/node/bin/node')
}

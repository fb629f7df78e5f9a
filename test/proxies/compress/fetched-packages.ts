import { execFile } from 'node:child_process'
import { existsSync, mkdirSync, mkdtempSync, renameSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { root } from '../../../.ci/entries.mjs'

const cache = join(root, 'node_modules/.cache/test-packages')

/** Installed, or the reason why not. `unreachable`: the registry does not answer, which no test is to blame for. */
export type Fetched =
  | { readonly folder: string }
  | { readonly problem: string; readonly unreachable: boolean }

/**
 * Installs packages beside the project, where neither its manifest nor its lock file knows of them: `node` as a
 * dependency would put another Node into the PATH of every script. Kept until the next `npm ci`.
 */
export async function fetchPackage(spec: string): Promise<Fetched> {
  const folder = join(cache, spec.replaceAll(/[^\w.-]/g, '-'))
  if (existsSync(folder)) return { folder }
  mkdirSync(cache, { recursive: true })
  const work = mkdtempSync(join(cache, 'fetch-'))
  try {
    await promisify(execFile)(
      'npm',
      [
        'install',
        '--prefix',
        work,
        '--no-save',
        '--no-audit',
        '--no-fund',
        '--fetch-retries=1',
        '--fetch-timeout=60000',
        spec,
      ],
      { encoding: 'utf8', timeout: 300_000 },
    )
    // Another test file may have been faster.
    if (!existsSync(folder)) renameSync(work, folder)
    return { folder }
  } catch (error) {
    const output = String((error as { stderr?: unknown }).stderr ?? '')
    const problem = output.split('\n').find((line) => line.startsWith('npm error')) ?? String(error)
    return {
      problem,
      unreachable: /ENOTFOUND|ECONNREFUSED|ECONNRESET|ETIMEDOUT|EAI_AGAIN|ENETUNREACH/.test(output),
    }
  } finally {
    rmSync(work, { recursive: true, force: true })
  }
}

/** A process of an example that is a site, and its visitor. */
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { root } from '../../.ci/entries.mjs'

interface LogLine {
  readonly level: number
  readonly msg: string
}

export interface Reply {
  readonly code: number
  readonly page: string
  /** The header `cache-status`. */
  readonly status: string
  /** After redirections. */
  readonly path: string
}

export interface Site {
  readonly process: ChildProcess
  readonly base: string
  readonly log: readonly LogLine[]
  get(path: string): Promise<Reply>
  post(path: string, form: Record<string, string>, redirect?: 'follow' | 'manual'): Promise<Reply>
  /** Whether it replies within so many milliseconds. */
  answers(within: number): Promise<boolean>
}

export async function openSite(program: string, environment: Record<string, string>): Promise<Site> {
  const child = spawn(process.execPath, ['--enable-source-maps', program], {
    cwd: root,
    env: { ...process.env, ...environment, PORT: '0' },
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  const log: LogLine[] = []
  const base = await new Promise<string>((resolve, reject) => {
    child.once('exit', (code) => reject(new Error(`The site ended with ${code}: ${JSON.stringify(log)}`)))
    createInterface(child.stdout).on('line', (line) => {
      const parsed = JSON.parse(line) as LogLine
      log.push(parsed)
      const [address] = /http:\/\/127\.0\.0\.1:\d+/.exec(parsed.msg) ?? []
      if (address !== undefined) resolve(address)
    })
  })
  const read = async (response: Response): Promise<Reply> => ({
    code: response.status,
    page: await response.text(),
    status: response.headers.get('cache-status') ?? '',
    path: new URL(response.url).pathname,
  })
  return {
    ...{ process: child, base, log },
    get: async (path) => read(await fetch(new URL(path, base))),
    post: async (path, form, redirect = 'follow') =>
      read(await fetch(new URL(path, base), { method: 'POST', body: new URLSearchParams(form), redirect })),
    answers: (within) =>
      fetch(new URL('/metrics', base), { signal: AbortSignal.timeout(within) }).then(
        () => true,
        () => false,
      ),
  }
}

/** Its exit code; `null` if the signal ended it. */
export async function closeSite(
  { process: child }: Site,
  signal: NodeJS.Signals = 'SIGTERM',
): Promise<number | null> {
  if (child.exitCode === null && child.signalCode === null) {
    const left = once(child, 'exit')
    child.kill(signal)
    await left
  }
  return child.exitCode
}

export function temporary(prefix: string): { readonly path: string; remove(): void } {
  const path = mkdtempSync(join(tmpdir(), prefix))
  return { path, remove: () => rmSync(path, { recursive: true, force: true }) }
}

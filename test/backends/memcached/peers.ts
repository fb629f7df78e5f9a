/** Processes that share a memcached: each runs `peer.ts`, compiled once. */
import { type ChildProcess, fork } from 'node:child_process'
import { once } from 'node:events'
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { build } from 'esbuild'
import { root } from '../../../.ci/entries.mjs'

export interface StampedeTask {
  readonly kind: 'stampede'
  readonly servers: string
  readonly key: string
  readonly callers: number
  readonly ms: number
}

export interface StampedeReport {
  readonly runs: number
  /** When the creator returned, if it ran here, and when each caller had its value; ms of a clock that all share. */
  readonly madeAt: number | undefined
  readonly served: readonly number[]
  readonly values: readonly string[]
}

export interface HistoryTask {
  readonly kind: 'history'
  readonly servers: string
  /** A memcached that nobody disturbs, with the version of each key. */
  readonly truth: string
  readonly index: number
  readonly processes: number
  readonly keys: number
  readonly ms: number
}

/** Key, begin, end, version. */
export type Event = readonly [key: number, begin: number, end: number, version: number]

export interface History {
  readonly reads: readonly Event[]
  readonly fresh: readonly Event[]
  readonly hard: readonly Event[]
  readonly soft: readonly Event[]
  readonly creations: readonly Event[]
  readonly failures: Readonly<Record<string, number>>
  readonly wrong: readonly string[]
}

export interface Reports {
  readonly stampede: StampedeReport
  readonly history: History
}

export type Task = StampedeTask | HistoryTask

export interface Peer {
  do<K extends keyof Reports>(task: Task & { readonly kind: K }): Promise<Reports[K]>
}

export interface Peers {
  readonly all: readonly Peer[]
  end(): void
}

export async function startPeers(count: number): Promise<Peers> {
  // Inside node_modules, so that what is not bundled is found.
  const cache = join(root, 'node_modules/.cache/peers')
  mkdirSync(cache, { recursive: true })
  const folder = mkdtempSync(`${cache}/`)
  const program = join(folder, 'peer.mjs')
  await build({
    entryPoints: [join(root, 'test/backends/memcached/peer.ts')],
    outfile: program,
    bundle: true,
    format: 'esm',
    platform: 'node',
    target: 'node20',
    packages: 'external',
  })
  const children: ChildProcess[] = []
  const start = async (): Promise<Peer> => {
    const child = fork(program, { stdio: ['ignore', 'inherit', 'inherit', 'ipc'], serialization: 'advanced' })
    children.push(child)
    await once(child, 'message')
    return {
      async do(task) {
        child.send(task)
        const settled = new AbortController()
        try {
          const { signal } = settled
          const ended = async () => {
            const [code] = await once(child, 'exit', { signal })
            throw new Error(`A peer ended with ${code}`)
          }
          const [report] = await Promise.race([once(child, 'message', { signal }), ended()])
          return report
        } finally {
          settled.abort()
        }
      },
    }
  }
  return {
    all: await Promise.all(Array.from({ length: count }, start)),
    end() {
      for (const child of children) child.kill('SIGKILL')
      rmSync(folder, { recursive: true, force: true })
    },
  }
}

/** Processes that share a cache: each runs `worker.ts`, compiled once, and does what it is told. */
import { type ChildProcess, fork } from 'node:child_process'
import { once } from 'node:events'
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { build } from 'esbuild'
import { root } from '../../../.ci/entries.mjs'
import type { Answers, Order } from './worker.js'

export interface Worker {
  readonly pid: number
  /** Resolves with the answer, rejects when the worker fails or ends first. */
  do<K extends keyof Answers>(order: Order & { readonly task: K }): Promise<Answers[K]>
  kill(signal: NodeJS.Signals): void
}

export interface Crew {
  hire(count: number): Promise<Worker[]>
  dismiss(): Promise<void>
}

export async function crew(): Promise<Crew> {
  // Inside node_modules, so that what is not bundled is found.
  const cache = join(root, 'node_modules/.cache/workers')
  mkdirSync(cache, { recursive: true })
  const dir = mkdtempSync(`${cache}/`)
  const program = join(dir, 'worker.mjs')
  await build({
    entryPoints: [join(root, 'test/backends/redis/worker.ts')],
    outfile: program,
    bundle: true,
    format: 'esm',
    platform: 'node',
    target: 'node20',
    packages: 'external',
  })
  const hired: ChildProcess[] = []

  const hire = async (): Promise<Worker> => {
    const child = fork(program, { stdio: ['ignore', 'inherit', 'inherit', 'ipc'], serialization: 'advanced' })
    hired.push(child)
    await once(child, 'message')
    let number = 0
    return {
      pid: child.pid ?? 0,
      kill: (signal) => child.kill(signal),
      do: (order) =>
        new Promise((resolve, reject) => {
          const id = ++number
          const ended = () => reject(new Error('The worker has ended'))
          const answer = (message: {
            readonly id: number
            readonly result?: never
            readonly error?: string
          }) => {
            if (message.id !== id) return
            child.off('message', answer)
            child.off('exit', ended)
            if (message.error === undefined) resolve(message.result as never)
            else reject(new Error(message.error))
          }
          child.on('message', answer)
          child.once('exit', ended)
          child.send({ id, order })
        }),
    }
  }
  return {
    hire: (count) => Promise.all(Array.from({ length: count }, hire)),
    async dismiss() {
      for (const child of hired) child.kill('SIGKILL')
      rmSync(dir, { recursive: true, force: true })
    },
  }
}

/** Processes that share a cache: each runs `worker.ts` and carries out orders. */
import { order } from '../../support/orders.js'
import { bundleProgram } from '../../support/programs.js'
import type { Answers, Order } from './worker.js'

export interface Worker {
  readonly pid: number
  /** Resolves with the answer, rejects when the worker fails or ends first. */
  do<K extends keyof Answers>(task: Order & { readonly task: K }): Promise<Answers[K]>
  /** Resolves when a creator of a stampede begins in the worker. */
  creating(): Promise<void>
  kill(signal: NodeJS.Signals): void
}

export interface Crew {
  hire(count: number): Promise<Worker[]>
  dismiss(): void
}

export async function crew(): Promise<Crew> {
  const program = await bundleProgram('test/backends/redis/worker.ts')
  const hire = async (): Promise<Worker> => {
    const child = await program.start()
    return {
      pid: child.pid ?? 0,
      kill: (signal) => void child.kill(signal),
      do: (task) => order(child, task),
      creating: () =>
        new Promise((resolve) => {
          const listen = ({ id }: { readonly id: unknown }) => {
            if (id !== 'creating') return
            child.off('message', listen)
            resolve()
          }
          child.on('message', listen)
        }),
    }
  }
  return {
    hire: (count) => Promise.all(Array.from({ length: count }, hire)),
    dismiss: program.end,
  }
}

/** Orders to processes, and their answers. */
import type { ChildProcess } from 'node:child_process'

interface Answer {
  readonly id: number
  readonly result?: unknown
  readonly error?: string
}

let orders = 0

/** Sends an order. Rejects if the process fails to carry it out, or ends first. */
export function order<T>(child: ChildProcess, content: unknown): Promise<T> {
  return new Promise((resolve, reject) => {
    const id = ++orders
    const ended = (code: number | null) => reject(new Error(`The process has ended with ${code}`))
    const listen = (answer: Answer) => {
      if (answer.id !== id) return
      child.off('message', listen)
      child.off('exit', ended)
      if (answer.error === undefined) resolve(answer.result as T)
      else reject(new Error(answer.error))
    }
    child.on('message', listen)
    child.once('exit', ended)
    child.send({ id, content })
  })
}

/** Carries out the orders that this process receives. */
export function carryOutOrders<T>(carryOut: (order: T) => Promise<unknown>): void {
  process.on('unhandledRejection', (error) => {
    console.error('unhandled rejection', error)
    process.exit(3)
  })
  process.on('message', async ({ id, content }: { readonly id: number; readonly content: T }) => {
    try {
      process.send?.({ id, result: await carryOut(content) })
    } catch (error) {
      process.send?.({ id, error: error instanceof Error ? (error.stack ?? error.message) : String(error) })
    }
  })
  process.send?.({ id: 0 })
}

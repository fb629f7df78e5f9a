/** Promises that tests hold, and waits for events and for time. Fake timers do not reach them. */
import { setImmediate, setTimeout } from 'node:timers'

export interface Deferred<T> {
  readonly promise: Promise<T>
  resolve(value: T): void
  reject(error: unknown): void
}

export function deferred<T = void>(): Deferred<T> {
  let resolve!: (value: T) => void
  let reject!: (error: unknown) => void
  const promise = new Promise<T>((yes, no) => {
    resolve = yes
    reject = no
  })
  return { promise, resolve, reject }
}

export interface Gate {
  readonly opened: Promise<void>
  open(): void
}

/** A promise that one side awaits and the other side opens. */
export function gate(): Gate {
  const { promise, resolve } = deferred()
  return { opened: promise, open: resolve }
}

/** ms on the monotonic clock that all processes of a machine share. */
export const sharedNow = (): number => Number(process.hrtime.bigint()) / 1e6

export const sleep = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms))

/** Keeps the event loop busy, as a long computation does. */
export function blockFor(ms: number): void {
  const end = sharedNow() + ms
  while (sharedNow() < end);
}

/** One turn of the event loop. */
export const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve))

/** Waits for every callback that needs no timer and no network. */
export async function idle(turns = 20): Promise<void> {
  for (let i = 0; i < turns; i++) await turn()
}

/** Whether a promise is still pending after `idle()`. */
export async function isPending(promise: Promise<unknown>): Promise<boolean> {
  let pending = true
  const settled = () => {
    pending = false
  }
  promise.then(settled, settled)
  await idle()
  return pending
}

/** Waits for a condition. A condition that throws or rejects does not hold yet. */
export async function until(condition: () => Promise<boolean> | boolean, ms = 15_000): Promise<void> {
  const deadline = Date.now() + ms
  for (;;) {
    try {
      if (await condition()) return
    } catch {
      // Not yet.
    }
    if (Date.now() > deadline) throw new Error(`Expected the condition within ${ms} ms: ${condition}`)
    await sleep(25)
  }
}

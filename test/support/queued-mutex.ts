import type { PlainMutex } from '../../src/index.js'

/** Locks of a store that processes share: without expiry or tokens, and with a queue for each key. */
export function queuedMutex(): { readonly locked: Set<string>; mutex(key: string): PlainMutex } {
  const locked = new Set<string>()
  const queues = new Map<string, (() => void)[]>()
  const mutex = (key: string): PlainMutex => ({
    async acquire(wait) {
      for (;;) {
        if (!locked.has(key)) {
          locked.add(key)
          return true
        }
        if (!wait) return false
        await new Promise<void>((resolve) => {
          queues.set(key, [...(queues.get(key) ?? []), resolve])
        })
      }
    },
    async release() {
      locked.delete(key)
      const [first, ...rest] = queues.get(key) ?? []
      queues.set(key, rest)
      first?.()
    },
    locked: () => locked.has(key),
  })
  return { locked, mutex }
}

import { subscribe } from 'node:diagnostics_channel'
import type { Messages } from 'corral'

/** A value that is too large is created and not stored at every request. One line in so many milliseconds is enough to see it. */
const QUIET_MS = 10_000

/**
 * Logs the messages of the cache that no caller gets as an error: failures, values that were not stored, and notices. It
 * leaves the keys out, because keys may be personal data. The library reports a store that is away once, and then as a count.
 */
export function logCache(write: (line: string) => void): void {
  const last = new Map<string, number>()
  on('failure', ({ where, error, count }) => {
    const times = count === undefined ? '' : `, ${count} times`
    write(`cache failure, ${where}${times}: ${messageOf(error)}`)
  })
  on('unstored', ({ region, reason }) => {
    const kind = `cache ${region}, created but not stored`
    const now = performance.now()
    if (now - (last.get(kind) ?? Number.NEGATIVE_INFINITY) < QUIET_MS) return
    last.set(kind, now)
    write(`${kind}: ${reason}`)
  })
  on('notice', ({ where, message }) => write(`cache notice, ${where}: ${message}`))
}

function on<K extends keyof Messages>(kind: K, listener: (message: Messages[K]) => void): void {
  subscribe(`corral:${kind}`, (message) => listener(message as Messages[K]))
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error)
}

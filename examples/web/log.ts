import { subscribe } from 'node:diagnostics_channel'
import type { Messages } from 'corral'

/** A store that is away fails every call. One line of a kind in so many milliseconds is enough to see it. */
const QUIET_MS = 10_000

/**
 * Logs the messages of the cache that no caller gets as an error: failures, values that were not stored, and notices. It
 * leaves the keys out, because keys may be personal data.
 */
export function logCache(write: (line: string) => void): void {
  const last = new Map<string, number>()
  const log = (kind: string, text: string): void => {
    const now = performance.now()
    if (now - (last.get(kind) ?? Number.NEGATIVE_INFINITY) < QUIET_MS) return
    last.set(kind, now)
    write(`${kind}: ${text}`)
  }
  on('failure', ({ where, error }) => log(`cache failure, ${where}`, messageOf(error)))
  on('unstored', ({ region, reason }) => log(`cache ${region}, created but not stored`, reason))
  on('notice', ({ where, message }) => log(`cache notice, ${where}`, message))
}

function on<K extends keyof Messages>(kind: K, listener: (message: Messages[K]) => void): void {
  subscribe(`corral:${kind}`, (message) => listener(message as Messages[K]))
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error)
}

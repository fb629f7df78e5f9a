/** Bytes as text, for stores that keep text only. */
import { reportUndecodable } from '../base/diagnostics.js'
import type { Bytes } from './cached-value.js'

/** With it no text looks like a number or like JSON, which some stores parse when they read. */
const PREFIX = 'base64:'

export function toBase64Text(bytes: Bytes): string {
  return `${PREFIX}${Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString('base64')}`
}

/** The bytes; a miss where the store has nothing, or something that another program wrote. */
export function fromBase64Text(layer: string, key: string, stored: unknown): Bytes | undefined {
  if (stored === undefined || stored === null) return undefined
  if (typeof stored === 'string' && stored.startsWith(PREFIX))
    return new Uint8Array(Buffer.from(stored.slice(PREFIX.length), 'base64'))
  return reportUndecodable(layer, key, 'it was not written by this backend')
}

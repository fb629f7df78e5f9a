import { isDeepStrictEqual } from 'node:util'
import type { Backend } from '../../../src/backend/backend.js'
import type { CachedValue } from '../../../src/backend/cached-value.js'
import { diagnostics, type Messages } from '../../../src/base/diagnostics.js'
import type { Subject } from './subjects.js'

/** Outcomes of the values: kept as they were, changed, refused, or not read back at all. */
export interface Fidelity {
  readonly kept: number
  readonly changed: number
  readonly refused: number
  readonly missed: number
  /** The first loss, in words. */
  readonly example?: string
}

/** Stores every value once and reads it back. Afterwards the subject holds all that it can hold. */
export async function judge(
  { chain }: Subject,
  values: readonly unknown[],
): Promise<{ fidelity: Fidelity; usable: readonly number[] }> {
  const counts = { kept: 0, changed: 0, refused: 0, missed: 0 }
  const usable: number[] = []
  let example: string | undefined
  let reason = 'nothing was found'
  const listen = (message: unknown): void => {
    const { layer, reason: why, error } = message as Messages['undecodable']
    reason = `${layer}: ${error instanceof Error ? error.message : why}`
  }
  diagnostics('undecodable').subscribe(listen)
  try {
    for (const [i, payload] of values.entries()) {
      const { fate, told, found } = await roundTrip(chain, i, payload)
      counts[fate]++
      if (found) usable.push(i)
      if (fate !== 'kept') example ??= `value ${i + 1}: ${told ?? reason}`
    }
  } finally {
    diagnostics('undecodable').unsubscribe(listen)
  }
  return { fidelity: example === undefined ? counts : { ...counts, example }, usable }
}

async function roundTrip(
  chain: Backend<CachedValue>,
  index: number,
  payload: unknown,
): Promise<{
  readonly fate: 'kept' | 'changed' | 'refused' | 'missed'
  readonly found: boolean
  readonly told?: string
}> {
  try {
    await chain.set(keyOf(index), entryOf(payload), {})
  } catch (error) {
    return { fate: 'refused', found: false, told: error instanceof Error ? error.message : String(error) }
  }
  const entry = await chain.get(keyOf(index))
  if (entry === undefined) return { fate: 'missed', found: false }
  if (isDeepStrictEqual(entry.payload, payload)) return { fate: 'kept', found: true }
  return { fate: 'changed', found: true, told: difference(payload, entry.payload) }
}

export function keyOf(index: number): string {
  return `sample:${index}`
}

/** As a region would store it. */
export function entryOf(payload: unknown) {
  return { payload, metadata: { startedAt: 1.7e12, createdAt: 1.7e12 + 5 } }
}

/** Where two values first differ, and how. */
export function difference(before: unknown, after: unknown, path = 'value'): string {
  const plain = (value: unknown) => Array.isArray(value) || kind(value) === 'Object'
  if (plain(before) && plain(after) && Array.isArray(before) === Array.isArray(after)) {
    const [a, b] = [before as Record<string, unknown>, after as Record<string, unknown>]
    for (const key of new Set([...Object.keys(a), ...Object.keys(b)])) {
      const step = Array.isArray(before) ? `${path}[${key}]` : `${path}.${key}`
      if (!Object.hasOwn(b, key)) return `${step} is gone`
      if (!Object.hasOwn(a, key)) return `${step} was added`
      if (!isDeepStrictEqual(a[key], b[key])) return difference(a[key], b[key], step)
    }
  }
  const [was, is] = [kind(before), kind(after)]
  return was === is ? `${path}, ${was}, has another content` : `${path} was ${was}, came back as ${is}`
}

function kind(value: unknown): string {
  if (value === null || typeof value !== 'object')
    return Object.is(value, -0) ? '-0' : value === null ? 'null' : typeof value
  return (
    (Object.getPrototypeOf(value) as { constructor?: { name?: string } } | null)?.constructor?.name ??
    'an object without prototype'
  )
}

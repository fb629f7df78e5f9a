import assert from 'node:assert/strict'
import type { Backend } from '../backend/backend.js'
import type { Acquired } from '../backend/lease.js'
import type { Ledger } from '../ledger/ledger.js'

/**
 * A need of a case, which does not apply to a backend without it.
 * @example
 * ```ts
 * import { backendCases, type Need } from 'corral/testing'
 *
 * export const casesWith = (need: Need) => backendCases.filter(({ needs }) => needs === need)
 * ```
 */
export type Need =
  /** A ledger, with a `set` that honours `ifCurrent`. */
  | 'ledger'
  /** Stored values that are independent of the objects that callers hold. */
  | 'copies'

/**
 * The arguments of a case.
 * @example
 * ```ts
 * import type { CachedValue } from 'corral'
 * import { memory } from 'corral/backends/memory'
 * import type { Context } from 'corral/testing'
 *
 * const value = (payload: string) => ({ payload, metadata: { startedAt: 1, createdAt: 1 } })
 * export const context: Context<CachedValue> = {
 *   backend: memory(),
 *   values: [value('a'), value('b')],
 *   ttlResolution: 20,
 * }
 * ```
 */
export interface Context<T> {
  readonly backend: Backend<T>
  /** Different values, at least two. */
  readonly values: readonly [T, T, ...T[]]
  /** How exact the expiry of the store is, in ms. */
  readonly ttlResolution: number
}

/**
 * One case of the backend contract.
 * @example
 * ```ts
 * import assert from 'node:assert/strict'
 * import type { Case } from 'corral/testing'
 *
 * export const emptyKey: Case = {
 *   name: 'the empty key is a miss at first',
 *   run: async ({ backend }) => assert.equal(await backend.get(''), undefined),
 * }
 * ```
 */
export interface Case {
  readonly name: string
  readonly needs?: Need
  run<T>(context: Context<T>): Promise<void>
}

/** Bytes are compared by content: stores return a Buffer for any Uint8Array. */
export function same(actual: unknown, expected: unknown, message?: string): void {
  if (ArrayBuffer.isView(actual) && ArrayBuffer.isView(expected))
    assert.equal(Buffer.compare(bytes(actual), bytes(expected)), 0, message ?? 'Expected the same bytes.')
  else if (Array.isArray(actual) && Array.isArray(expected)) {
    assert.equal(actual.length, expected.length, message)
    actual.forEach((one, i) => {
      same(one, expected[i], message ?? `at index ${i}`)
    })
  } else assert.deepStrictEqual(actual, expected, message)
}

function bytes(view: ArrayBufferView): Uint8Array {
  return new Uint8Array(view.buffer, view.byteOffset, view.byteLength)
}

export function sleep(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms))
}

/** Returns the passed ms: if the machine was too slow, a case does not check the state before a deadline. */
export function stopwatch(): () => number {
  const began = performance.now()
  return () => performance.now() - began
}

/** How long a waiter may take to be woken, and an operation to settle, before it counts as never. */
const PATIENCE = 5_000

/** Awaits with a deadline: a hang is a failure with a name. */
export async function inTime<R>(work: R | Promise<R>, what: string): Promise<R> {
  let timer: NodeJS.Timeout | undefined
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(
      () => reject(new assert.AssertionError({ message: `${what} took too long` })),
      PATIENCE,
    )
  })
  try {
    return await Promise.race([work, late])
  } finally {
    clearTimeout(timer)
  }
}

/** Acquires a lease that must be free. */
export async function granted<T>(
  backend: Backend<T>,
  key: string,
  ms = 10_000,
  steal = false,
): Promise<string> {
  const acquired = await backend.acquire(key, ms, { steal })
  assert.equal(typeof acquired.token, 'string', `Expected the lease of '${key.slice(0, 40)}' to be granted.`)
  assert.notEqual(acquired.token, '')
  return acquired.token as string
}

/** Requests a lease that another caller must hold. */
export async function busy<T>(
  backend: Backend<T>,
  key: string,
  ms = 10_000,
): Promise<Exclude<Acquired<T>, { readonly token: string }>> {
  const acquired = await backend.acquire(key, ms)
  if (acquired.token !== undefined) assert.fail(`Expected the lease of '${key}' to be held by somebody.`)
  return acquired
}

/** The ledger of a backend, for cases that need one. */
export function ledgerOf<T>(backend: Backend<T>): Ledger {
  if (backend.ledger === undefined) assert.fail('Expected the backend to keep a ledger.')
  return backend.ledger
}

/** Whether the need of a case is met. */
export function applies<T>(needs: Need | undefined, backend: Backend<T>, shares: boolean): boolean {
  if (needs === 'ledger') return backend.ledger !== undefined
  if (needs === 'copies') return !shares
  return true
}

import assert from 'node:assert/strict'
import type { Backend, Write } from '../backend/backend.js'
import type { Denied } from '../backend/lease.js'
import { performance, withTimeout } from '../base/timers.js'

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
  readonly needs?: Need | undefined
  run<T>(context: Context<T>): Promise<void>
}

/** The bodies of cases by their names. */
export type Bodies = Readonly<Record<string, Case['run']>>

/** The cases of one need. */
export function casesOf(bodies: Bodies, needs?: Need): readonly Case[] {
  return Object.entries(bodies).map(([name, run]) => ({ name, needs, run }))
}

/** Writes without options, of the values under their keys. */
export function writesOf<T>(values: Readonly<Record<string, T>>): Write<T>[] {
  return Object.entries(values).map(([key, value]) => [key, value, {}])
}

/** Every operation on entries and leases, by its name. */
export function operationsOf<T>(backend: Backend<T>, value: T): Readonly<Record<string, () => unknown>> {
  return {
    set: () => backend.set('key', value, {}),
    get: () => backend.get('key'),
    'get of a miss': () => backend.get('absent'),
    getMulti: () => backend.getMulti(['key', 'absent']),
    setMulti: () => backend.setMulti([['key', value, {}]]),
    acquire: () => backend.acquire('other', 1_000),
    renew: () => backend.renew('key', 'token', 1_000),
    release: () => backend.release('key', 'token'),
    held: () => backend.held('key'),
    delete: () => backend.delete('key'),
    deleteMulti: () => backend.deleteMulti(['key', 'absent']),
  }
}

/** Bytes are compared by content: stores return a Buffer for any Uint8Array. */
export function same(actual: unknown, expected: unknown, message?: string): void {
  assert.deepStrictEqual(comparable(actual), comparable(expected), message)
}

function comparable(value: unknown): unknown {
  if (ArrayBuffer.isView(value)) return new Uint8Array(value.buffer, value.byteOffset, value.byteLength)
  return Array.isArray(value) ? Array.from(value, comparable) : value
}

/** The failure of an operation, thrown or rejected; undefined if there is none. */
export async function failure(operation: () => unknown): Promise<unknown> {
  try {
    await operation()
  } catch (error) {
    return error
  }
  return undefined
}

/** Returns the passed ms: if the machine was too slow, a case does not check the state before a deadline. */
export function stopwatch(): () => number {
  const began = performance.now()
  return () => performance.now() - began
}

/** In ms. A waiter that is not woken in this time, or an operation that does not settle, counts as hanging. */
const PATIENCE = 5_000

/** Awaits with a deadline: a hang is a failure with a name. */
export function inTime<R>(work: Promise<R>, name: string): Promise<R> {
  return withTimeout(work, PATIENCE, () => new assert.AssertionError({ message: `${name} took too long` }))
}

/** Acquires a lease that must be free. */
export async function granted<T>(
  backend: Backend<T>,
  key: string,
  ms = 10_000,
  steal = false,
): Promise<string> {
  const { token } = await backend.acquire(key, ms, { steal })
  if (typeof token === 'string' && token !== '') return token
  assert.fail(`Expected the lease of '${key.slice(0, 40)}' to be granted.`)
}

/** Requests a lease that another caller must hold. */
export async function busy<T>(backend: Backend<T>, key: string): Promise<Denied<T>> {
  const acquired = await backend.acquire(key, 10_000)
  if (acquired.token === undefined) return acquired
  assert.fail(`Expected another caller to hold the lease of '${key}'.`)
}

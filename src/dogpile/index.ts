/**
 * `corral/dogpile`: the algorithm of a region for resources that are not cached values. One caller creates a value at a
 * time. The other callers of this process get the previous value, or wait.
 *
 * @example
 * ```ts
 * import { dogpile, type Lookup } from 'corral/dogpile'
 *
 * let token = { value: '', expiresAt: 0 }
 * const tokens = dogpile<string>({ wait: '5s' })
 *
 * export function currentToken(): Promise<string> {
 *   return tokens.run('token', {
 *     read: (): Lookup<string>[] => [
 *       token.expiresAt > Date.now() ? { state: 'fresh', value: token.value } : { state: 'missing' },
 *     ],
 *     create() {
 *       token = { value: crypto.randomUUID(), expiresAt: Date.now() + 60_000 }
 *       return [token.value]
 *     },
 *   })
 * }
 * ```
 */
export type { Acquired } from '../backend/lease.js'
export { dogpile } from './dogpile.js'
export type { AsyncCreationRunner, CreationJob } from './runner.js'
export type * from './types.js'

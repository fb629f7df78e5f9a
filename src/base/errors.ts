import { types } from 'node:util'

/**
 * Every code of a CorralError. docs/errors.md explains them.
 * @example
 * ```ts
 * import type { CorralErrorCode } from 'corral'
 *
 * export const retried: readonly CorralErrorCode[] = ['ERR_TIMEOUT', 'ERR_UNAVAILABLE']
 * ```
 */
export type CorralErrorCode =
  | 'ERR_OPTION'
  | 'ERR_KEY'
  | 'ERR_KEY_ARGUMENT'
  | 'ERR_NAMESPACE'
  | 'ERR_CHAIN'
  | 'ERR_NOT_CONFIGURED'
  | 'ERR_ALREADY_CONFIGURED'
  | 'ERR_UNKNOWN_NAME'
  | 'ERR_ASYNC_BACKEND'
  | 'ERR_BATCH_LENGTH'
  | 'ERR_CREATOR'
  | 'ERR_CREATION_CYCLE'
  | 'ERR_WAIT_TIMEOUT'
  | 'ERR_CREATION_TIMEOUT'
  | 'ERR_UNENCODABLE'
  | 'ERR_VALUE_TOO_LARGE'
  | 'ERR_NO_LEDGER'
  | 'ERR_OUTSIDE_CREATION'
  | 'ERR_AS_OF_MISSING'
  | 'ERR_VERSION'
  | 'ERR_NO_SESSION'
  | 'ERR_BACKEND'
  | 'ERR_TIMEOUT'
  | 'ERR_UNAVAILABLE'
  | 'ERR_UNSUPPORTED'
  | 'ERR_CLOSED'
  | 'ERR_BUS'
  | 'ERR_NOT_INVALIDATED'

const BRAND = Symbol.for('corral.error')

/**
 * The one error class. Tell errors apart by `code`, with `CorralError.is`: it also knows the errors of another copy
 * of the package and of the other module format, which `instanceof` does not.
 * @example
 * ```ts
 * import { CorralError } from 'corral'
 *
 * export const isTimeout = (error: unknown) => CorralError.is(error, 'ERR_TIMEOUT')
 * ```
 */
export class CorralError extends Error {
  readonly code: CorralErrorCode
  override readonly name: 'CorralError'
  readonly [BRAND]: true

  constructor(code: CorralErrorCode, message: string, options?: { readonly cause?: unknown }) {
    super(message, options)
    this.code = code
    // Not as values of the fields: for them the CommonJS build would give the class another name, which inspect() shows.
    this.name = 'CorralError'
    this[BRAND] = true
  }

  static is(error: unknown, code?: CorralErrorCode): error is CorralError {
    if (typeof error !== 'object' || error === null || !(BRAND in error)) return false
    return code === undefined || (error as { code?: unknown }).code === code
  }
}

/** Whether a value is an error, also one of another realm: inside Jest those of core modules are such ones. */
export function isError(value: unknown): value is Error {
  return value instanceof Error || types.isNativeError(value)
}

/** The text of anything that was thrown. */
export function messageOf(error: unknown): string {
  return isError(error) ? error.message : formatValue(error)
}

/** Shows a value in a message, briefly. */
export function formatValue(value: unknown): string {
  if (types.isPromise(value)) {
    // The promise is refused, so its rejection has no handler.
    value.catch(() => {})
    return 'a promise'
  }
  if (typeof value === 'string') return `'${value.length > 60 ? `${value.slice(0, 57)}...` : value}'`
  if (typeof value === 'function') return 'a function'
  if (typeof value === 'object' && value !== null) return Array.isArray(value) ? 'an array' : 'an object'
  return `\`${String(value)}\``
}

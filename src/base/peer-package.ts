import { CorralError, type CorralErrorCode } from './errors.js'

/** Whether the import of a package failed because it is not there, and not for another reason. */
export function isNotInstalled(name: string, error: unknown): boolean {
  const { code, message } = (error ?? {}) as { readonly code?: unknown; readonly message?: unknown }
  return (
    (code === 'ERR_MODULE_NOT_FOUND' || code === 'MODULE_NOT_FOUND') && `${message}`.includes(`'${name}'`)
  )
}

/** The error for a package of the application that could not be imported. */
export function importError(
  name: string,
  purpose: string,
  error: unknown,
  code: CorralErrorCode = 'ERR_OPTION',
): CorralError {
  const { message } = (error ?? {}) as { readonly message?: unknown }
  return new CorralError(
    code,
    isNotInstalled(name, error)
      ? `${purpose} with the package ${name}, which is not installed: npm install ${name}.`
      : `${purpose} with the package ${name}, which could not be loaded: ${String(message ?? error)}. If a bundler packed it, declare it external; otherwise install it again.`,
    { cause: error },
  )
}

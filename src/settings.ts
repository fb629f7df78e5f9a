import { CorralError } from './errors.js'
import type { ConfigureOptions } from './region-types.js'

type Reader = (settings: Readonly<Record<string, unknown>>, prefix: string) => ConfigureOptions

let reader: Reader | undefined

/**
 * Whoever registers a backend brings the reader of settings along, and nobody else pays for it: without a registered
 * backend there is nothing that settings could name.
 */
export function readSettingsWith(read: Reader): void {
  reader = read
}

/** @throws CorralError `ERR_UNKNOWN_NAME` when nothing was ever registered. */
export function fromSettings(settings: Readonly<Record<string, unknown>>, prefix: string): ConfigureOptions {
  if (reader !== undefined) return reader(settings, prefix)
  throw new CorralError(
    'ERR_UNKNOWN_NAME',
    "No backend is registered for settings to name. Make yours known first: registerBackend('memory', (options) => memory(options)).",
  )
}

import { CorralError, formatValue } from '../base/errors.js'
import type { ConfigureOptions } from './types.js'

type Reader = (settings: Readonly<Record<string, unknown>>, prefix: string) => ConfigureOptions

let reader: Reader | undefined

/**
 * An application that registers a backend loads the reader of settings, and no other pays for it: without a registered
 * backend there is nothing that settings could name.
 */
export function readSettingsWith(read: Reader): void {
  reader = read
}

/** Whether the settings ask to replace a backend; read before anything else of them. */
export function replaces(settings: Readonly<Record<string, unknown>>, prefix: string): boolean {
  checkSettings(settings, prefix)
  return Object.entries(settings).some(
    ([name, value]) =>
      name.startsWith(prefix) &&
      name.slice(prefix.length).replaceAll('_', '').toLowerCase() === 'replaceexistingbackend' &&
      /^(true|yes|on|1)$/i.test(String(value).trim()),
  )
}

function checkSettings(settings: unknown, prefix: unknown): void {
  if (typeof settings === 'object' && settings !== null && typeof prefix === 'string') return
  throw new CorralError(
    'ERR_OPTION',
    `Expected configureFromConfig() to receive an object of settings and the prefix of their names, got ${formatValue(settings)} and ${formatValue(prefix)}.`,
  )
}

/** @throws CorralError `ERR_UNKNOWN_NAME` when nothing was ever registered. */
export function fromSettings(settings: Readonly<Record<string, unknown>>, prefix: string): ConfigureOptions {
  checkSettings(settings, prefix)
  if (reader !== undefined) return reader(settings, prefix)
  throw new CorralError(
    'ERR_UNKNOWN_NAME',
    "No backend is registered for settings to name. Make yours known first: registerBackend('memory', (options) => memory(options)).",
  )
}

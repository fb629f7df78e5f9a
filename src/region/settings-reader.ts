import { CorralError, formatValue } from '../base/errors.js'
import { rejectOptions } from '../base/options.js'
import { processGlobal } from '../base/process-global.js'
import type { ConfigureOptions } from './types.js'

export interface BuiltBackend {
  readonly backend: NonNullable<ConfigureOptions['backend']>
  /** Closes what was made for a region that refuses it, and nothing that other regions use. */
  discard(): void
}

/** The options that settings ask for. Building the backend opens its connection, so the region decides when to do it. */
export interface ReadSettings extends Omit<ConfigureOptions, 'backend'> {
  buildBackend(): BuiltBackend
}

type Reader = (settings: Readonly<Record<string, unknown>>, prefix: string) => ReadSettings

/** An application may register its backends with one copy of the package, and make its regions with another. */
const shared = processGlobal('settings-reader', (): { read?: Reader } => ({}))

/**
 * An application that registers a backend loads the reader of settings, and no other pays for it: without a registered
 * backend there is nothing that settings could name.
 */
export function readSettingsWith(read: Reader): void {
  shared.read = read
}

/** @throws CorralError `ERR_UNKNOWN_NAME` when nothing was ever registered. */
export function fromSettings(settings: Readonly<Record<string, unknown>>, prefix: string): ReadSettings {
  if (typeof settings !== 'object' || settings === null || typeof prefix !== 'string')
    rejectOptions(
      `Expected configureFromConfig() to receive an object of settings and the prefix of their names, got ${formatValue(settings)} and ${formatValue(prefix)}.`,
    )
  if (shared.read !== undefined) return shared.read(settings, prefix)
  throw new CorralError(
    'ERR_UNKNOWN_NAME',
    "No backend is registered for settings to name. Make yours known first: registerBackend('memory', (options) => memory(options)).",
  )
}

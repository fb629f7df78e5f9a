/**
 * The diagnostics of Corral in the log, by the package `pino` or another logger with its methods: failures as errors, values
 * that were not stored as warnings, invalidations for debugging.
 *
 * Keys and names of dependencies may be personal data, so they are left out unless you ask for them.
 */
import { diagnostics, type Messages } from '../base/diagnostics.js'
import { checkOptions, expectBoolean, expectMethods, ownOptions } from '../base/options.js'
import { claimReceivers } from './telemetry/once.js'

/**
 * A logger of `pino`, or another one that takes an object and then a text.
 * @example
 * ```ts
 * import type { PinoLogger } from 'corral/integrations/pino'
 * import { pino } from 'pino'
 *
 * export const logger: PinoLogger = pino()
 * ```
 */
export interface PinoLogger {
  error(details: object, text: string): void
  warn(details: object, text: string): void
  info(details: object, text: string): void
  debug(details: object, text: string): void
}

/**
 * The options of `logTo()`.
 * @example
 * ```ts
 * import type { LogOptions } from 'corral/integrations/pino'
 *
 * export const options: LogOptions = { keys: true }
 * ```
 */
export interface LogOptions {
  /** Also log keys and names of dependencies. @default false */
  readonly keys?: boolean | undefined
}

type Level = keyof PinoLogger

/** The level and text of each channel that is logged. Reads, creations and evictions are numbers, not lines. */
const LINES: Partial<Record<keyof Messages, readonly [level: Level, text: string]>> = {
  failure: ['error', 'a failure that no caller received'],
  unstored: ['warn', 'a value was created but not stored'],
  undecodable: ['warn', 'a stored value is of no use'],
  notice: ['warn', 'worth a look'],
  configure: ['info', 'a region was configured'],
  invalidate: ['debug', 'invalidated'],
}

const PERSONAL = ['key', 'keys', 'names']

/**
 * Writes a line for each message. Returns a function that ends it.
 * @example
 * ```ts
 * import { logTo } from 'corral/integrations/pino'
 * import { pino } from 'pino'
 *
 * logTo(pino().child({ component: 'cache' }))
 * ```
 * @throws CorralError `ERR_OPTION` for a logger without these methods, and for one that gets the lines already.
 */
export function logTo(logger: PinoLogger, options: LogOptions = {}): () => void {
  options = ownOptions(options)
  expectMethods(logger, ['error', 'warn', 'info', 'debug'], 'logTo() to receive a logger such as pino()')
  checkOptions(options, 'logTo()', { keys: expectBoolean })
  const { keys = false } = options
  const release = claimReceivers(
    [logger],
    'Expected one call of logTo() for a logger, got another one while the first is in use: every line would be written twice. Leave out one of them, or end the first.',
  )
  const ends = Object.entries(LINES).map(([kind, [level, text]]): (() => void) => {
    const channel = diagnostics(kind as keyof Messages)
    const listener = (message: unknown) =>
      logger[level](detailsOf(kind, message as object, keys), lineOf(message, text))
    channel.subscribe(listener)
    return () => void channel.unsubscribe(listener)
  })
  ends.push(release)
  return () => {
    for (const end of ends.splice(0)) end()
  }
}

/** An error stands under `err`, where the serializer of pino expects it. */
function detailsOf(kind: string, message: object, keys: boolean): object {
  const { error, message: _, ...rest } = message as Readonly<Record<string, unknown>>
  const kept = Object.entries(rest).filter(([name]) => keys || !PERSONAL.includes(name))
  return { corral: kind, ...Object.fromEntries(kept), ...(error !== undefined && { err: error }) }
}

/** A notice brings its own text. */
function lineOf(message: unknown, text: string): string {
  const own = (message as { message?: unknown }).message
  return `corral: ${typeof own === 'string' ? own : text}`
}

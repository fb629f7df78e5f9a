import type { Backend } from '../backend/backend.js'
import { durationSetting } from '../base/duration.js'
import { CorralError } from '../base/errors.js'
import {
  didYouMean,
  expectFunction,
  expectOneOf,
  expectThat,
  optionError,
  rejectOptions,
} from '../base/options.js'
import { processGlobal } from '../base/process-global.js'
import { type ReadSettings, readSettingsWith } from '../region/settings-reader.js'
import { buildChain, type SettingKind, type Settings, type SettingValue } from './chain.js'

interface Registered<T> {
  readonly make: (options: Settings) => T
  readonly settings: Readonly<Record<string, SettingKind>>
}

// biome-ignore lint/suspicious/noExplicitAny: a registered layer may be of any representation; the chain checks it
type Layer = (next: any) => Backend<any>

const { backends, proxies } = processGlobal('registered', () => ({
  backends: new Map<string, Registered<unknown>>(),
  proxies: new Map<string, Registered<Layer>>(),
}))

/**
 * Makes a backend known to `configureFromConfig` by a name. `settings` lists the options that may be set, and how their
 * text is read; `make` gets those that were set. A later registration of the same name replaces the former.
 * @example
 * ```ts
 * import { makeRegion, registerBackend } from 'corral'
 * import { memory } from 'corral/backends/memory'
 *
 * registerBackend('memory', (options) => memory(options), { maxEntries: 'integer' })
 * const settings = { CACHE_BACKEND: 'memory', CACHE_BACKEND__MAX_ENTRIES: '5000' }
 * const users = makeRegion<string>({ name: 'users' }).configureFromConfig(settings, 'CACHE_')
 * ```
 */
export function registerBackend<T>(
  name: string,
  make: (options: Settings) => Backend<T>,
  settings: Readonly<Record<string, SettingKind>> = {},
): void {
  check('registerBackend', name, make, settings)
  readSettingsWith(readSettings)
  backends.set(name, { make, settings: { ...settings } })
}

/**
 * Makes a proxy known to `configureFromConfig` by a name, in the same way.
 * @example
 * ```ts
 * import { registerProxy } from 'corral'
 * import { prefix } from 'corral/proxies/prefix'
 *
 * registerProxy('prefix', ({ text }) => prefix(String(text)), { text: 'string' })
 * ```
 */
export function registerProxy(
  name: string,
  make: (options: Settings) => Layer,
  settings: Readonly<Record<string, SettingKind>> = {},
): void {
  check('registerProxy', name, make, settings)
  readSettingsWith(readSettings)
  proxies.set(name, { make, settings: { ...settings } })
}

function check(where: string, name: unknown, make: unknown, settings: unknown): void {
  expectThat(
    typeof name === 'string' && /^[\w-]+$/.test(name),
    name,
    `the name in ${where}() to be of letters, digits, - and _`,
  )
  expectFunction(make, `the factory in ${where}('${name}')`)
  expectThat(
    typeof settings === 'object' && settings !== null && !Array.isArray(settings),
    settings,
    `the settings in ${where}('${name}') to be an object of options and their kinds`,
  )
  const kinds = Object.keys(READ)
  const canonical = new Map<string, string>()
  for (const [option, kind] of Object.entries(settings)) {
    expectOneOf(kind, `the kind of \`${option}\` in ${where}('${name}')`, kinds)
    const same = canonical.get(canonicalOf(option))
    if (same !== undefined)
      rejectOptions(
        `The options \`${same}\` and \`${option}\` in ${where}('${name}') have one setting. Keep one.`,
      )
    canonical.set(canonicalOf(option), option)
  }
}

/**
 * Options of `configure` from flat settings. Known are, each after `prefix`: `backend`, `backend.<option>`,
 * `proxies` (names from the backend outwards, separated by commas), `proxies.<name>.<option>`, `expiration_time`,
 * those of `SERVING`, `lease.ms`, `lease.wait`, `breaker.failures`, `breaker.cooldown`, `replace_existing_backend`, `share_backend`. Settings without the prefix are not looked at.
 * Case and single underscores do not count, and `__` stands for a dot, so that environment variables can say it all.
 * @throws CorralError `ERR_OPTION` for unknown or unreadable settings, `ERR_UNKNOWN_NAME` for a name never registered.
 */
function readSettings(settings: Readonly<Record<string, unknown>>, prefix: string): ReadSettings {
  const left = new Map<string, { readonly name: string; readonly value: unknown }>()
  for (const [name, value] of Object.entries(settings)) {
    if (!name.startsWith(prefix) || value === undefined || value === null) continue
    const canonical = canonicalOf(name.slice(prefix.length))
    const twin = left.get(canonical)
    if (twin !== undefined)
      rejectOptions(`The settings \`${twin.name}\` and \`${name}\` say the same thing. Keep one.`)
    left.set(canonical, { name, value })
  }
  const names: string[] = []
  const take = (name: string, kind: Kind): SettingValue | undefined => {
    names.push(name)
    const canonical = canonicalOf(name)
    const found = left.get(canonical)
    left.delete(canonical)
    return found === undefined ? undefined : read(found.name, found.value, kind)
  }
  /** The options of a group that are set. */
  const takeAll = (kinds: Readonly<Record<string, Kind>>, group = ''): Settings =>
    Object.fromEntries(
      Object.entries(kinds).flatMap(([option, kind]) => {
        const value = take(group + option, kind)
        return value === undefined ? [] : [[option, value]]
      }),
    )

  const name = take('backend', 'string')
  if (typeof name !== 'string')
    rejectOptions(
      `Expected the setting \`${prefix}${/[a-z]|^$/.test(prefix) ? 'backend' : 'BACKEND'}\` to name a backend, such as 'memory'. Known: ${known(backends)}.`,
    )
  const chosen = registered(backends, name, 'backend', 'registerBackend')
  const named = (take('proxies', 'list') ?? []) as readonly string[]
  const twice = named.find((proxy, i) => named.indexOf(proxy) !== i)
  if (twice !== undefined)
    rejectOptions(
      `The proxy '${twice}' is named twice, and settings cannot tell its options apart. Register it under a second name.`,
    )
  const layers = named.map((proxy) => {
    const { make, settings: kinds } = registered(proxies, proxy, 'proxy', 'registerProxy')
    return { name: proxy, make, options: takeAll(kinds, `proxies.${proxy}.`) }
  })
  const store = { name, make: chosen.make, options: takeAll(chosen.settings, 'backend.') }
  const share = take('shareBackend', 'boolean') === true
  const lease = takeAll({ ms: 'duration', wait: 'duration' }, 'lease.')
  const breaker = takeAll({ failures: 'integer', cooldown: 'duration' }, 'breaker.')
  const rest = takeAll({ expirationTime: 'duration', replaceExistingBackend: 'boolean', ...SERVING })
  const [unknown] = left.values()
  if (unknown !== undefined)
    rejectOptions(
      `Unknown setting \`${unknown.name}\`. ${likely(unknown.name, prefix, names)}Known: backend, backend.{${Object.keys(chosen.settings).join()}}, proxies, proxies.<name>.<option>, expiration_time, ${Object.keys(SERVING).map(inSnakeCase).join(', ')}, lease.ms, lease.wait, breaker.failures, breaker.cooldown, replace_existing_backend, share_backend.`,
    )
  return {
    buildBackend: () => buildChain([store, ...layers], share),
    ...rest,
    ...(Object.keys(lease).length > 0 && { lease }),
    ...(Object.keys(breaker).length > 0 && { breaker: breaker as never }),
  }
}

/** The settings of `ServingOptions`. */
const SERVING: Readonly<Record<string, Kind>> = {
  grace: 'durationOrZero',
  retryAfter: 'durationOrZero',
  errorExpirationTime: 'durationOrZero',
  softTimeout: 'duration',
  hardTimeout: 'duration',
  abandonAfter: 'duration',
  jitter: 'number',
  refreshAhead: 'ahead',
}

/** Environment variables know neither dots nor, by custom, small letters: `BACKEND__MAX_ENTRIES` is `backend.maxEntries`. */
function canonicalOf(name: string): string {
  return name.replaceAll('__', '.').replaceAll('_', '').toLowerCase()
}

function inSnakeCase(name: string): string {
  return name.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`)
}

/** The setting that a misspelt one most likely stands for, written as settings of its kind are. */
function likely(given: string, prefix: string, names: readonly string[]): string {
  const bare = given.slice(prefix.length)
  const isVariable = bare === bare.toUpperCase()
  const spelt = names.map((name) => {
    const words = inSnakeCase(name)
    return isVariable ? words.replaceAll('.', '__').toUpperCase() : words
  })
  return didYouMean(bare, spelt, prefix)
}

function registered<T>(
  map: ReadonlyMap<string, Registered<T>>,
  name: string,
  what: string,
  how: string,
): Registered<T> {
  const found = map.get(name)
  if (found !== undefined) return found
  throw new CorralError(
    'ERR_UNKNOWN_NAME',
    `No ${what} is registered as '${name}'. ${didYouMean(name, [...map.keys()])}Known: ${known(map)}. Make it known with ${how}('${name}', …) first.`,
  )
}

function known(map: ReadonlyMap<string, unknown>): string {
  return [...map.keys()].join(', ') || 'none yet'
}

type Kind = SettingKind | 'durationOrZero' | 'ahead'

const SPELT: Partial<Record<Kind, string>> = {
  duration: "a duration with a unit, such as '5m'",
  durationOrZero: "a duration with a unit, such as '5m', or 0",
  ahead: "a number, or 'xfetch'",
  integer: 'an integer',
}

/** Reads a setting of each kind; `undefined` if the text is not of that kind. */
const READ: Readonly<Record<Kind, (text: unknown, name: string) => SettingValue | undefined>> = {
  string: (text) => (typeof text === 'string' ? text : undefined),
  number: numberIn,
  integer(text) {
    const number = numberIn(text)
    return Number.isInteger(number) ? number : undefined
  },
  boolean(text) {
    if (typeof text === 'boolean') return text
    if (typeof text !== 'string') return undefined
    if (/^(true|yes|on|1)$/i.test(text)) return true
    return /^(false|no|off|0)$/i.test(text) ? false : undefined
  },
  duration: (text, name) => (typeof text === 'string' ? durationSetting(text, name) : undefined),
  durationOrZero: (text, name) =>
    text === 0 || (typeof text === 'string' && /^0(ms|s|m|h|d)?$/.test(text)) ? 0 : READ.duration(text, name),
  ahead: (text) => (text === 'xfetch' ? text : numberIn(text)),
  list(text) {
    const parts = typeof text === 'string' ? text.split(',').map((part) => part.trim()) : text
    if (!Array.isArray(parts) || !parts.every((part) => typeof part === 'string')) return undefined
    return typeof text === 'string' ? parts.filter((part) => part !== '') : parts
  },
}

function numberIn(text: unknown): number | undefined {
  const number = typeof text === 'string' && text !== '' ? Number(text) : text
  return typeof number === 'number' && !Number.isNaN(number) ? number : undefined
}

function read(name: string, value: unknown, kind: Kind): SettingValue {
  const found = READ[kind](typeof value === 'string' ? value.trim() : value, name)
  if (found !== undefined) return found
  throw optionError(value, `the setting \`${name}\` to be ${SPELT[kind] ?? `a ${kind}`}`)
}

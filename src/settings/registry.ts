import type { Backend } from '../backend/backend.js'
import type { CachedValue } from '../backend/cached-value.js'
import { durationSetting } from '../base/duration.js'
import { CorralError } from '../base/errors.js'
import { expectFunction, expectThat, optionError } from '../base/options.js'
import { wrap } from '../chain/wrap.js'
import { readSettingsWith } from '../region/settings-reader.js'
import type { ConfigureOptions } from '../region/types.js'

/** How a setting's text is read. `list` splits at commas. */
export type SettingKind = 'string' | 'number' | 'integer' | 'boolean' | 'duration' | 'list'
type SettingValue = string | number | boolean | readonly string[]
export type Settings = Readonly<Record<string, SettingValue>>

interface Registered<T> {
  readonly make: (options: Settings) => T
  readonly settings: Readonly<Record<string, SettingKind>>
}

// biome-ignore lint/suspicious/noExplicitAny: a registered layer may be of any representation; the chain checks it
type Layer = (next: any) => Backend<any>

const backends = new Map<string, Registered<unknown>>()
const proxies = new Map<string, Registered<Layer>>()

/**
 * Makes a backend known to `configureFromConfig` by a name. `settings` lists the options that may be set, and how their
 * text is read; `make` gets those that were set. A later registration of the same name replaces the former.
 */
export function registerBackend<T>(
  name: string,
  make: (options: Settings) => Backend<T>,
  settings: Readonly<Record<string, SettingKind>> = {},
): void {
  check('registerBackend', name, make)
  readSettingsWith(readSettings)
  backends.set(name, { make, settings })
}

/** Makes a proxy known to `configureFromConfig` by a name, in the same way. */
export function registerProxy(
  name: string,
  make: (options: Settings) => Layer,
  settings: Readonly<Record<string, SettingKind>> = {},
): void {
  check('registerProxy', name, make)
  readSettingsWith(readSettings)
  proxies.set(name, { make, settings })
}

function check(where: string, name: unknown, make: unknown): void {
  expectThat(
    typeof name === 'string' && /^[\w-]+$/.test(name),
    name,
    `the name in ${where}() to be of letters, digits, - and _`,
  )
  expectFunction(make, `the factory in ${where}('${name}')`)
}

/**
 * Options of `configure` from flat settings. Known are, each after `prefix`: `backend`, `backend.<option>`,
 * `proxies` (names from the backend outwards, separated by commas), `proxies.<name>.<option>`, `expiration_time`,
 * `lease.ms`, `lease.wait`, `replace_existing_backend`. Settings without the prefix are not looked at.
 * Case and single underscores do not count, and `__` stands for a dot, so that environment variables can say it all.
 * @throws CorralError `ERR_OPTION` for unknown or unreadable settings, `ERR_UNKNOWN_NAME` for a name never registered.
 */
function readSettings(settings: Readonly<Record<string, unknown>>, prefix: string): ConfigureOptions {
  const left = new Map<string, { readonly name: string; readonly value: unknown }>()
  for (const [name, value] of Object.entries(settings)) {
    if (!name.startsWith(prefix) || value === undefined || value === null) continue
    const canonical = canonicalOf(name.slice(prefix.length))
    const twin = left.get(canonical)
    if (twin !== undefined)
      throw new CorralError(
        'ERR_OPTION',
        `The settings \`${twin.name}\` and \`${name}\` say the same thing. Keep one.`,
      )
    left.set(canonical, { name, value })
  }
  const take = (name: string, kind: SettingKind): SettingValue | undefined => {
    const canonical = canonicalOf(name)
    const found = left.get(canonical)
    left.delete(canonical)
    return found === undefined ? undefined : read(found.name, found.value, kind)
  }
  const takeAll = (group: string, kinds: Readonly<Record<string, SettingKind>>): Settings =>
    Object.fromEntries(
      Object.entries(kinds).flatMap(([option, kind]) => {
        const value = take(`${group}.${option}`, kind)
        return value === undefined ? [] : [[option, value]]
      }),
    )

  const name = take('backend', 'string')
  if (typeof name !== 'string')
    throw new CorralError(
      'ERR_OPTION',
      `Expected the setting \`${prefix}${/[a-z]|^$/.test(prefix) ? 'backend' : 'BACKEND'}\` to name a backend, such as 'memory'. Known: ${known(backends)}.`,
    )
  const chosen = registered(backends, name, 'backend', 'registerBackend')
  const named = (take('proxies', 'list') ?? []) as readonly string[]
  const twice = named.find((proxy, i) => named.indexOf(proxy) !== i)
  if (twice !== undefined)
    throw new CorralError(
      'ERR_OPTION',
      `The proxy '${twice}' is named twice, and settings cannot tell its options apart. Register it under a second name.`,
    )
  const layers = named.map((proxy) => {
    const { make, settings: kinds } = registered(proxies, proxy, 'proxy', 'registerProxy')
    return { make, options: takeAll(`proxies.${proxy}`, kinds) }
  })
  const backendOptions = takeAll('backend', chosen.settings)
  const expirationTime = take('expiration_time', 'duration') as number | undefined
  const ms = take('lease.ms', 'duration') as number | undefined
  const wait = take('lease.wait', 'duration') as number | undefined
  const replace = take('replace_existing_backend', 'boolean') as boolean | undefined
  const [unknown] = left.values()
  if (unknown !== undefined)
    throw new CorralError(
      'ERR_OPTION',
      `Unknown setting \`${unknown.name}\`. Known: backend, backend.{${Object.keys(chosen.settings).join()}}, proxies, proxies.<name>.<option>, expiration_time, lease.ms, lease.wait, replace_existing_backend.`,
    )
  // Everything is read before anything is made: a wrong setting must not leave a connection open.
  let backend = chosen.make(backendOptions) as Backend<CachedValue>
  for (const { make, options } of layers) backend = wrap(backend, make(options)) as Backend<CachedValue>
  return {
    backend,
    ...(expirationTime !== undefined && { expirationTime }),
    ...((ms !== undefined || wait !== undefined) && {
      lease: { ...(ms !== undefined && { ms }), ...(wait !== undefined && { wait }) },
    }),
    ...(replace !== undefined && { replaceExistingBackend: replace }),
  }
}

/** Environment variables know neither dots nor, by custom, small letters: `BACKEND__MAX_ENTRIES` is `backend.maxEntries`. */
function canonicalOf(name: string): string {
  return name.replaceAll('__', '.').replaceAll('_', '').toLowerCase()
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
    `No ${what} is registered as '${name}'. Known: ${known(map)}. Make it known with ${how}('${name}', …) first.`,
  )
}

function known(map: ReadonlyMap<string, unknown>): string {
  return [...map.keys()].join(', ') || 'none yet'
}

const SPELT: Partial<Record<SettingKind, string>> = {
  duration: "a duration with a unit, such as '5m'",
  integer: 'an integer',
}
const TRUE = /^(true|yes|on|1)$/i
const FALSE = /^(false|no|off|0)$/i

function read(name: string, value: unknown, kind: SettingKind): SettingValue {
  const text = typeof value === 'string' ? value.trim() : value
  switch (kind) {
    case 'string':
      if (typeof text === 'string') return text
      break
    case 'list':
      if (typeof text === 'string')
        return text
          .split(',')
          .map((part) => part.trim())
          .filter((part) => part !== '')
      if (Array.isArray(text) && text.every((part) => typeof part === 'string')) return text
      break
    case 'boolean':
      if (typeof text === 'boolean') return text
      if (typeof text === 'string' && TRUE.test(text)) return true
      if (typeof text === 'string' && FALSE.test(text)) return false
      break
    case 'duration':
      if (typeof text === 'string') return durationSetting(text, name)
      break
    default: {
      const number =
        typeof text === 'number' ? text : typeof text === 'string' && text !== '' ? Number(text) : Number.NaN
      if (kind === 'integer' ? Number.isInteger(number) : !Number.isNaN(number)) return number
    }
  }
  throw optionError(value, `the setting \`${name}\` to be ${SPELT[kind] ?? `a ${kind}`}`)
}

import { andThen, type MaybePromise } from '../base/maybe-promise.js'
import {
  checkOptions,
  expectBoolean,
  expectFunction,
  expectText,
  expectThat,
  ownOptions,
  rejectOptions,
} from '../base/options.js'
import { checkWhole } from '../base/parts.js'
import type { IdPart } from '../ledger/names.js'
import { type CheckOptions, makeCheck, VERSION_OPTIONS, type Version } from './version-check.js'
import { openName, readName, register, registered } from './version-names.js'

export interface VersionOptions extends CheckOptions {
  /** Takes the place of a check of the same name: for modules that are loaded again while the process runs. @default false */
  readonly replace?: boolean | undefined
}

/** A version as a dependency: an entry with another version is a miss. */
export interface VersionDependency<A extends readonly IdPart[]> {
  /** The name to declare ahead, in `dependencies` of a cached function: it is read before the function runs. */
  (...parts: A): string
  /** Reads the version now: take it before the data is loaded, and then say dependsOn(it). */
  current(...parts: A): Promise<string>
}

/**
 * A dependency on something that has a version which is cheap to read: `dep.version('schema', () => readVersion())`. Made
 * once, at module level, in every process that reads values which depend on it: where the name is unknown its entries are misses.
 * @param check - reads the version; asked at most once in a session for the same parts
 * @throws CorralError `ERR_OPTION` on an unknown option, or when the name is taken by another check.
 */
export function version<const A extends readonly IdPart[] = []>(
  name: string,
  check: (...parts: A) => MaybePromise<Version>,
  options: VersionOptions = {},
): VersionDependency<A> {
  options = ownOptions(options)
  checkOptions(options, 'dep.version()', { ...VERSION_OPTIONS, replace: expectBoolean })
  expectText(name, 'the name of a version')
  expectFunction(check, `the check of the version '${name}'`)
  if (registered(name) !== undefined && options.replace !== true)
    rejectOptions(
      `The version '${name}' is declared already. Declare it once, at module level, and import it; or say replace: true where modules are loaded again.`,
    )
  const once = makeCheck(`the version '${name}'`, options)
  register(name, (text) => once.current(text, () => check(...(partsOf(text) as unknown as A))))
  const current = (parts: A): MaybePromise<string> => {
    const text = textOfParts(parts)
    return andThen(
      once.current(text, () => check(...parts)),
      (token) => readName(name, text, token),
    )
  }
  return Object.assign((...parts: A) => openName(name, textOfParts(parts)), {
    current: async (...parts: A) => current(parts),
  })
}

/** Parts as text that gives them back, each of its kind. @throws CorralError `ERR_OPTION` for a value that cannot be a part of a name. */
export function textOfParts(parts: readonly unknown[]): string {
  const encoded = checkWhole(parts, () =>
    parts.map((part) => {
      if (typeof part === 'bigint') return { n: String(part) }
      const fits = typeof part === 'string' || Number.isFinite(part)
      expectThat(fits, part, 'the parts of a version to be strings, finite numbers or bigints')
      return part
    }),
  )
  return JSON.stringify(encoded)
}

export function partsOf(text: string): readonly IdPart[] {
  return (JSON.parse(text) as (string | number | { readonly n: string })[]).map((part) =>
    typeof part === 'object' ? BigInt(part.n) : part,
  )
}

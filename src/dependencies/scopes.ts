import { report, warnOnce } from '../base/diagnostics.js'
import { messageOf } from '../base/errors.js'
import { expectAwaited, expectSync } from '../base/expect-sync.js'
import {
  checkOptions,
  didYouMean,
  expectFunction,
  expectMethods,
  expectOneOf,
  expectThat,
  optionError,
  ownOptions,
  rejectOptions,
  rejectUnknownOptions,
} from '../base/options.js'
import { checkWhole, ignoreRejections } from '../base/parts.js'
import { processGlobal } from '../base/process-global.js'
import { UNCACHEABLE } from '../creation/collector.js'
import { type IdPart, name, part, text } from '../ledger/names.js'

/**
 * Values of the fields of a condition.
 * @example
 * ```ts
 * import type { Condition } from 'corral'
 *
 * export const onShelf: Condition<'shelf'> = { shelf: 'novels' }
 * ```
 */
export type Condition<F extends string> = { readonly [field in F]: IdPart | boolean | null }

/**
 * Options of `dep.scopes`.
 * @example
 * ```ts
 * import { dep, type ScopesOptions } from 'corral'
 *
 * const lenient: ScopesOptions = { mode: 'lenient' }
 * export const books = dep.scopes<{ shelf: string }>('book', lenient)
 * ```
 */
export interface ScopesOptions {
  /**
   * `'strict'`: a condition that no extractor describes, or an extractor that fails, is an error. `'lenient'`: it is
   * reported, and the type as a whole stands in for the unknown part. @default 'strict'
   */
  readonly mode?: 'strict' | 'lenient' | undefined
}

/**
 * Options of `describes`.
 * @example
 * ```ts
 * import { dep, type DescribeOptions } from 'corral'
 *
 * const byTitle: DescribeOptions = { watchModified: ['title'] }
 * export const books = dep
 *   .scopes<{ title: string }>('book')
 *   .describes(['initial'], ({ title }) => ({ initial: title.charAt(0) }), byTitle)
 * ```
 */
export interface DescribeOptions {
  /**
   * Fields of the item whose change can change its conditions. Needed if the extractor reads other fields than it returns.
   * @default the described fields
   */
  readonly watchModified?: readonly string[] | undefined
}

/**
 * The known past of an item. If there is none, any list may have had it, so that all lists of the kinds
 * concerned are invalidated.
 * @example
 * ```ts
 * import type { Change } from 'corral'
 *
 * export const moved: Change<{ shelf: string }> = { before: { shelf: 'novels' }, modified: ['shelf'] }
 * ```
 */
export interface Change<T> {
  /** The item before the change, which tells the lists that it leaves; of an item that was deleted, that item. */
  readonly before?: T | null | undefined
  /** The item is new, so that there are no lists that it leaves. @default false */
  readonly created?: boolean | undefined
  /**
   * Names of the fields that changed, of an item that was there: kinds that none of them is watched for are left alone. Of a
   * new item say `created`. @default any of them
   */
  readonly modified?: Iterable<string> | undefined
  /** Passed on to the extractors. */
  readonly info?: unknown
}

/**
 * An object that can invalidate names: a region, or a stand-in for several.
 * @example
 * ```ts
 * import type { Invalidates, Region } from 'corral'
 *
 * export const both = (one: Region, other: Region): Invalidates => ({
 *   async invalidateDependencies(names, mode) {
 *     await Promise.all([one, other].map((region) => region.invalidateDependencies(names, mode)))
 *   },
 * })
 * ```
 */
export interface Invalidates {
  invalidateDependencies(names: string | readonly string[], mode?: 'hard' | 'soft'): Promise<void>
}

/**
 * Lists of a type of items, told apart by conditions. A list depends on its condition; an item that enters, leaves or
 * is deleted invalidates the conditions that it meets.
 * @example
 * ```ts
 * import { dep, type Region } from 'corral'
 *
 * interface Book {
 *   readonly shelf: string
 * }
 * const books = dep.scopes<Book>('book').describes(['shelf'], ({ shelf }) => ({ shelf }))
 * export const names = books.condition({ shelf: 'novels' })
 * export const added = (book: Book, region: Region) => books.invalidateFor(book, region, { created: true })
 * ```
 */
export interface Scopes<T, Described extends string = never> {
  /**
   * Says how to find, for an item, the values of some fields. `undefined` from the extractor: no list of this kind has it.
   * @throws CorralError `ERR_OPTION` for fields that are no list of texts, no extractor, or an unknown option.
   */
  describes<const F extends string>(
    fields: readonly F[],
    extract: (item: T, info: unknown) => Condition<F> | undefined,
    options?: DescribeOptions,
  ): Scopes<T, Described | Signature<F>>
  /**
   * The name that a list by this condition depends on, for `dependencies` or `dependsOn()`. `5`, `'5'` and `5n` are the same value. In
   * lenient mode a condition without a description is reported, and a value that depends on it is not stored.
   * @throws CorralError `ERR_OPTION` for a condition that no extractor describes in strict mode, or for a value that is no plain one.
   */
  condition<const C extends Readonly<Record<string, IdPart | boolean | null>>>(
    condition: C & Known<keyof C & string, Described>,
  ): readonly string[]
  /** Whether lists by exactly these fields are described. */
  isDescribed(fields: readonly string[]): boolean
  /**
   * The names that a change of an item invalidates, of the lists that are described here.
   * @param failed - gets in strict mode the error of an extractor, whose kind as a whole is then among the names; without
   *   it that is thrown
   * @throws CorralError `ERR_OPTION` for a change that cannot be right.
   * @throws the error of an extractor, in strict mode.
   */
  namesFor(item: T, change?: Change<T>, failed?: (error: unknown) => void): readonly string[]
  /**
   * Invalidates the lists that the item enters or leaves. Call it after the change is committed. Say what the item was
   * `before`, or that it was `created`: else all lists of the kinds concerned are invalidated. They are as well where an
   * extractor fails, the others as always, and only then strict mode throws the failure. Kinds that only another `dep.scopes` of
   * the type describes are invalidated as a whole.
   * @throws CorralError `ERR_OPTION` for a change that cannot be right.
   * @throws the error of the invalidation or of an extractor.
   */
  invalidateFor(item: T, region: Invalidates, change?: Change<T>): Promise<void>
}

declare const described: unique symbol
/**
 * A set of fields, as one type: `condition` compiles only for sets that were described, not for a part of one.
 * @example
 * ```ts
 * import type { Scopes, Signature } from 'corral'
 *
 * export type ByShelf<Book> = Scopes<Book, Signature<'shelf'>>
 * ```
 */
export type Signature<F extends string> = { readonly [described]: [F, (field: F) => void] } & string

/** For fields that are known only at run time, the check is at run time too. */
type Known<F extends string, Described> = [Signature<F>] extends [Described]
  ? unknown
  : [Signature<string>] extends [Described]
    ? unknown
    : 'no extractor describes lists by exactly these fields: add describes([…], …)'

interface Description<T> {
  /** Sorted by name. */
  readonly fields: readonly string[]
  readonly watched: ReadonlySet<string>
  readonly extract: (item: T, info: unknown) => Values | undefined
}

type Values = Readonly<Record<string, unknown>>

/** The kinds of lists that any declaration of a type describes, by the name of the type, each with the fields watched for it. */
const kindsOfTypes = processGlobal('kinds of lists', () => new Map<string, Map<string, Set<string>>>())

/**
 * Declares the lists of a type. A list depends on its condition, and on the kind of the condition. The kind is invalidated
 * if the lists concerned are unknown: an extractor failed, or the caller did not pass the item as it was before.
 * @throws CorralError `ERR_OPTION` on an unknown option.
 */
export function scopes<T>(type: string, options: ScopesOptions = {}): Scopes<T> {
  options = ownOptions(options)
  checkOptions(options, 'dep.scopes()', {
    mode: (value, subject) => expectOneOf(value, subject, ['strict', 'lenient']),
  })
  const { mode = 'strict' } = options
  const names = namesOfType(type)
  const descriptions: Description<T>[] = []
  const known = new Set<string>()
  const kinds = kindsOfTypes.get(names.kind([])) ?? new Map<string, Set<string>>()
  kindsOfTypes.set(names.kind([]), kinds)
  const survey = surveying({ type, mode, names, descriptions })

  const self = {
    describes(fields: readonly string[], extract: Description<T>['extract'], options: DescribeOptions = {}) {
      rejectUnknownOptions(options, ['watchModified'], 'describes()')
      const sorted = [...checkTexts('fields', fields)].sort()
      const { watchModified = sorted } = options
      const watched = new Set(checkTexts('watchModified', watchModified))
      expectFunction(extract, 'the extractor of describes()')
      const kind = names.kind(sorted)
      known.add(kind)
      kinds.set(kind, new Set([...watched, ...(kinds.get(kind) ?? [])]))
      descriptions.push({ fields: sorted, watched, extract })
      return self
    },
    condition(condition: Values) {
      const fits = typeof condition === 'object' && condition !== null
      expectThat(fits, condition, `a condition of '${type}' to be an object of fields and values`)
      const fields = Object.keys(condition).sort()
      const kind = names.kind(fields)
      if (known.has(kind)) return [kind, names.condition(fields, condition)]
      ignoreRejections(condition)
      const message = `No extractor describes lists of '${type}' by ${fields.join(', ') || 'no field, which are lists of all'}: they would never be invalidated. Add describes([${fields.map((field) => `'${field}'`).join(', ')}], …).`
      if (mode === 'strict') rejectOptions(message)
      warnOnce(`condition ${kind}`, () => message)
      return [UNCACHEABLE]
    },
    isDescribed: (fields: readonly string[]) =>
      known.has(names.kind([...checkTexts('fields', fields)].sort())),
    namesFor(item: T, change?: Change<T>, failed?: (error: unknown) => void) {
      const { invalid, failures } = survey(item, change)
      if (failures.length > 0 && failed === undefined) throw failures[0]
      for (const failure of failures) failed?.(failure)
      return invalid
    },
    async invalidateFor(item: T, region: Invalidates, change?: Change<T>) {
      const expected = `invalidateFor(item, region) of '${type}' to receive a region`
      expectMethods(region, ['invalidateDependencies'], expected)
      const { invalid, failures, isConcerned } = survey(item, change)
      // As kinds: the extractors of another declaration may expect items of another shape.
      for (const [kind, watched] of kinds) if (!known.has(kind) && isConcerned(watched)) invalid.push(kind)
      if (invalid.length > 0) await region.invalidateDependencies(invalid)
      // The change is committed: invalidate the known names before any caller learns of the failures.
      if (failures.length > 0) throw failures[0]
    },
  }
  return self as unknown as Scopes<T>
}

/** The names of the lists of a type: those of a kind, which have the same fields, and the one of a condition. */
function namesOfType(type: string) {
  const typeText = text('type', type)
  const fieldText = (field: string) => part('field', field)
  return {
    kind: (fields: readonly string[]) => name('scopes', [typeText, ...fields.map(fieldText)]),
    condition(fields: readonly string[], values: Values): string {
      const pairs = checkWhole(values, () =>
        fields.map((field) => {
          const named = fieldText(field).replaceAll('=', '\\=')
          return `${named}=${valueText(field, values[field])}`
        }),
      )
      return name('scope', [typeText, ...pairs])
    },
  }
}

/** All that a change invalidates, the kind as a whole for an extractor that failed; in strict mode also its error. */
function surveying<T>({ type, mode, names, descriptions }: Lists<T>) {
  return (item: T, change: Change<T> = {}) => {
    const { images, changed: given } = checkChange(type, item, change)
    const invalid = new Set<string>()
    const failures: unknown[] = []
    const misspelt = given && misspeltOf(given, descriptions, [item, change.before])
    if (misspelt !== undefined) {
      const error = optionError(misspelt.name, `names of fields in \`modified\` of '${type}'`, misspelt.hint)
      if (mode === 'strict') failures.push(error)
      else report('failure', () => ({ where: 'modified', key: type, error }))
    }
    // A misspelt name may stand for any field.
    const changed = misspelt === undefined ? given : undefined
    const isConcerned = (watched: ReadonlySet<string>) =>
      changed === undefined || [...changed].some((field) => watched.has(field))
    for (const { fields, watched, extract } of descriptions) {
      if (!isConcerned(watched)) continue
      if (images === undefined) invalid.add(names.kind(fields))
      for (const image of images ?? [])
        try {
          const values = expectSync(`an extractor of '${type}'`, extract(image, change.info))
          if (values === undefined || values === null) continue
          checkWhole(values, () => expectFields(type, fields, Object.keys(values).sort()))
          invalid.add(names.condition(fields, values))
        } catch (error) {
          invalid.add(names.kind(fields))
          if (mode === 'strict') failures.push(error)
          else reportExtractor(type, names.kind(fields), fields, error)
        }
    }
    return { invalid: [...invalid], failures, isConcerned }
  }
}

/**
 * A name that is nearly that of a field that lists are about, and is none that the item has. Another unknown name may be that of
 * a field that no list is about.
 */
function misspeltOf(
  given: ReadonlySet<string>,
  descriptions: readonly Description<never>[],
  images: readonly unknown[],
): { readonly name: string; readonly hint: string } | undefined {
  const watched = new Set(descriptions.flatMap((one) => [...one.watched]))
  for (const name of given) {
    if (watched.has(name) || images.some((image) => Object(image) === image && name in (image as object)))
      continue
    const hint = didYouMean(name, [...watched])
    if (hint !== '') return { name, hint: hint.trimEnd() }
  }
  return undefined
}

interface Lists<T> {
  readonly type: string
  readonly mode: ScopesOptions['mode']
  readonly names: ReturnType<typeof namesOfType>
  readonly descriptions: readonly Description<T>[]
}

function expectFields(type: string, fields: readonly string[], found: readonly string[]): void {
  if (found.join('\0') === fields.join('\0')) return
  const [expected, got] = [fields, found].map((list) => list.join(', ') || '(none)')
  rejectOptions(`Expected the extractor of '${type}' to return the fields ${expected}, got ${got}.`)
}

function reportExtractor(type: string, kind: string, fields: readonly string[], error: unknown): void {
  report('failure', () => ({ where: 'extractor', key: kind, error }))
  warnOnce(`extractor ${kind}`, () => {
    // Any thrown value: one that cannot be formatted must not stop the invalidation of the lists.
    const cause = messageOf(error)
    return `An extractor of '${type}' failed, so all lists by ${fields.join(', ') || '(nothing)'} are invalidated: ${cause}`
  })
}

/**
 * The content of a change: the images of the item whose lists are concerned, nothing where its past is not known; and the
 * names of the fields that matter, nothing where all do.
 * @throws CorralError `ERR_OPTION` for a change that cannot be right: it would silently invalidate too little.
 */
export function checkChange<T>(type: string, item: T, change: Change<T>) {
  rejectUnknownOptions(change, ['before', 'created', 'modified', 'info'], `a change of '${type}'`)
  const { before = null, created = false, modified } = change
  const changed = modified === undefined ? undefined : new Set(checkTexts('modified', modified))
  expectOneOf(created, '`created`', [true, false])
  expectAwaited(`an item of '${type}'`, item)
  expectAwaited(`\`before\` of a change of '${type}' to be an item`, before)
  if (created && before !== null)
    rejectOptions(
      `Expected either \`before\` or \`created\` of a change of '${type}', got both: created: true says that there was none.`,
    )
  if (created) return { images: [item] }
  return { images: before === null ? undefined : new Set([before, item]), changed }
}

/** A list, or anything else to go through, of texts: a text by itself would be read letter by letter. */
function checkTexts(option: string, list: unknown): readonly string[] {
  if (typeof list === 'object' && list !== null && Symbol.iterator in list) {
    const texts = [...(list as Iterable<unknown>)]
    if (texts.every((one): one is string => typeof one === 'string')) return texts
  }
  throw optionError(list, `\`${option}\` to be a list of field names`)
}

/**
 * `5`, `'5'` and `5n` are one value, as in `dep.id`: a condition often comes from a URL and an item from a database. A
 * quote is before it, so no string can pretend to be a boolean or null.
 */
function valueText(field: string, value: unknown): string {
  if (value === null) return 'null'
  if (typeof value === 'boolean') return String(value)
  if (typeof value === 'string' || typeof value === 'number' || typeof value === 'bigint')
    return `'${part(`value of '${field}'`, value)}`
  throw optionError(
    value,
    `'${field}' of a condition, or of the fields that an extractor returns, to be a string, number, bigint, boolean or null`,
  )
}

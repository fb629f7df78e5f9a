import { report, warnOnce } from '../base/diagnostics.js'
import { CorralError, formatValue } from '../base/errors.js'
import { expectSync } from '../base/expect-sync.js'
import {
  expectFunction,
  expectOneOf,
  expectThat,
  optionError,
  rejectUnknownOptions,
} from '../base/options.js'
import { UNCACHEABLE } from '../creation/collector.js'
import { type IdPart, name, part, text } from '../ledger/names.js'

/** Values of the fields of a condition. */
export type Condition<F extends string> = { readonly [field in F]: IdPart | boolean | null }

export interface ScopesOptions {
  /**
   * `'strict'`: a condition that nobody describes, or an extractor that fails, is an error. `'lenient'`: it is reported, and
   * the type as a whole stands in for the unknown part. @default 'strict'
   */
  readonly mode?: 'strict' | 'lenient'
}

export interface DescribeOptions {
  /**
   * Fields of the item whose change makes its scopes worth a look, for an extractor that reads others than it answers.
   * @default the described fields
   */
  readonly watchModified?: readonly string[]
}

/**
 * The known past of an item. If there is none, any list may have had it, so that all lists of the kinds
 * concerned are invalidated.
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

/** An object that can invalidate names: a region, or a stand-in for several. */
export interface Invalidates {
  invalidateDependencies(names: string | readonly string[], mode?: 'hard' | 'soft'): Promise<void>
}

/**
 * Lists of a type of items, told apart by conditions. A list depends on its condition; an item that enters, leaves or
 * is deleted invalidates the conditions that it meets.
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
   * @throws CorralError `ERR_OPTION` for a condition that nobody describes in strict mode, or for a value that is no plain one.
   */
  condition<const C extends Readonly<Record<string, IdPart | boolean | null>>>(
    condition: C & Known<keyof C & string, Described>,
  ): readonly string[]
  /**
   * The names that a change of an item invalidates.
   * @param failed - gets in strict mode the error of an extractor, whose kind as a whole is then among the names; without
   *   it that is thrown
   * @throws CorralError `ERR_OPTION` for a change that cannot be right.
   * @throws the error of an extractor, in strict mode.
   */
  namesFor(item: T, change?: Change<T>, failed?: (error: unknown) => void): readonly string[]
  /**
   * Invalidates the lists that the item enters or leaves. Call it after the change is committed. Say what the item was
   * `before`, or that it was `created`: else all lists of the kinds concerned are invalidated. They are as well where an
   * extractor fails, the others as always, and only then strict mode throws the failure.
   * @throws CorralError `ERR_OPTION` for a change that cannot be right.
   * @throws the error of the invalidation or of an extractor.
   */
  invalidateFor(item: T, region: Invalidates, change?: Change<T>): Promise<void>
}

declare const described: unique symbol
/** A set of fields, as one type: `condition` compiles only for sets that were described, not for a part of one. */
export type Signature<F extends string> = { readonly [described]: [F, (field: F) => void] } & string

/** For fields that are known only at run time, the check is at run time too. */
type Known<F extends string, Described> = [Signature<F>] extends [Described]
  ? unknown
  : [Signature<string>] extends [Described]
    ? unknown
    : 'no extractor describes lists by exactly these fields: add describes([…], …)'

interface Description<T> {
  readonly fields: readonly string[]
  readonly watched: ReadonlySet<string>
  readonly extract: (item: T, info: unknown) => Readonly<Record<string, unknown>> | undefined
}

/**
 * Declares the lists of a type. A list depends on its condition, and on the kind of the condition. The kind is invalidated
 * if the lists concerned are unknown: an extractor failed, or the caller did not pass the item as it was before.
 * @throws CorralError `ERR_OPTION` on an unknown option.
 */
export function scopes<T>(type: string, options: ScopesOptions = {}): Scopes<T> {
  rejectUnknownOptions(options, ['mode'], 'dep.scopes()')
  const { mode = 'strict' } = options
  expectOneOf(mode, '`mode`', ['strict', 'lenient'])
  const typeText = text('type', type)
  const descriptions: Description<T>[] = []
  const known = new Set<string>()

  const kindName = (fields: readonly string[]): string =>
    name('scopes', [typeText, ...fields.map((field) => part('field', field))])
  const conditionName = (fields: readonly string[], values: Readonly<Record<string, unknown>>): string =>
    name('scope', [
      typeText,
      ...fields.map(
        (field) => `${part('field', field).replaceAll('=', '\\=')}=${valueText(field, values[field])}`,
      ),
    ])

  /** The name that one image of the item has by one description, or nothing. */
  const look = ({ fields, extract }: Description<T>, item: T, info: unknown): string | undefined => {
    const values = expectSync(`an extractor of '${type}'`, extract(item, info))
    if (values === undefined || values === null) return undefined
    const found = Object.keys(values).sort()
    if (found.join('\0') === fields.join('\0')) return conditionName(fields, values)
    throw new CorralError(
      'ERR_OPTION',
      `Expected the extractor of '${type}' to answer the fields ${fields.join(', ') || '(none)'}, got ${found.join(', ') || '(none)'}.`,
    )
  }

  /** All that a change invalidates, the kind as a whole for an extractor that failed; in strict mode also its error. */
  const survey = (item: T, change: Change<T> = {}) => {
    const { info } = change
    const { images, changed } = checkChange(type, item, change)
    const names = new Set<string>()
    const failures: unknown[] = []
    for (const description of descriptions) {
      const { fields, watched } = description
      if (changed !== undefined && !intersects(watched, changed)) continue
      if (images === undefined) names.add(kindName(fields))
      for (const image of images ?? [])
        try {
          const found = look(description, image, info)
          if (found !== undefined) names.add(found)
        } catch (error) {
          const kind = kindName(fields)
          names.add(kind)
          if (mode === 'strict') failures.push(error)
          else {
            report('failure', () => ({ where: 'extractor', key: kind, error }))
            warnOnce(
              `extractor ${kind}`,
              () =>
                // Any thrown value: one that cannot be formatted must not stop the invalidation of the lists.
                `An extractor of '${type}' failed, so all lists by ${fields.join(', ') || '(nothing)'} are invalidated: ${error instanceof Error ? error.message : formatValue(error)}`,
            )
          }
        }
    }
    return { names: [...names], failures }
  }

  const self = {
    describes(fields: readonly string[], extract: Description<T>['extract'], options: DescribeOptions = {}) {
      rejectUnknownOptions(options, ['watchModified'], 'describes()')
      const sorted = [...checkTexts('fields', fields)].sort()
      const { watchModified = sorted } = options
      const watched = new Set(checkTexts('watchModified', watchModified))
      expectFunction(extract, 'the extractor of describes()')
      known.add(kindName(sorted))
      descriptions.push({ fields: sorted, watched, extract })
      return self
    },
    condition(condition: Readonly<Record<string, unknown>>) {
      expectThat(
        typeof condition === 'object' && condition !== null,
        condition,
        `a condition of '${type}' to be an object of fields and values`,
      )
      const fields = Object.keys(condition).sort()
      if (known.has(kindName(fields))) return [kindName(fields), conditionName(fields, condition)]
      const message = `No extractor describes lists of '${type}' by ${fields.join(', ') || 'no field, which are lists of all'}: they would never be invalidated. Add describes([${fields.map((field) => `'${field}'`).join(', ')}], …).`
      if (mode === 'strict') throw new CorralError('ERR_OPTION', message)
      warnOnce(`condition ${kindName(fields)}`, () => message)
      return [UNCACHEABLE]
    },
    namesFor(item: T, change?: Change<T>, failed?: (error: unknown) => void) {
      const { names, failures } = survey(item, change)
      if (failures.length > 0 && failed === undefined) throw failures[0]
      for (const failure of failures) failed?.(failure)
      return names
    },
    async invalidateFor(item: T, region: Invalidates, change?: Change<T>) {
      expectThat(
        typeof region?.invalidateDependencies === 'function',
        region,
        `invalidateFor(item, region) of '${type}' to receive a region`,
      )
      const { names, failures } = survey(item, change)
      if (names.length > 0) await region.invalidateDependencies(names)
      // The change is committed: invalidate the known names before any caller learns of the failures.
      if (failures.length > 0) throw failures[0]
    },
  }
  return self as unknown as Scopes<T>
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
  if (created && before !== null)
    throw new CorralError(
      'ERR_OPTION',
      `Expected either \`before\` or \`created\` of a change of '${type}', got both: created: true says that there was none.`,
    )
  if (created) return { images: [item] }
  return { images: before === null ? undefined : new Set([before, item]), changed }
}

function intersects(one: ReadonlySet<string>, other: ReadonlySet<string>): boolean {
  for (const value of other) if (one.has(value)) return true
  return false
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

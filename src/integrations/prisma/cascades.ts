/**
 * The models whose rows the database changes with an operation of Prisma, by the rules of foreign keys. The client has the text of its
 * schema. What it knows of the models at run time has no rules.
 */
import { effectOf } from '../orm/cascades.js'

/** A relation whose columns are in the table of `from`. */
interface ForeignKey {
  readonly from: string
  readonly to: string
  /** The field of the relation. */
  readonly name: string
  readonly fields: readonly string[]
  readonly references: readonly string[]
  readonly onDelete: string
  readonly onUpdate: string
}

export interface OperationArgs {
  readonly where?: unknown
  readonly data?: unknown
  readonly create?: unknown
  readonly update?: unknown
}

/** The models whose rows go or change with those of an operation. */
export type Cascades = (model: string, operation: string, args: OperationArgs) => ReadonlySet<string>

/** What an operation itself changes: models of which it deletes rows, and columns that it sets, as `model.column`. */
interface Changed {
  readonly deleted: Set<string>
  readonly columns: Set<string>
}

/**
 * @param schema - its text; `undefined` if the client has none: then no cascade is known
 * @param targetOf - the model that a field of a model leads to; `undefined` for a column
 */
export function cascadesIn(
  schema: string | undefined,
  targetOf: (model: string, field: string) => string | undefined,
): Cascades {
  const keys = foreignKeysIn(schema ?? '')
  const set = (changed: Changed, model: string, rows: unknown, isNew: boolean): void => {
    for (const row of [rows].flat())
      for (const [name, value] of entries(row)) {
        const target = targetOf(model, name)
        // Nothing refers to a new row by now.
        if (target !== undefined) nested(changed, { model, name, target, isNew }, value)
        else if (!isNew) changed.columns.add(`${model}.${name}`)
      }
  }
  const nested = (
    changed: Changed,
    { model, name, target, isNew }: { model: string; name: string; target: string; isNew: boolean },
    writes: unknown,
  ): void => {
    for (const key of keys) {
      const isOwn = key.from === model && key.name === name && !isNew
      if (isOwn || (key.from === target && key.to === model)) addColumns(changed, key)
    }
    for (const [write, given] of entries(writes)) {
      if (write.startsWith('delete')) changed.deleted.add(target)
      for (const one of [given].flat()) {
        const { data, create, update } = Object.fromEntries(entries(one)) as OperationArgs
        // The data of an update of one row may stand alone.
        if (write.startsWith('update')) for (const row of [data, one]) set(changed, target, row, false)
        if (write === 'upsert') set(changed, target, update, false)
        if (write.startsWith('create')) for (const row of [data, one]) set(changed, target, row, true)
        if (write === 'upsert' || write === 'connectOrCreate') set(changed, target, create, true)
      }
    }
  }
  return (model, operation, { data, create, update }) => {
    const changed: Changed = { deleted: new Set(), columns: new Set() }
    if (operation.startsWith('delete')) changed.deleted.add(model)
    set(changed, model, data, operation.startsWith('create'))
    set(changed, model, create, true)
    set(changed, model, update, false)
    return followersOf(keys, changed)
  }
}

/** The models that follow changes, through cascades of any depth. */
function followersOf(keys: readonly ForeignKey[], changed: Changed): ReadonlySet<string> {
  const models = new Set<string>()
  // Sets that grow are walked to their ends.
  for (const model of changed.deleted)
    for (const key of keys) {
      const effect = effectOf(key.onDelete)
      if (key.to !== model || effect === undefined) continue
      models.add(key.from)
      if (effect.passesOn) changed.deleted.add(key.from)
      else addColumns(changed, key)
    }
  for (const column of changed.columns)
    for (const key of keys) {
      const isFollowed = key.references.some((one) => `${key.to}.${one}` === column)
      if (!isFollowed || effectOf(key.onUpdate) === undefined) continue
      models.add(key.from)
      addColumns(changed, key)
    }
  return models
}

function addColumns({ columns }: Changed, { from, fields }: ForeignKey): void {
  for (const field of fields) columns.add(`${from}.${field}`)
}

/** Of names and defaults: they may have brackets in them. */
const TEXT = /"(?:[^"\\\n]|\\.)*"/g
const MODEL = /^\s*model\s+([\p{L}\p{N}_]+)\s*\{(.*?)^\s*\}/gmsu
const RELATION =
  /^[ \t]*([\p{L}\p{N}_]+)[ \t]+([\p{L}\p{N}_]+)[ \t]*(\?)?[^\n]*?@relation[ \t]*\(([^)]*)\)/gmu

/** The foreign keys of a schema, with the rules that they have by default. */
function foreignKeysIn(schema: string): readonly ForeignKey[] {
  const relations = Array.from(schema.replace(TEXT, '""').matchAll(MODEL), ([, from = '', body = '']) =>
    Array.from(body.matchAll(RELATION), ([, name = '', to = '', optional, given = '']): ForeignKey => {
      const listed = (argument: string): readonly string[] =>
        new RegExp(`\\b${argument}\\s*:\\s*\\[([^\\]]*)\\]`).exec(given)?.[1]?.match(/[\p{L}\p{N}_]+/gu) ?? []
      const rule = (argument: string): string | undefined =>
        new RegExp(`\\b${argument}\\s*:\\s*(\\w+)`).exec(given)?.[1]?.replace(/^Set/, 'Set ')
      return {
        ...{ from, to, name, fields: listed('fields'), references: listed('references') },
        onDelete: rule('onDelete') ?? (optional === undefined ? 'Restrict' : 'Set Null'),
        onUpdate: rule('onUpdate') ?? 'Cascade',
      }
    }),
  )
  return relations.flat().filter(({ fields }) => fields.length > 0)
}

const entries = (object: unknown): readonly (readonly [string, unknown])[] =>
  typeof object === 'object' && object !== null ? Object.entries(object) : []

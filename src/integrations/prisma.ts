/**
 * Caches over a Prisma client. Prisma has no events of commits, so an extension of the client runs its `$transaction` as a unit of
 * work, and tells of each operation once it is done.
 */
import { expectMethods } from '../base/options.js'
import type { OpenTransaction } from '../signals/transactions.js'
import { type RowCache, type RowInvalidation, rowInvalidation, type StatementOptions } from './orm/rows.js'
import { inTransaction, runStatement, written } from './orm/units.js'
import { type Cascades, cascadesIn, type OperationArgs } from './prisma/cascades.js'

export type { EntityLists } from './orm/core.js'
export type { RowCache, RowChange, RowOptions, RowRelations, StatementOptions } from './orm/rows.js'

/**
 * A client of Prisma.
 * @example
 * ```ts
 * import type { PrismaCache, PrismaHost } from 'corral/integrations/prisma'
 *
 * export const watched = <C extends PrismaHost>(database: PrismaCache, client: C): C => database.extend(client)
 * ```
 */
export interface PrismaHost {
  $extends: unknown
  $transaction: unknown
}

/**
 * Caches over the rows of a Prisma client.
 * @example
 * ```ts
 * import type { PrismaCache, PrismaHost } from 'corral/integrations/prisma'
 *
 * export const watched = <C extends PrismaHost>(database: PrismaCache, client: C): C => database.extend(client)
 * ```
 */
export interface PrismaCache extends RowCache {
  /**
   * The client to use from now on: after each of its operations, or after the commit of its `$transaction`, it invalidates. Cached functions
   * inside a `$transaction` store nothing.
   */
  extend<C extends PrismaHost>(client: C): C
}

/**
 * After each operation or commit of a Prisma client, invalidates the values that depend on the rows which it changed: those with a
 * key in the result or in `where`, else all of the model, as after `updateMany`; in both cases all lists of the model, for Prisma tells of
 * no former row. A nested write concerns all of the models that it leads to, and a rule of a foreign key in the schema all of the models
 * whose rows it changes. Nothing tells of raw SQL: call `invalidate`.
 * @param options - `tables` has the names of models
 * @example
 * ```ts
 * import type { Region } from 'corral'
 * import { type PrismaHost, prismaCache } from 'corral/integrations/prisma'
 *
 * export function connect<C extends PrismaHost>(client: C, pages: Region): C {
 *   return prismaCache({ regions: pages, tables: { Article: 'id', OrderLine: ['order', 'line'] } }).extend(client)
 * }
 * ```
 * @throws CorralError `ERR_OPTION` for options that cannot be right
 */
export function prismaCache(options: StatementOptions): PrismaCache {
  const rows = rowInvalidation(options, 'prismaCache()', true)
  const { dependenciesOf, changed, invalidate } = rows
  return {
    ...{ dependenciesOf, changed, invalidate },
    extend<C extends PrismaHost>(client: C): C {
      expectMethods(client, ['$extends', '$transaction'], 'extend() to get a client of Prisma')
      return extended(client as unknown as Client, rows) as unknown as C
    },
  }
}

interface Client {
  $extends(extension: object): Client
  $transaction(work: unknown, ...more: readonly unknown[]): Promise<unknown>
  /** Absent where Prisma keeps it elsewhere: then a nested write concerns all models. */
  readonly _runtimeDataModel?: { readonly models?: Models }
  /** Absent where Prisma keeps it elsewhere: then no cascade is known. */
  readonly _engineConfig?: { readonly inlineSchema?: string }
}

type Models = Readonly<Record<string, { readonly fields: readonly Field[] } | undefined>>
interface Field {
  readonly name: string
  readonly kind: string
  readonly type: string
}

interface Operation {
  readonly model?: string | undefined
  readonly operation: string
  readonly args: unknown
  query(args: unknown): Promise<unknown>
  /** Absent where Prisma has it no more. */
  readonly __internalParams?: {
    readonly transaction?: { readonly id?: unknown; readonly kind?: unknown } | undefined
  }
}

function extended(client: Client, rows: RowInvalidation): Client {
  const schema = schemaOf(client)
  /** The transactions whose work is under way, by the ids that Prisma gives them. */
  const transactions = new Map<unknown, OpenTransaction>()
  const watched = client.$extends({
    query: {
      // Of all models, and of raw SQL, which has none.
      async $allOperations({ model, operation, args, query, __internalParams: internal }: Operation) {
        const isWrite = model !== undefined && WRITES.test(operation)
        if (!isWrite) tellRead(rows, schema.models, { model, operation, args })
        const own = internal?.transaction
        // The operations of a list are in none of these.
        const result = await runStatement(
          transactions.get(own?.id),
          () => query(args),
          async () => {
            if (isWrite) await tellOthers(rows, schema, { model, operation, args }, [model])
          },
        )
        if (model === undefined) rows.raw(textOf(args))
        if (!isWrite) return result
        const invalidate = () => tell(rows, schema, { model, operation, args }, result)
        // The caller may be in another transaction by now, or have lost its context.
        const open = transactions.get(own?.id)
        const isKnown = open !== undefined || own === undefined
        await (isKnown ? written(open, invalidate) : invalidate())
        return result
      },
    },
  })
  // Its own transactions pass on clients that are watched, too.
  return watched.$extends({
    client: {
      $transaction(work: unknown, ...more: readonly unknown[]) {
        if (typeof work === 'function')
          return inTransaction(
            (inner) => watched.$transaction(inner, ...more),
            async (own: unknown, open) => {
              const id = idOf(own)
              if (id !== undefined) transactions.set(id, open)
              try {
                return await (work as (own: unknown) => unknown)(own)
              } finally {
                transactions.delete(id)
              }
            },
          )
        // The operations of a list run in the call, and their end is that of the list.
        return inTransaction<void, unknown>(
          (worked) => watched.$transaction(work, ...more).then((result) => worked().then(() => result)),
          () => undefined,
          { endsBeforeCommit: false },
        )
      },
    },
  })
}

/** The text of a statement in raw SQL: of a template, or of a call with a text and its values. */
function textOf(args: unknown): string {
  const { sql } = (args ?? {}) as { readonly sql?: unknown }
  return String(sql ?? [args].flat()[0])
}

const [SCOPE, ID] = ['scope_context', 'id'].map((name) =>
  Symbol.for(`prisma.client.transaction.${name}`),
) as [symbol, symbol]

/** The id of the transaction that a client is of, as its operations tell it. Absent where Prisma keeps it elsewhere. */
function idOf(client: unknown): unknown {
  const of = client as Readonly<Record<symbol, unknown>>
  return (of[SCOPE] as { readonly txId?: unknown } | undefined)?.txId ?? of[ID]
}

/** A write changes rows, and returns them. */
function tellRead(
  rows: RowInvalidation,
  models: Models | undefined,
  { model, operation, args }: Omit<Operation, 'query'>,
): void {
  if (model === undefined) {
    rows.read(undefined)
    return
  }
  const nested = new Set<string>()
  if (models !== undefined) nestedModels(models, model, args, nested)
  else for (const table of Object.values(args ?? {}).some(hasObject) ? rows.tables : []) nested.add(table)
  const { where } = (args ?? {}) as OperationArgs
  const isOne = operation.startsWith('findUnique') && rows.isKeyed(model, where)
  rows.read([model], isOne ? where : undefined)
  rows.read([...nested])
}

const WRITES = /^(?:create|update|upsert|delete)/

interface Write {
  readonly model: string
  readonly operation: string
  readonly args: unknown
}

async function tell(rows: RowInvalidation, schema: Schema, write: Write, result: unknown): Promise<void> {
  const { model, operation } = write
  const { where, data, update } = (write.args ?? {}) as OperationArgs
  const changesKey = [data, update].some((one) => rows.columnsOf(model)?.some((column) => isIn(column, one)))
  // A relation may be a part of a key, too. The former key is in `where` or nowhere.
  const isMoved = changesKey || (nestedOf(rows, schema, write).size > 0 && !rows.isKeyed(model, where))
  const isCreation = operation.startsWith('create')
  const known = Array.isArray(result) ? result : [result, where].filter((one) => rows.isKeyed(model, one))
  const areAll = Array.isArray(result) || known.length > 0
  await rows.written([model], known, areAll && (isCreation || !isMoved))
  await tellOthers(rows, schema, write)
}

/** Tells of all rows of models: of those that an operation leads to, and that the database changes with it. */
async function tellOthers(
  rows: RowInvalidation,
  schema: Schema,
  write: Write,
  models: readonly string[] = [],
): Promise<void> {
  const cascades = schema.cascades(write.model, write.operation, (write.args ?? {}) as OperationArgs)
  for (const one of new Set([...models, ...nestedOf(rows, schema, write), ...cascades]))
    await rows.written([one], [], false)
}

/** The models that an operation changes rows of beside its own. */
function nestedOf(rows: RowInvalidation, { models }: Schema, { model, args }: Write): ReadonlySet<string> {
  const { data, create, update } = (args ?? {}) as OperationArgs
  const nested = new Set<string>()
  for (const one of [data, create, update])
    if (models !== undefined) nestedModels(models, model, one, nested)
    else if (hasObject(one)) for (const table of rows.tables) nested.add(table)
  return nested
}

const isObject = (value: unknown): value is object => typeof value === 'object' && value !== null
const isIn = (column: string, data: unknown): boolean => isObject(data) && column in data
const hasObject = (data: unknown): boolean => isObject(data) && Object.values(data).some(isObject)

interface Schema {
  readonly models: Models | undefined
  readonly cascades: Cascades
}

function schemaOf({ _runtimeDataModel, _engineConfig }: Client): Schema {
  const models = _runtimeDataModel?.models
  const cascades = cascadesIn(_engineConfig?.inlineSchema, (model, field) => targetOf(models, model, field))
  return { models, cascades }
}

/** The model that a field leads to. */
function targetOf(models: Models | undefined, model: string, name: string): string | undefined {
  const field = models?.[model]?.fields.find((one) => one.name === name)
  return field?.kind === 'object' ? field.type : undefined
}

/** The models that nested writes lead to. Conditions inside of them lead to some more. */
function nestedModels(models: Models, model: string, data: unknown, found: Set<string>): void {
  if (!isObject(data)) return
  for (const [name, value] of Object.entries(data)) {
    const target = targetOf(models, model, name)
    if (target !== undefined) found.add(target)
    nestedModels(models, target ?? model, value, found)
  }
}

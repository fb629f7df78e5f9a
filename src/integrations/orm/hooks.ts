/** Methods of an ORM's classes that are replaced, where its objects have no other place in common. */

type Method = (...args: unknown[]) => unknown
/** Runs around a method of an object. */
export type Around<T> = (self: T, args: readonly unknown[], run: Method) => unknown
export type Hooks<T> = Readonly<Record<string, Around<T>>>

/** The hooks of each database: objects of other databases have the same classes. */
const hooksOf = new WeakMap<object, readonly Hooks<never>[]>()
const replaced = new WeakMap<object, Set<string>>()

/**
 * Hooks methods of a class for the objects of one database. Returns a function that ends it: the methods stay replaced, and do what they
 * did.
 * @param sample - an object of the class
 * @param databaseOf - the database that an object belongs to
 */
export function hookMethods<T extends object>(
  sample: T,
  databaseOf: (self: T) => object | undefined,
  hooks: Hooks<T>,
): () => void {
  const database = databaseOf(sample) as object
  hooksOf.set(database, [...(hooksOf.get(database) ?? []), hooks])
  for (const name of Object.keys(hooks)) replace(sample, databaseOf, name)
  return () => {
    const left = (hooksOf.get(database) ?? []).filter((one) => one !== hooks)
    hooksOf.set(database, left)
  }
}

function replace<T extends object>(
  sample: T,
  databaseOf: (self: T) => object | undefined,
  name: string,
): void {
  const owner = ownerOf(sample, name)
  if (owner === undefined) return
  const names = replaced.get(owner) ?? new Set()
  if (names.has(name)) return
  replaced.set(owner, names.add(name))
  const method = Reflect.get(owner, name) as Method
  const around = function (this: T, ...args: unknown[]): unknown {
    const database = databaseOf(this)
    const hooks = (database && (hooksOf.get(database) as readonly Hooks<T>[] | undefined)) ?? []
    const run = hooks.reduce<Method>(
      (inner, { [name]: hook }) => (hook === undefined ? inner : (...given) => hook(this, given, inner)),
      (...given) => method.apply(this, given),
    )
    return run(...args)
  }
  Object.defineProperty(owner, name, { value: around, writable: true, configurable: true })
}

/** The prototype that a method is defined in. */
function ownerOf(sample: object, name: string): object | undefined {
  let owner = Object.getPrototypeOf(sample) as object | null
  while (owner !== null && !Object.hasOwn(owner, name)) owner = Object.getPrototypeOf(owner) as object | null
  return owner ?? undefined
}

/** Methods of MikroORM's managers that are replaced: forks and the managers of transactions have no other place in common. */
import type { Manager } from './host.js'

type Method = (...args: unknown[]) => unknown
/** Runs around a method of a manager. */
export type Around = (em: Manager, args: readonly unknown[], run: (...args: unknown[]) => unknown) => unknown
export type ManagerHooks = Readonly<Record<string, Around>>

/** The hooks of each database, by its driver: managers of other databases have the same class. */
const hooksOf = new WeakMap<object, ManagerHooks[]>()
const replaced = new WeakMap<object, Set<string>>()

/** Returns a function that ends it. The methods stay replaced, and do what they did. */
export function hookManagers(em: Manager, hooks: ManagerHooks): () => void {
  const driver = em.getDriver()
  const all = hooksOf.get(driver) ?? []
  hooksOf.set(driver, [...all, hooks])
  for (const name of Object.keys(hooks)) replace(em, name)
  return () => {
    const left = (hooksOf.get(driver) ?? []).filter((one) => one !== hooks)
    hooksOf.set(driver, left)
  }
}

function replace(em: Manager, name: string): void {
  const owner = ownerOf(em, name)
  if (owner === undefined) return
  const names = replaced.get(owner) ?? new Set()
  if (names.has(name)) return
  replaced.set(owner, names.add(name))
  const method = Reflect.get(owner, name) as Method
  const around = function (this: Manager, ...args: unknown[]): unknown {
    const hooks = hooksOf.get(this.getDriver()) ?? []
    const run = hooks.reduce<Method>(
      (inner, { [name]: hook }) => (hook === undefined ? inner : (...given) => hook(this, given, inner)),
      (...given) => method.apply(this, given),
    )
    return run(...args)
  }
  Object.defineProperty(owner, name, { value: around, writable: true, configurable: true })
}

/** The prototype that a method is defined in. */
function ownerOf(em: object, name: string): object | undefined {
  let owner: object | null = Object.getPrototypeOf(em) as object | null
  while (owner !== null && !Object.hasOwn(owner, name)) owner = Object.getPrototypeOf(owner) as object | null
  return owner ?? undefined
}

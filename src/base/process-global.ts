/** The version of the shared state; a copy with another version has separate state. */
const FORMAT = 2

/**
 * The state that all copies of the package in this process share: its ESM and its CJS build, or two installations of it. A creation
 * of one runs code that was written for the other. The state consists of plain data, closures, and classes of Node.
 */
export function processGlobal<T extends object>(name: string, make: () => T): T {
  const key = Symbol.for(`corral.${name}.${FORMAT}`)
  const all = globalThis as { [key: symbol]: T | undefined }
  return (all[key] ??= make())
}

/** Makes one thing for each object, which all copies of the package in this process share. */
export function onePerObject<K extends object, T>(name: string, make: (object: K) => T): (object: K) => T {
  const made = processGlobal(name, () => new WeakMap<K, T>())
  return (object) => {
    if (!made.has(object)) made.set(object, make(object))
    return made.get(object) as T
  }
}

/** The version of the shared state; a copy with another version has separate state. */
const FORMAT = 3

const PLACE = Symbol.for(`corral.${FORMAT}`)

/**
 * The state that all copies of the package in this process share: its ESM and its CJS build, or two installations of it. A creation
 * of one runs code that was written for the other. The state consists of plain data, closures, and classes of Node. It hangs
 * on `process` and not on `globalThis`, whose new members some test runners report as leaks.
 */
export function processGlobal<T extends object>(name: string, make: () => T): T {
  const shared = process as { [PLACE]?: Record<string, object | undefined> }
  if (shared[PLACE] === undefined) Object.defineProperty(shared, PLACE, { value: Object.create(null) })
  const all = shared[PLACE] as Record<string, T | undefined>
  return (all[name] ??= make())
}

/** Makes one thing for each object, which all copies of the package in this process share. */
export function onePerObject<K extends object, T>(name: string, make: (object: K) => T): (object: K) => T {
  const made = processGlobal(name, () => new WeakMap<K, T>())
  return (object) => {
    if (!made.has(object)) made.set(object, make(object))
    return made.get(object) as T
  }
}

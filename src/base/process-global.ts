/** Of what is kept; a copy that keeps it otherwise has its own. */
const FORMAT = 2

/**
 * What all copies of the package in this process share: its ESM and its CJS build, or two installations of it. A creation
 * of one runs code that was written for the other. What is shared is plain data, closures, and classes of Node.
 */
export function processGlobal<T extends object>(name: string, make: () => T): T {
  const key = Symbol.for(`corral.${name}.${FORMAT}`)
  const all = globalThis as { [key: symbol]: T | undefined }
  return (all[key] ??= make())
}

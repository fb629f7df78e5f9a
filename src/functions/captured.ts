import type { Arguments } from '../base/any-function.js'
import { copyPlain } from '../base/parts.js'
import { processGlobal } from '../base/process-global.js'

/**
 * Key generators whose keys tell all of their arguments, which are therefore data through and through; and whether such keys
 * tell functions apart by the namespace alone. All copies of the package know them.
 */
const whole = processGlobal('key generators', () => new WeakMap<object, { readonly byNamespace: boolean }>())

/** Declares that the keys of a generator tell all of the arguments. */
export function tellsAll<G extends object>(generator: G, byNamespace = true): G {
  whole.set(generator, { byNamespace })
  return generator
}

/** Whether the keys of a generator tell all of the arguments: its calls run with copies. */
export function keysTellAll(generator: object): boolean {
  return whole.has(generator)
}

/** Whether the keys of a generator tell functions apart by their namespaces. One of the application may know another way. */
export function isByNamespace(generator: object): boolean {
  return whole.get(generator)?.byNamespace === true
}

/** Whether a caller can change arguments after the call: one of them is no plain value. */
export function areChangeable(args: Arguments): boolean {
  for (const one of args) if (Object(one) === one) return true
  return false
}

/**
 * The arguments as they are at the call: a caller may use an object again for its next call before the function runs for this
 * one. Only arguments of a generator that tells all are copied, because they are dates, arrays and plain objects. The
 * identity of others may matter to the function.
 */
export function capturing(generator: object): (args: Arguments) => Arguments {
  return whole.has(generator) ? (args) => (areChangeable(args) ? copyPlain(args) : args) : (args) => args
}

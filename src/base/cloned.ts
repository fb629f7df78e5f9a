import { CorralError } from './errors.js'
import { MAX_DEPTH, shortPath } from './nesting.js'
import { prototypeHere } from './realms.js'

/**
 * A deep copy of data, in which everything is of this realm and shared parts stay shared. Unlike `structuredClone` it keeps
 * Buffers, and refuses values that would become something else, such as an instance of a class or a URL.
 * @param standInOf - what takes the place of a part instead of its copy, if anything does
 * @throws CorralError `ERR_UNENCODABLE` naming the part
 */
export function cloned<T>(value: T, standInOf?: StandInOf): T {
  return new Copy(standInOf).of(value) as T
}

type StandInOf = (part: object) => object | undefined

type Maker = new (...args: readonly unknown[]) => object
type Fill = (copy: Copy, from: never, into: never) => void

/** The classes that are copied: an empty copy first, because a part may refer back to it, and then its parts. */
const CLASSES = new Map<object | null, readonly [empty: (from: never) => object, fill?: Fill]>([
  [Object.prototype, [() => ({}), fillObject]],
  [null, [() => Object.create(null) as object, fillObject]],
  [Array.prototype, [({ length }: readonly unknown[]) => new Array<unknown>(length), fillObject]],
  [Map.prototype, [() => new Map(), fillMap]],
  [Set.prototype, [() => new Set(), fillSet]],
  [Date.prototype, [(from: Date) => new Date(Number(from))]],
  [RegExp.prototype, [(from: RegExp) => new RegExp(from)]],
  [Buffer.prototype, [(from: Buffer) => Buffer.from(from)]],
  [ArrayBuffer.prototype, [(from: ArrayBuffer) => new Uint8Array(new Uint8Array(from)).buffer]],
  [DataView.prototype, [copyOfView]],
  ...[Error, EvalError, RangeError, ReferenceError, SyntaxError, TypeError, URIError].map(
    (Kind): [object, readonly [(from: never) => object, Fill]] => [
      Kind.prototype,
      [(from: Error) => new Kind(from.message), fillError],
    ],
  ),
  ...[Int8Array, Uint8Array, Uint8ClampedArray, Int16Array, Uint16Array, Int32Array, Uint32Array]
    .concat([Float32Array, Float64Array, BigInt64Array, BigUint64Array] as never)
    .map((Kind): [object, readonly [(from: never) => object]] => [
      Kind.prototype,
      [(from: object) => new (Kind as unknown as Maker)(from)],
    ]),
])

class Copy {
  readonly #copies = new Map<object, object>()
  readonly #path: string[] = []
  readonly #standInOf: StandInOf | undefined

  constructor(standInOf?: StandInOf) {
    this.#standInOf = standInOf
  }

  of(part: unknown): unknown {
    if (typeof part === 'function' || typeof part === 'symbol') throw this.#refusal(`a ${typeof part}`)
    if (typeof part !== 'object' || part === null) return part
    const known = this.#copies.get(part)
    if (known !== undefined) return known
    const standIn = this.#standInOf?.(part)
    if (standIn !== undefined) {
      this.#copies.set(part, standIn)
      return standIn
    }
    const prototype = prototypeHere(part)
    const way = CLASSES.get(prototype)
    if (way === undefined || Array.isArray(part) !== (prototype === Array.prototype))
      throw this.#refusal(
        `an instance of ${(prototype?.constructor as Maker | undefined)?.name || 'a nameless class'}`,
      )
    if (this.#path.length > MAX_DEPTH) throw this.#refusal(`objects nested deeper than ${MAX_DEPTH}`)
    const [empty, fill] = way
    const into = empty(part as never)
    this.#copies.set(part, into)
    fill?.(this, part as never, into as never)
    return into
  }

  /** The copy of a part, whose place messages name. */
  at(kind: string, name: unknown, part: unknown): unknown {
    if (typeof part !== 'object' && typeof part !== 'function' && typeof part !== 'symbol') return part
    this.#path.push(kind === '.' ? `.${String(name)}` : `${kind}(${String(name)})`)
    const copy = this.of(part)
    this.#path.pop()
    return copy
  }

  #refusal(what: string): CorralError {
    return new CorralError(
      'ERR_UNENCODABLE',
      `Expected a value that can be cloned, as copy: 'clone' says, got ${what} at \`${shortPath(`value${this.#path.join('')}`)}\`. Store plain data, or share the object: copy: 'share'.`,
    )
  }
}

/** By its keys, also an array: it may have holes, and be 2^32 long. */
function fillObject(copy: Copy, from: Record<string, unknown>, into: object): void {
  for (const key of Object.keys(from)) {
    const value = copy.at('.', key, from[key])
    if (key === '__proto__')
      Object.defineProperty(into, key, { value, writable: true, enumerable: true, configurable: true })
    else (into as Record<string, unknown>)[key] = value
  }
}

function fillMap(copy: Copy, from: Map<unknown, unknown>, into: Map<unknown, unknown>): void {
  for (const [key, part] of from) into.set(copy.at('.keys', '', key), copy.at('.get', key, part))
}

function fillSet(copy: Copy, from: Set<unknown>, into: Set<unknown>): void {
  for (const part of from) into.add(copy.at('.values', '', part))
}

function fillError(copy: Copy, from: Error, into: Error): void {
  Object.defineProperty(into, 'stack', { value: from.stack, writable: true, configurable: true })
  if ('cause' in from)
    Object.defineProperty(into, 'cause', {
      value: copy.at('.', 'cause', from.cause),
      writable: true,
      configurable: true,
    })
  fillObject(copy, from as unknown as Record<string, unknown>, into)
}

function copyOfView({ buffer, byteOffset, byteLength }: DataView): DataView {
  return new DataView(new Uint8Array(new Uint8Array(buffer, byteOffset, byteLength)).buffer)
}

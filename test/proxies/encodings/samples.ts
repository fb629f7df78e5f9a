import { runInNewContext } from 'node:vm'

/** A kind of value that an encoding may or may not keep. */
export interface Sample {
  readonly name: string
  readonly value: unknown
  /** The value that comes back. @default value */
  readonly here?: unknown
  /** A check beyond the comparison of parts. */
  readonly also?: (found: never) => boolean
  /** Properties that no encoding takes for data: they are left out silently. */
  readonly tolerated?: true
}

class Point {
  x = 1
}
class Shouting extends Map {}
class Failure extends Error {}

const shared = { a: 1 }
const cycle: Record<string, unknown> = { a: 1 }
cycle.self = cycle

/** Made by hand so that no machine's path stands in a documented stack. */
function error(make: () => Error): Error {
  const made = make()
  made.stack = `${made.name}: ${made.message}`
  return made
}

export const SAMPLES: readonly Sample[] = [
  { name: '`undefined`, the whole payload', value: undefined },
  { name: '`undefined`, a property', value: { a: undefined } },
  { name: '`undefined`, an element', value: [undefined] },
  { name: 'a hole in an array', value: Object.assign(Array(3), { 0: 1, 2: 3 }) },
  { name: '−0', value: -0 },
  { name: 'NaN', value: Number.NaN },
  { name: 'Infinity, −Infinity', value: [Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY] },
  { name: 'bigint', value: 5n },
  { name: 'bigint beyond 64 bits', value: -(2n ** 200n) },
  { name: 'text with half a surrogate pair', value: 'a\ud800b' },
  { name: 'Date', value: new Date(Date.UTC(2026, 10, 21, 12, 0, 0, 7)) },
  { name: 'an invalid Date', value: new Date(Number.NaN) },
  {
    name: 'Map',
    value: new Map<unknown, unknown>([
      ['a', 1],
      [{ key: 1 }, 2],
    ]),
  },
  { name: 'Set', value: new Set(['a', 1]) },
  {
    name: 'a Date, a Map and a Set of another realm, such as a `vm` context',
    value: runInNewContext('[new Date(7), new Map([["a", 1]]), new Set([1])]'),
    here: [new Date(7), new Map([['a', 1]]), new Set([1])],
  },
  { name: 'Buffer', value: Buffer.from('abc') },
  { name: 'Uint8Array', value: Uint8Array.of(1, 2) },
  { name: 'Uint8ClampedArray', value: Uint8ClampedArray.of(1, 2) },
  { name: 'Int8Array', value: Int8Array.of(1, -2) },
  { name: 'Int16Array, Uint16Array', value: [Int16Array.of(1, -2), Uint16Array.of(1, 2)] },
  { name: 'Int32Array, Uint32Array', value: [Int32Array.of(1, -2), Uint32Array.of(1, 2)] },
  { name: 'Float32Array, Float64Array', value: [Float32Array.of(0.5, -0), Float64Array.of(0.1, Number.NaN)] },
  { name: 'BigInt64Array, BigUint64Array', value: [BigInt64Array.of(-5n), BigUint64Array.of(5n)] },
  { name: 'ArrayBuffer', value: Uint8Array.of(1, 2).buffer },
  { name: 'DataView', value: new DataView(Uint8Array.of(1, 2).buffer) },
  { name: 'SharedArrayBuffer', value: new SharedArrayBuffer(2) },
  { name: 'RegExp', value: /a+/gi },
  { name: 'Error with a cause', value: error(() => new TypeError('no', { cause: 5 })) },
  {
    name: 'Error with a property of its own',
    value: Object.assign(
      error(() => new Error('no')),
      { code: 'E1' },
    ),
  },
  { name: 'Error of a class of yours', value: error(() => new Failure('no')) },
  { name: 'URL', value: new URL('http://example.com/') },
  { name: 'an instance of your class', value: new Point() },
  { name: 'an instance of a class that extends Map', value: new Shouting().set('a', 1) },
  { name: 'a boxed number', value: Object(5) },
  { name: 'a promise', value: Promise.resolve(5) },
  { name: 'a function', value: { f() {} } },
  { name: 'a symbol', value: { s: Symbol('s') } },
  { name: 'a cycle', value: cycle },
  { name: 'one object in two places', value: [shared, shared], tolerated: true },
  { name: 'an own key `__proto__`', value: JSON.parse('{"__proto__":{"admin":true}}') },
  {
    name: 'an own key `constructor`, `toJSON`, `hasOwnProperty`',
    value: { constructor: 1, toJSON: 2, hasOwnProperty: 3 },
  },
  {
    name: 'an object without a prototype',
    value: Object.assign(Object.create(null), { a: 1 }),
    tolerated: true,
  },
  {
    name: 'a property whose key is a symbol',
    value: { a: 1, [Symbol('s')]: 2 },
    also: (found: object) => Object.getOwnPropertySymbols(found).length > 0,
    tolerated: true,
  },
  {
    name: 'a property that is not enumerable',
    value: Object.defineProperty({ a: 1 }, 'b', { value: 2 }),
    also: (found: { b?: number }) => found.b === 2,
    tolerated: true,
  },
  {
    name: 'a getter, as its result',
    value: {
      get a() {
        return 1
      },
    },
  },
  {
    name: 'an own property of an array',
    value: Object.assign([1], { index: 0 }),
    also: (found: { index?: number }) => found.index === 0,
    tolerated: true,
  },
  {
    name: 'a frozen object, frozen',
    value: Object.freeze({ a: 1 }),
    also: (found: object) => Object.isFrozen(found),
    tolerated: true,
  },
]

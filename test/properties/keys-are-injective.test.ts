import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { functionKeyGenerator, type KeyPart, optionsKeyGenerator } from '../../src/index.js'

const part: fc.Arbitrary<KeyPart> = fc.letrec<{ part: KeyPart }>((tie) => ({
  part: fc.oneof(
    { maxDepth: 3, depthSize: 'small' },
    fc.string({ unit: 'binary', maxLength: 5 }),
    fc.constantFrom('1', 'null', 'true', '1n', '@1', '[1]', '-0', ',', '|', '"', '\\', '\ud800', '{"a":1}'),
    fc.integer({ min: -3, max: 3 }),
    fc.double(),
    fc.bigInt({ min: -3n, max: 3n }),
    fc.boolean(),
    fc.constant(null),
    fc.constant(undefined),
    fc.date({ noInvalidDate: true }),
    fc.array(tie('part'), { maxLength: 3 }),
    fc.dictionary(fc.string({ maxLength: 2 }), tie('part'), { maxKeys: 3 }),
  ),
})).part

/** The difference of two argument lists, in another notation than the generator's. */
function identity(value: unknown): unknown {
  if (Array.isArray(value)) return ['array', ...value.map(identity)]
  if (value instanceof Date) return ['date', value.getTime()]
  if (typeof value === 'object' && value !== null)
    return [
      'object',
      ...Object.entries(value)
        .sort(([one], [other]) => (one < other ? -1 : 1))
        .map(([name, field]) => [name, identity(field)]),
    ]
  return [typeof value, Object.is(value, -0) ? '-0' : String(value)]
}

function trimmed(args: readonly unknown[]): readonly unknown[] {
  let length = args.length
  while (length > 0 && args[length - 1] === undefined) length--
  return args.slice(0, length)
}

const namespace = fc.oneof(
  fc.string({ minLength: 1, maxLength: 3 }),
  fc.constantFrom('a', 'a|', 'a\\', '|', 'a|1', 'a\\|1'),
)
const call = fc.tuple(namespace, fc.array(part, { maxLength: 3 }))
const keyOf = ([space, args]: readonly [string, readonly unknown[]]) =>
  functionKeyGenerator(space, () => undefined)(...args)

describe('the default key generator', () => {
  it('makes the same key exactly for the same namespace and arguments', () => {
    fc.assert(
      fc.property(call, call, (one, other) => {
        const alike =
          JSON.stringify([one[0], identity(trimmed(one[1]))]) ===
          JSON.stringify([other[0], identity(trimmed(other[1]))])
        return alike === (keyOf(one) === keyOf(other))
      }),
      { numRuns: 20_000 },
    )
  })

  it('distinguishes arguments that look alike', () => {
    const lists: unknown[][] = [
      ['a b', 'c'],
      ['a', 'b c'],
      ['a,b'],
      ['a', 'b'],
      [['a', 'b']],
      [1],
      ['1'],
      [1n],
      [true],
      ['true'],
      [null],
      ['null'],
      [undefined, 1],
      [-0],
      [0],
      [Number.NaN],
      ['NaN'],
      [new Date(1)],
      ['@1'],
      [{ a: 1 }],
      ['{"a":1}'],
      [{ a: undefined }],
      [{}],
      [[]],
      [[undefined]],
      [],
    ]
    expect(new Set(lists.map((args) => keyOf(['ns', args]))).size).toBe(lists.length)
    expect(keyOf(['a|1', []])).not.toBe(keyOf(['a', [1]]))
  })
})

describe('the generator for one object of options', () => {
  it('never lets two names share a key, as joined values would', () => {
    const keyFor = optionsKeyGenerator({ defaults: { page: 1 } })('list', () => undefined)
    expect(keyFor({ a: 1, y: 3 })).not.toBe(keyFor({ a: 1, z: 3 }))
    expect(keyFor({ b: 2, a: 1 })).toBe(keyFor({ a: 1, b: 2 }))
    expect(keyFor({ a: 1 })).toBe(keyFor({ a: 1, page: 1, z: undefined }))
    expect(keyFor({ a: 1 })).not.toBe(keyFor({ a: 1, page: 2 }))
    expect(keyFor()).toBe(keyFor({}))
  })
})

import fc from 'fast-check'

/** The parts from which the values of an encoding are drawn. */
export interface Ingredients {
  readonly scalars: fc.Arbitrary<unknown>
  readonly collections: boolean
  readonly cycles: boolean
}

const text = fc.oneof(
  fc.string({ unit: 'binary', maxLength: 40 }),
  fc.string({ maxLength: 30 }),
  fc.string({ unit: 'grapheme', maxLength: 200 }),
  fc.string({ minLength: 200, maxLength: 9000 }),
  fc.constantFrom('__proto__', '__proto_', '-0', 'constructor', '\u0000', '\u2028', '\ufffd', 'Rc"x'),
)

const numbers = fc.oneof(
  fc.integer(),
  fc.double({ noNaN: true, noDefaultInfinity: true }),
  fc.constantFrom(
    0,
    -0,
    63,
    64,
    127,
    128,
    255,
    256,
    65535,
    65536,
    2 ** 31,
    2 ** 32,
    2 ** 53,
    -32,
    -33,
    -128,
    -129,
    -32769,
    -(2 ** 31) - 1,
    5e-324,
  ),
)

export const plainScalars = fc.oneof(text, numbers, fc.boolean(), fc.constant(null))

const bytes = fc.uint8Array({ maxLength: 80 })

export const richScalars: fc.Arbitrary<unknown> = fc.oneof(
  { weight: 6, arbitrary: plainScalars },
  fc.constantFrom(undefined, Number.NaN, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY),
  fc.bigInt(),
  fc.bigInt({ min: -(2n ** 66n), max: 2n ** 66n }),
  fc.date({ noInvalidDate: false }),
  bytes,
  bytes.map((part) => Buffer.from(part)),
  bytes.map((part) => part.slice().buffer),
  bytes.map((part) => new DataView(part.slice().buffer)),
  fc.float64Array({ maxLength: 9 }),
  fc.float32Array({ maxLength: 9 }),
  fc.uint16Array({ maxLength: 9 }),
  fc.int32Array({ maxLength: 9 }),
  fc.bigInt64Array({ maxLength: 9 }),
)

const key = fc.oneof(
  fc.string({ maxLength: 6 }),
  fc.string({ unit: 'grapheme', maxLength: 12 }),
  fc.constantFrom('id', 'name', 'constructor', 'toJSON', 'hasOwnProperty', 'length', '1', '22', '', 'a b'),
)

const WEIGHTS = { object: 4, array: 2, map: 1, set: 1 }
type Kind = keyof typeof WEIGHTS

interface Recipe {
  readonly kind: Kind
  readonly parts: readonly (readonly [key: string, part: { value: unknown } | { node: number }])[]
}

/** Graphs of objects: trees where there are no cycles, else with parts that are shared and that lead back. */
export function graphs({ scalars, collections, cycles }: Ingredients): fc.Arbitrary<unknown> {
  const kinds: Kind[] = collections ? ['object', 'array', 'map', 'set'] : ['object', 'array']
  const part = fc.oneof(
    { weight: 3, arbitrary: scalars.map((value) => ({ value })) },
    { weight: 2, arbitrary: fc.nat().map((node) => ({ node })) },
  )
  const recipe = fc.record({
    kind: fc.oneof(...kinds.map((kind) => ({ weight: WEIGHTS[kind], arbitrary: fc.constant(kind) }))),
    parts: fc.array(fc.tuple(key, part), { maxLength: 8 }),
  })
  return fc.oneof(
    { weight: 1, arbitrary: scalars },
    {
      weight: 9,
      arbitrary: fc.array(recipe, { minLength: 1, maxLength: 12 }).map((recipes) => build(recipes, cycles)),
    },
  )
}

const EMPTY: Record<Kind, () => object> = {
  object: () => ({}),
  array: () => [],
  map: () => new Map(),
  set: () => new Set(),
}

function build(recipes: readonly Recipe[], cycles: boolean): object {
  const nodes = recipes.map(({ kind }) => EMPTY[kind]())
  let fresh = 1
  recipes.forEach(({ parts }, i) => {
    for (const [name, part] of parts) {
      if ('value' in part) add(nodes[i] as object, name, part.value)
      else if (cycles) add(nodes[i] as object, name, nodes[part.node % nodes.length])
      else if (fresh < nodes.length && fresh > i) add(nodes[i] as object, name, nodes[fresh++])
    }
  })
  return nodes[0] as object
}

function add(node: object, name: string, part: unknown): void {
  if (Array.isArray(node)) node.push(part)
  else if (node instanceof Map) node.set(name.length % 3 === 0 ? part : name, part)
  else if (node instanceof Set) node.add(part)
  else if (name !== '__proto__') Object.assign(node, { [name]: part })
}

import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { LONG } from '../../support/long.js'
import { graphs, plainScalars, richScalars } from './arbitrary.js'
import { benchOf, ENCODINGS, learnShapes } from './chains.js'
import { difference } from './same.js'

const RUNS = LONG ? 100_000 : 2000

/** Without a prototype is read back with one; the table of fidelity says so. */
const PLAIN = { noNullPrototype: true }

const plain = graphs({ scalars: plainScalars, collections: false, cycles: false })
const rich = graphs({ scalars: richScalars, collections: true, cycles: true })

describe.each(Object.entries(ENCODINGS))('%s', (name, make) => {
  it('returns the value that was stored, types, −0 and shared parts included', () => {
    const bench = benchOf(make())
    fc.assert(
      fc.property(name === 'json()' ? plain : rich, (payload) => {
        expect(difference(payload, bench.back(payload)?.payload)).toBeUndefined()
      }),
      { numRuns: RUNS },
    )
  }, 600_000)

  it('keeps a payload that is undefined or null', () => {
    const bench = benchOf(make())
    expect(bench.back(undefined)).toMatchObject({ payload: undefined })
    expect(bench.back(null)).toMatchObject({ payload: null })
  })

  it('keeps a key `__proto_` beside the text `__proto__`', () => {
    const payload = {
      id: [{ __proto_: 0 }, ['__proto__']],
      name: 'x__proto__y',
      child: { __proto_: '__proto__' },
    }
    expect(difference(payload, benchOf(make()).back(payload)?.payload)).toBeUndefined()
  })

  it('keeps large values: beyond every size of header, and of a slab', () => {
    const bench = benchOf(make())
    const payload = {
      text: 'é'.repeat(70_000),
      list: Array.from({ length: 70_000 }, (_, i) => i),
      wide: Object.fromEntries(Array.from({ length: 2000 }, (_, i) => [`field ${i}`, i])),
      rows: Array.from({ length: 3000 }, (_, i) => ({ [`kind${i % 90}`]: i, name: `row ${i}`, zero: -0 })),
    }
    expect(difference(payload, bench.back(payload)?.payload)).toBeUndefined()
  })
})

describe("msgpack({ profile: 'records' }) with a table", () => {
  it('gives back values with the known shapes, with others, and with both', async () => {
    const bench = benchOf(ENCODINGS["msgpack({ profile: 'records' })"]?.() as never)
    const known = { id: 1, name: 'x', child: { id: 2, tags: ['a'] } }
    await learnShapes(bench, known)
    const values = fc.oneof(
      fc.record(
        {
          id: fc.integer(),
          name: fc.string(),
          child: fc.record({ id: richScalars, tags: fc.array(fc.string()) }, PLAIN),
        },
        PLAIN,
      ),
      rich.map((other) => ({ id: other, name: 5, child: { id: known, tags: other } })),
    )
    fc.assert(
      fc.property(values, (payload) => {
        expect(difference(payload, bench.back(payload)?.payload)).toBeUndefined()
      }),
      { numRuns: RUNS },
    )
  }, 600_000)
})

import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { memory } from '../../../backends/memory/index.js'
import type { CachedValue, Metadata } from '../../../src/backend/cached-value.js'

const times = fc.oneof(
  fc.integer({ min: Date.now() - 1e9, max: Date.now() + 1e9 }),
  fc.integer({ min: Date.now() - 1e9, max: Date.now() + 1e9 }).map((ms) => ms + 2 ** -10),
  fc.double(),
  fc.constantFrom(0, -0, 1, 0.3, Number.NaN, Number.POSITIVE_INFINITY, 2 ** 53),
)
const names = fc.array(fc.constantFrom('region:a', 'region:b', 'tag:a', 'tag:b', ''), { maxLength: 4 })
const snapshot = fc.record(
  {
    epoch: fc.constantFrom('one', 'other'),
    groups: fc.array(fc.record({ asOf: fc.nat(3), names }, { noNullPrototype: true }), { maxLength: 2 }),
    versions: names,
  },
  { requiredKeys: ['epoch', 'groups'], noNullPrototype: true },
)
const metadata: fc.Arbitrary<Metadata> = fc.record(
  {
    startedAt: times,
    createdAt: times,
    expiresIn: times,
    snapshot,
    stale: fc.boolean(),
    untracked: fc.boolean(),
  },
  { requiredKeys: ['startedAt', 'createdAt'], noNullPrototype: true },
)

describe('an entry in memory', () => {
  it('comes back as it was, whatever was stored before it', () => {
    const store = memory()
    fc.assert(
      fc.property(fc.array(metadata, { minLength: 1, maxLength: 5 }), (list) => {
        const entries: CachedValue[] = list.map((one, i) => ({ payload: { i }, metadata: one }))
        for (const [i, entry] of entries.entries()) expect(store.set(`${i}`, entry, {})).toBe('stored')
        for (const [i, entry] of entries.entries()) {
          const found = store.get(`${i}`) as CachedValue
          expect(found).toStrictEqual(entry)
          expect(found.payload).toBe(entry.payload)
        }
      }),
      { numRuns: 1_000 },
    )
  })

  it('that a foreign writer left comes back itself, with its other parts', () => {
    const store = memory()
    const times = { startedAt: 1, createdAt: 1 }
    for (const odd of [
      { payload: 1, metadata: { ...times, more: 1 } },
      { payload: 1, metadata: times, more: 1 },
      { payload: 1, metadata: { startedAt: 1 } },
      { metadata: times },
      { payload: 1, metadata: { ...times, snapshot: { epoch: 'e', groups: 'none' } } },
      { payload: 1, metadata: { ...times, snapshot: { epoch: 'e', groups: [{ asOf: 1, names: [5] }] } } },
      'text',
      null,
    ]) {
      expect(store.set('odd', odd as never, {})).toBe('stored')
      expect(store.get('odd')).toEqual(odd)
    }
  })
})

import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { type Bounded, type BoundedOptions, bounded } from '../../../backends/memory/s3fifo.js'
import { turn } from '../../support/waiting.js'

setFlagsFromString('--expose-gc')
const collectGarbage = runInNewContext('gc') as () => void

const UNLIMITED = { maxEntries: Infinity, maxWeight: Infinity }
const entries = (maxEntries: number) => bounded<number>({ maxEntries, maxWeight: Infinity })
const bytes = (maxWeight: number) => bounded<number>({ maxEntries: Infinity, maxWeight })

/** Reads a key as a cache does: a missing key is set. Returns whether it was there. */
function read(store: Bounded<number>, key: string): boolean {
  if (store.get(key) !== undefined) return true
  store.set(key, 1, Infinity, 1)
  return false
}

/** One of 5,000 keys, some much more often than others. */
function skewed(i: number): number {
  return Math.floor(5_000 * ((i * 0.618_034) % 1) ** 3)
}

function heapInMegabytes(): number {
  collectGarbage()
  return process.memoryUsage().heapUsed / 2 ** 20
}

type Limits = Pick<BoundedOptions, 'maxEntries' | 'maxWeight'>

type Operation =
  | { readonly do: 'get' | 'peek' | 'delete'; readonly key: string }
  | { readonly do: 'set'; readonly key: string; readonly lifetime: number; readonly weight: number }
  | { readonly do: 'sweep'; readonly passed: number; readonly limit: number }

function operation(keys: number): fc.Arbitrary<Operation> {
  const key = fc.nat(keys).map((n) => (n === 0 ? '__proto__' : `k${n}`))
  const lifetime = fc.constantFrom(5, 50, Infinity)
  const limit = fc.integer({ min: 1, max: 5 })
  return fc.oneof(
    { weight: 4, arbitrary: fc.record({ do: fc.constant('get' as const), key }) },
    { weight: 1, arbitrary: fc.record({ do: fc.constant('peek' as const), key }) },
    {
      weight: 6,
      arbitrary: fc.record({ do: fc.constant('set' as const), key, lifetime, weight: fc.nat(8) }),
    },
    { weight: 1, arbitrary: fc.record({ do: fc.constant('delete' as const), key }) },
    { weight: 1, arbitrary: fc.record({ do: fc.constant('sweep' as const), passed: fc.nat(20), limit }) },
  )
}

const limits = (...counts: number[]): fc.Arbitrary<Limits> =>
  fc.constantFrom(
    UNLIMITED,
    ...counts.map((maxEntries) => ({ maxEntries, maxWeight: Infinity })),
    ...counts.map((count) => ({ maxEntries: Infinity, maxWeight: count * 3 })),
    ...counts.map((maxEntries) => ({ maxEntries, maxWeight: maxEntries * 3 })),
  )

/** Runs the operations on a store and on a plain map, which loses the keys that the store reports as evicted. */
function compare({ maxEntries, maxWeight }: Limits, operations: readonly Operation[]): void {
  const model = new Map<string, { value: number; expiresAt: number; weight: number }>()
  let now = 0
  let expired = 0
  const onEvict = (key: string, reason: 'evicted' | 'expired'): void => {
    const entry = model.get(key)
    expect(entry).toBeDefined()
    if (reason === 'expired') {
      expect(entry?.expiresAt).toBeLessThanOrEqual(now)
      expired++
    } else {
      // With the entry being set the model is over a limit, or nothing would have had to go.
      const weight = [...model.values()].reduce((sum, { weight }) => sum + weight, 0)
      expect(model.size > maxEntries || weight > maxWeight).toBe(true)
    }
    model.delete(key)
  }
  const store = bounded<number>({ maxEntries, maxWeight, onEvict })
  for (const [value, step] of operations.entries()) {
    if (step.do === 'set') {
      const { key, weight } = step
      const expiresAt = now + step.lifetime
      const fits = weight <= maxWeight
      if (fits) model.set(key, { value, expiresAt, weight })
      else model.delete(key)
      expect(store.set(key, value, expiresAt, weight)).toBe(fits)
      expect(store.peek(key)?.value).toBe(fits ? value : undefined)
    } else if (step.do === 'sweep') {
      now += step.passed
      expired = 0
      const freed = store.sweep(now, step.limit)
      expect(freed).toBe(expired)
      expect(freed).toBeLessThanOrEqual(step.limit)
    } else if (step.do === 'delete') expect(store.delete(step.key)).toBe(model.delete(step.key))
    else {
      const entry = store[step.do](step.key)
      expect(entry?.value).toBe(model.get(step.key)?.value)
      expect(entry === undefined || entry.key === step.key).toBe(true)
    }
    expect(store.size).toBe(model.size)
    expect(store.size).toBeLessThanOrEqual(maxEntries)
    expect(store.weight).toBeLessThanOrEqual(maxWeight)
  }
  const held = [...store.entries()]
  expect(
    new Map(held.map(({ key, value, expiresAt, weight }) => [key, { value, expiresAt, weight }])),
  ).toEqual(model)
  expect(held.length).toBe(model.size)
  expect(store.weight).toBe(held.reduce((sum, { weight }) => sum + weight, 0))
}

describe('the bounded store', () => {
  it('holds exactly the entries that were set and not deleted, evicted or swept, within its limits', () => {
    const operations = fc.array(operation(12), { maxLength: 200 })
    fc.assert(fc.property(limits(1, 2, 5, 10), operations, compare), { numRuns: 500 })
  })

  it('still does so after thousands of operations', () => {
    const operations = fc.array(operation(300), { minLength: 3_000, maxLength: 6_000, size: 'max' })
    fc.assert(fc.property(limits(30, 150), operations, compare), { numRuns: 10, endOnFailure: true })
  })

  it('evicts nothing without limits', () => {
    const store = bounded<number>({ ...UNLIMITED, onEvict: () => expect.unreachable() })
    for (let i = 0; i < 10_000; i++) store.set(`k${i}`, i, Infinity, 1_000)
    expect(store.size).toBe(10_000)
    expect(store.get('k0')?.value).toBe(0)
  })

  it('keeps its sums when weights are fractions', () => {
    const store = bytes(1)
    for (let i = 0; i < 1_000; i++) store.set(`k${i % 7}`, i, Infinity, (i % 10) / 10)
    expect(store.weight).toBeLessThanOrEqual(1 + 1e-9)
    for (const { key } of [...store.entries()]) store.delete(key)
    store.set('a', 1, Infinity, 0.1)
    store.set('b', 1, Infinity, 0.2)
    store.delete('a')
    store.delete('b')
    expect(store.weight).toBe(0)
  })
})

describe('an entry too heavy', () => {
  it('is refused, and pushes nothing out', () => {
    const store = bytes(100)
    for (let i = 0; i < 10; i++) store.set(`k${i}`, i, Infinity, 10)
    expect(store.set('giant', 0, Infinity, 101)).toBe(false)
    expect(store.size).toBe(10)
    expect(store.peek('giant')).toBeUndefined()
  })

  it('does not leave the value before it', () => {
    const store = bytes(100)
    store.set('k', 1, Infinity, 10)
    expect(store.set('k', 2, Infinity, 101)).toBe(false)
    expect(store.peek('k')).toBeUndefined()
    expect(store.weight).toBe(0)
  })

  it('that just fits stays, and others are evicted for it', () => {
    const store = bytes(100)
    for (let i = 0; i < 10; i++) read(store, `k${i}`)
    for (let i = 0; i < 10; i++) read(store, `k${i}`)
    expect(store.set('large', 1, Infinity, 100)).toBe(true)
    expect([...store.entries()].map(({ key }) => key)).toEqual(['large'])
    store.set('other', 1, Infinity, 1)
    store.set('other', 2, Infinity, 100)
    expect([...store.entries()].map(({ key }) => key)).toEqual(['other'])
  })
})

describe('eviction', () => {
  it('keeps entries in use through a scan of many keys', () => {
    const store = entries(100)
    const used = Array.from({ length: 50 }, (_, i) => `used ${i}`)
    for (let round = 0; round < 3; round++) for (const key of used) read(store, key)
    for (let i = 0; i < 10_000; i++) read(store, `scanned ${i}`)
    expect(used.filter((key) => store.peek(key) === undefined)).toEqual([])
  })

  it('keeps a new key that was got once, and not one that was only peeked at or set again', () => {
    const store = entries(100)
    for (let i = 0; i < 100; i++) read(store, `before ${i}`)
    for (const key of ['got', 'peeked', 'set']) store.set(key, 1, Infinity, 1)
    store.get('got')
    store.peek('peeked')
    store.set('set', 2, Infinity, 1)
    for (let i = 0; i < 200; i++) read(store, `scanned ${i}`)
    expect(['got', 'peeked', 'set'].filter((key) => store.peek(key) !== undefined)).toEqual(['got'])
  })

  it('keeps entries in use though the weights of new entries change', () => {
    const store = bytes(1_000)
    const used = Array.from({ length: 50 }, (_, i) => `used ${i}`)
    for (let round = 0; round < 3; round++)
      for (const key of used) if (store.get(key) === undefined) store.set(key, 1, Infinity, 10)
    for (let i = 0; i < 1_000; i++) {
      store.set(`grown ${i}`, 1, Infinity, 1)
      store.set(`grown ${i}`, 1, Infinity, 50)
    }
    expect(used.filter((key) => store.peek(key) === undefined)).toEqual([])
  })

  it('brings back a key that returns soon after its eviction into the main queue, so that a scan cannot take it', () => {
    const store = entries(100)
    for (let i = 0; i < 100; i++) read(store, `k${i}`)
    for (let i = 0; i < 40; i++) read(store, `passing ${i}`)
    const returned = [...Array(100).keys()].map((i) => `k${i}`).filter((key) => !read(store, key))
    expect(returned.length).toBeGreaterThan(0)
    for (let i = 0; i < 500; i++) read(store, `scanned ${i}`)
    expect(returned.filter((key) => store.peek(key) !== undefined).length).toBeGreaterThan(0)
  })

  // A small queue of a fixed tenth would answer none of these second reads.
  it('learns that keys are read a second time only after a while', () => {
    const store = entries(1_000)
    let hits = 0
    for (let i = 0; i < 40_000; i++) {
      read(store, `k${i}`)
      if (i >= 500 && read(store, `k${i - 500}`) && i >= 20_000) hits++
    }
    expect(hits / 20_000).toBeGreaterThan(0.95)
  })

  it('takes to a loop that just fits, after other traffic', () => {
    const store = entries(1_000)
    for (let i = 0; i < 20_000; i++) read(store, `before ${skewed(i)}`)
    let hits = 0
    for (let i = 0; i < 20_000; i++) if (read(store, `loop ${i % 990}`)) hits++
    expect(hits / 20_000).toBeGreaterThan(0.8)
  })

  it('keeps a part of a loop that does not fit, where LRU keeps nothing', () => {
    const store = entries(1_000)
    let hits = 0
    for (let i = 0; i < 20_000; i++) if (read(store, `loop ${i % 1_100}`)) hits++
    expect(hits / 20_000).toBeGreaterThan(0.5)
  })
})

describe('sweep', () => {
  for (const [name, make] of [
    ['without limits', () => bounded<number>(UNLIMITED)],
    ['bounded by entries', () => entries(1_000)],
    ['bounded by bytes', () => bytes(1_000)],
  ] as const)
    it(`frees all that has expired and nothing else: ${name}`, () => {
      const store = make()
      for (let i = 0; i < 1_000; i++)
        store.set(`k${i}`, i, i % 3 === 0 ? Infinity : i % 3 === 1 ? 100 : 200, 1)
      for (let i = 0; i < 500; i++) store.get(`k${i}`)
      expect(store.sweep(99, 2_000)).toBe(0)
      expect(store.sweep(100, 10)).toBe(10)
      let freed = 10
      for (let i = 0; i < 100; i++) freed += store.sweep(100, 10)
      expect(freed).toBe(333)
      expect([...store.entries()].every(({ expiresAt }) => expiresAt > 100)).toBe(true)
      expect(store.sweep(1_000, 2_000)).toBe(333)
      expect(store.size).toBe(334)
      expect(store.weight).toBe(334)
    })

  it('frees all of them in one call that has the limit for it, however many there are', () => {
    for (let count = 0; count < 70; count++)
      for (const store of [bounded<number>(UNLIMITED), entries(100)]) {
        for (let i = 0; i < count; i++) store.set(`k${i}`, i, 1, 1)
        expect(store.sweep(1, 100)).toBe(count)
      }
  })

  it('goes on where it stopped, looking at eight times its limit at most', () => {
    const store = entries(10_000)
    for (let i = 0; i < 8_000; i++) store.set(`k${i}`, i, i === 7_000 ? 1 : 100, 1)
    let calls = 1
    while (calls < 200 && store.sweep(50, 10) === 0) calls++
    expect(calls).toBeGreaterThanOrEqual(95)
    expect(calls).toBeLessThanOrEqual(105)
  })

  it('reaches every expired entry while others come and go', () => {
    const store = entries(1_000)
    for (let i = 0; i < 1_000; i++) {
      store.set(`k${i}`, i, i % 2 === 0 ? 1 : 100, 1)
      if (i % 4 < 2) store.get(`k${i}`)
    }
    for (let i = 0; i < 400; i++) {
      store.set(`new ${i}`, i, 100, 1)
      store.get(`new ${i - 1}`)
      store.sweep(50, 10)
    }
    expect([...store.entries()].filter(({ expiresAt }) => expiresAt <= 50)).toEqual([])
  })

  it('sees an expiry that an entry only gets, or loses, when it is set again', () => {
    const store = bounded<number>(UNLIMITED)
    store.set('gets', 1, Infinity, 1)
    store.set('gets', 2, 10, 1)
    store.set('loses', 1, 10, 1)
    store.set('loses', 2, Infinity, 1)
    expect(store.sweep(50, 10)).toBe(1)
    expect([...store.entries()].map(({ key }) => key)).toEqual(['loses'])
  })
})

describe('memory', () => {
  for (const [name, make] of [
    ['without limits', () => bounded<number>(UNLIMITED)],
    ['bounded by entries', () => entries(1_000)],
    ['bounded by bytes', () => bytes(1_000)],
  ] as const) {
    it(`does not grow by keys that are set and deleted: ${name}`, () => {
      const store = make()
      const churn = (from: number) => {
        for (let i = from; i < from + 200_000; i++) {
          store.set(`${'x'.repeat(50)}${i}`, i, i % 2 === 0 ? Infinity : 1e12, 1)
          store.delete(`${'x'.repeat(50)}${i - 3}`)
        }
      }
      churn(0)
      const before = heapInMegabytes()
      churn(1_000_000)
      expect(heapInMegabytes() - before).toBeLessThan(2)
    })
  }

  it('is given back when entries are deleted', () => {
    const before = heapInMegabytes()
    const store = bounded<number>(UNLIMITED)
    for (let i = 0; i < 100_000; i++) store.set(`${'x'.repeat(50)}${i}`, i, 1e12, 1)
    for (let i = 0; i < 100_000; i++) store.delete(`${'x'.repeat(50)}${i}`)
    expect(heapInMegabytes() - before).toBeLessThan(2)
    expect(store.size).toBe(0)
  })

  it('does not grow by keys that pass through: ghosts are bounded', () => {
    for (const store of [entries(1_000), bytes(1_000)]) {
      const pass = (from: number) => {
        for (let i = from; i < from + 200_000; i++) {
          read(store, `${'x'.repeat(50)}${i}`)
          read(store, `${'x'.repeat(50)}${i - (i % 1_500)}`)
        }
      }
      pass(0)
      const before = heapInMegabytes()
      pass(1_000_000)
      expect(heapInMegabytes() - before).toBeLessThan(2)
    }
  })

  it('keeps no value of an entry that has gone', async () => {
    const store = bounded<object>({ maxEntries: 100, maxWeight: Infinity })
    const values: WeakRef<object>[] = []
    for (let i = 0; i < 300; i++) {
      const value = { i }
      values.push(new WeakRef(value))
      store.set(`k${i}`, value, i % 10 === 0 ? 1 : Infinity, 1)
      if (i % 7 === 0) store.delete(`k${i}`)
    }
    store.sweep(10, 1_000)
    await turn() // a WeakRef holds until the end of its turn
    collectGarbage()
    expect(values.filter((value) => value.deref() !== undefined).length).toBe(store.size)
  })
})

import assert from 'node:assert/strict'
import { delay } from '../base/timers.js'
import {
  type Bodies,
  type Case,
  casesOf,
  failure,
  granted,
  inTime,
  operationsOf,
  same,
  stopwatch,
  writesOf,
} from './context.js'

/** Keys that stores, protocols and objects are known to stumble over. */
const ODD_KEYS: Readonly<Record<string, readonly string[]>> = {
  'the empty key': [''],
  'names of Object.prototype as keys': ['__proto__', 'constructor', 'toString', 'hasOwnProperty', 'valueOf'],
  'keys of spaces, quotes and separators': [
    ' ',
    '  ',
    'a b',
    ' a b',
    'a b ',
    '"',
    "'",
    'a:b',
    'a/b',
    '../a',
    '%00',
    '*',
  ],
  'keys with braces, as clusters use them': ['{', '}', '{}', '{a}b', 'a{b}', '}{', '{a'],
  'keys with control characters': ['a\0', 'a\0b', 'a', '\n', 'a\nb', 'a\r\nset b 0 0 1\r\n', '\t', '\x7f'],
  'keys in unicode, which nothing normalises': ['é', 'e\u0301', 'ключ', '鍵', '🗝', '🗝️', 'K', '\u212a', 'k'],
  'keys of 1 kB': ['k'.repeat(1_024), `${'k'.repeat(1_023)}l`],
  'keys of 1 MB': ['k'.repeat(1_048_576), `${'k'.repeat(1_048_575)}l`],
}

const oddKeys: readonly Case[] = Object.entries(ODD_KEYS).map(([name, keys]) => ({
  name: `${name}: like any other`,
  async run({ backend, values: [one, other] }) {
    const expected = keys.map((_, i) => (i % 2 === 0 ? one : other))
    for (const [i, key] of keys.entries()) {
      same(await backend.get(key), undefined, 'a miss at first')
      await backend.set(key, i % 2 === 0 ? one : other, {})
    }
    for (const [i, key] of keys.entries()) same(await backend.get(key), expected[i])
    same(await backend.getMulti(keys), expected)
    for (const key of keys) {
      assert.equal(await backend.held(key), false)
      const token = await granted(backend, key)
      assert.equal(await backend.held(key), true)
      assert.equal(await backend.release(key, token), true)
    }
    await backend.delete(keys[0] as string)
    same(await backend.getMulti(keys), [undefined, ...expected.slice(1)])
    await backend.deleteMulti(keys)
    same(await backend.getMulti(keys), Array(keys.length).fill(undefined))
  },
}))

/** Flips something inside a value in place, if there is something to change. */
function change(value: unknown): void {
  if (value instanceof Uint8Array) value.set(value.map((byte) => ~byte))
  const payload = (value as { payload?: unknown } | null)?.payload
  if (typeof payload === 'object' && payload !== null && !Object.isFrozen(payload))
    Object.assign(payload, { changedByTheContract: true })
}

const basics: Bodies = {
  async 'a key that was never written is a miss'({ backend }) {
    same(await backend.get('key'), undefined)
  },
  async 'a write returns stored, and its value is read back'({ backend, values: [value] }) {
    assert.equal(await backend.set('key', value, {}), 'stored')
    same(await backend.get('key'), value)
    same(await backend.get('key'), value, 'and again')
  },
  async 'every value comes back as it was'({ backend, values }) {
    for (const [i, value] of values.entries()) await backend.set(`key ${i}`, value, {})
    for (const [i, value] of values.entries()) same(await backend.get(`key ${i}`), value)
    same(await backend.getMulti(values.map((_, i) => `key ${i}`)), [...values])
  },
  async 'a second write replaces the first'({ backend, values: [one, other] }) {
    await backend.set('key', one, {})
    assert.equal(await backend.set('key', other, {}), 'stored')
    same(await backend.get('key'), other)
  },
  async 'a deletion makes a miss, of its key only'({ backend, values: [one, other] }) {
    await backend.set('a', one, {})
    await backend.set('b', other, {})
    await backend.delete('a')
    same(await backend.get('a'), undefined)
    same(await backend.get('b'), other)
  },
  async 'a deletion is idempotent'({ backend, values: [value] }) {
    await backend.delete('key')
    await backend.set('key', value, {})
    await backend.delete('key')
    await backend.delete('key')
    same(await backend.get('key'), undefined)
    await backend.set('key', value, {})
    same(await backend.get('key'), value, 'a write after a deletion')
  },
  async 'a deletion says nothing or whether there was an entry'({ backend, values: [value] }) {
    await backend.set('key', value, {})
    const [was, again] = [await backend.delete('key'), await backend.delete('key')]
    if (was === undefined && again === undefined) return
    assert.deepEqual([was, again], [true, false])
  },
  async 'keys, if it lists them, are those of its entries that begin with a text'({
    backend,
    values: [value],
  }) {
    if (backend.keys === undefined) return
    // Characters that a pattern, a hash tag or an escape would give a meaning.
    const wanted = ['a:*', 'a:[x]', 'a:\\?', 'a:}{', 'a:%7D}', 'a:é😀', `a:${'long'.repeat(500)}`]
    for (const key of [...wanted, 'b:1', 'A:1']) await backend.set(key, value, {})
    await backend.set('a:gone', value, {})
    await backend.delete('a:gone')
    await backend.acquire('a:leased', 1_000)
    const listed = async (prefix: string) => {
      const keys = new Set<string>()
      for await (const key of backend.keys?.(prefix) ?? []) keys.add(key)
      return [...keys].sort()
    }
    assert.deepEqual(await listed('a:'), [...wanted].sort())
    assert.deepEqual(await listed('a:*'), ['a:*'])
    assert.deepEqual(await listed('c'), [])
  },
  async 'getMulti answers in the order of its keys, with holes'({ backend, values: [one, other] }) {
    await backend.set('b', one, {})
    await backend.set('d', other, {})
    same(await backend.getMulti(['a', 'b', 'c', 'd', 'e']), [undefined, one, undefined, other, undefined])
    same(await backend.getMulti(['d', 'b']), [other, one])
    same(await backend.getMulti(['a', 'c']), [undefined, undefined])
  },
  async 'getMulti answers a key as often as it is listed'({ backend, values: [value] }) {
    await backend.set('a', value, {})
    same(await backend.getMulti(['a', 'b', 'a', 'a', 'b']), [value, undefined, value, value, undefined])
  },
  async 'setMulti stores all, and answers an outcome for each in order'({ backend, values: [one, other] }) {
    const outcomes = await backend.setMulti(writesOf({ a: one, b: other, c: one }))
    same(outcomes, ['stored', 'stored', 'stored'])
    same(await backend.getMulti(['c', 'b', 'a']), [one, other, one])
    same(await backend.get('b'), other, 'also for a single read')
  },
  async 'setMulti of a key that is listed twice keeps the last value'({ backend, values: [one, other] }) {
    const outcomes = await backend.setMulti([
      ['a', one, {}],
      ['a', other, {}],
    ])
    assert.equal(outcomes.length, 2)
    same(await backend.get('a'), other)
  },
  async 'setMulti leaves the writes that it was given as they were'({ backend, values: [one, other] }) {
    const writes = writesOf({ a: one, b: other }).map((write) => Object.freeze(write))
    for (const [, , options] of writes) Object.freeze(options)
    await backend.setMulti(Object.freeze(writes))
    assert.equal(writes[0]?.[1], one)
    assert.equal(writes[1]?.[1], other)
    assert.equal(writes.length, 2)
  },
  async 'deleteMulti removes the keys that are there and ignores the others'({ backend, values: [value] }) {
    for (const key of ['a', 'b', 'c']) await backend.set(key, value, {})
    await backend.deleteMulti(['a', 'x', 'c', 'y', 'a'])
    same(await backend.getMulti(['a', 'b', 'c', 'x']), [undefined, value, undefined, undefined])
    await backend.deleteMulti(['x', 'y'])
  },
  async 'empty batches answer empty, and change nothing'({ backend, values: [value] }) {
    await backend.set('key', value, {})
    same(await backend.getMulti([]), [])
    same(await backend.setMulti([]), [])
    assert.equal(await backend.deleteMulti([]), undefined)
    same(await backend.get('key'), value)
  },
  async 'batches of a thousand keys keep their order'({ backend, values: [one, other] }) {
    const keys = Array.from({ length: 1_000 }, (_, i) => `key ${i}`)
    const valueAt = (i: number) => (i % 3 === 0 ? one : other)
    const outcomes = await backend.setMulti(keys.map((key, i) => [key, valueAt(i), {}]))
    same(outcomes, Array(keys.length).fill('stored'))
    const read = await backend.getMulti([...keys, 'absent'].reverse())
    same(read, [undefined, ...keys.map((_, i) => valueAt(i)).reverse()])
    await backend.deleteMulti(keys.slice(0, 500))
    const left = await backend.getMulti(keys)
    assert.equal(left.filter((value) => value === undefined).length, 500)
  },
  async 'many operations at once each get their own answer'({ backend, values }) {
    const keys = Array.from({ length: 200 }, (_, i) => `key ${i}`)
    const valueAt = (i: number) => values[i % values.length] as (typeof values)[0]
    const expected = keys.map((_, i) => valueAt(i))
    await Promise.all(keys.map((key, i) => backend.set(key, valueAt(i), {})))
    const single = Promise.all(keys.map((key) => backend.get(key)))
    for (const read of await Promise.all([single, backend.getMulti(keys)])) same(read, expected)
  },
}

const copies: Bodies = {
  async 'a value that is changed after it was written stays as it was written'({ backend, values }) {
    for (const value of values) {
      const mine = structuredClone(value)
      await backend.set('key', mine, {})
      change(mine)
      same(await backend.get('key'), value)
    }
  },
  async 'a value that a reader changes stays as it was for the next'({ backend, values }) {
    for (const value of values) {
      await backend.set('key', structuredClone(value), {})
      change(await backend.get('key'))
      same(await backend.get('key'), value)
      change((await backend.getMulti(['key']))[0])
      same(await backend.get('key'), value)
    }
  },
}

const lifetimes: Bodies = {
  async 'a value with a lifetime leaves at its end, and not before'({
    backend,
    values: [value],
    ttlResolution,
  }) {
    await backend.set('long', value, { ttl: 3_600_000 })
    await backend.set('endless', value, {})
    const passed = stopwatch()
    await backend.set('short', value, { ttl: ttlResolution * 3 })
    const before = await backend.get('short')
    if (passed() < ttlResolution * 2) same(before, value, 'before its end')
    await delay(ttlResolution * 5)
    same(await backend.get('short'), undefined, 'after its end')
    same(await backend.getMulti(['short', 'long', 'endless']), [undefined, value, value])
  },
  async 'values of one batch have their own lifetimes'({ backend, values: [one, other], ttlResolution }) {
    const passed = stopwatch()
    await backend.setMulti([
      ['short', one, { ttl: ttlResolution * 3 }],
      ['long', other, { ttl: 3_600_000 }],
      ['endless', one, {}],
    ])
    const before = await backend.getMulti(['short', 'long', 'endless'])
    if (passed() < ttlResolution * 2) same(before, [one, other, one], 'before their ends')
    await delay(ttlResolution * 5)
    same(await backend.getMulti(['short', 'long', 'endless']), [undefined, other, one])
  },
  async 'a second write replaces the lifetime, or takes it away'({
    backend,
    values: [one, other],
    ttlResolution,
  }) {
    await backend.set('longer', one, { ttl: ttlResolution * 3 })
    await backend.set('endless', one, { ttl: ttlResolution * 3 })
    await backend.set('shorter', one, {})
    await backend.set('longer', other, { ttl: 3_600_000 })
    await backend.set('endless', other, {})
    await backend.set('shorter', other, { ttl: ttlResolution * 3 })
    await delay(ttlResolution * 5)
    same(await backend.getMulti(['longer', 'endless', 'shorter']), [other, other, undefined])
  },
  async 'a lifetime of years, or of a fraction of a millisecond, is no error'({ backend, values: [value] }) {
    await backend.set('long', value, { ttl: 100 * 365 * 86_400_000 })
    same(await backend.get('long'), value)
    await backend.set('brief', value, { ttl: 0.25 })
    await backend.set('odd', value, { ttl: 3_600_000.123 })
    same(await backend.get('odd'), value)
  },
  async 'it closes, twice without complaint'({ backend, values: [value] }) {
    await backend.set('key', value, {})
    await backend.close()
    await backend.close()
  },
  async 'once closed every operation settles, with an answer or an error'({ backend, values: [value] }) {
    await backend.set('key', value, {})
    await backend.close()
    for (const [name, operation] of Object.entries(operationsOf(backend, value)))
      await inTime(failure(operation), `${name} after close`)
  },
}

export const entryCases: readonly Case[] = [
  ...casesOf(basics),
  ...oddKeys,
  ...casesOf(copies, 'copies'),
  ...casesOf(lifetimes),
]

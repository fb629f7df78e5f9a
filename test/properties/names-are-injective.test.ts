/** Names of different things are different names, with any parts: tried with all short texts of separators and escapes. */
import { expect, it } from 'vitest'
import { CorralError, dep, dependsOn } from '../../src/index.js'

const MARKS = [':', '\\', '=', "'"]
const longer = (texts: readonly string[]) => texts.flatMap((text) => MARKS.map((mark) => text + mark))
const one = [...MARKS, 'a']
const two = longer(one)
const texts = [...one, ...two, ...longer(two)]
const few = ['', ...one, ...two]

/** A name, with its parts in another notation. */
type Thing = readonly [name: string, meaning: string]

const pairs = <T>(firsts: readonly string[], seconds: readonly T[]) =>
  firsts.flatMap((first) => seconds.map((second) => [first, second] as const))

function* things(): Generator<Thing> {
  const ids = ['', ...texts]
  for (const tag of texts) yield [dep.tag(tag), JSON.stringify(['tag', tag])]
  for (const [of, id] of pairs(texts, ids)) {
    yield [dep.id(of, id), JSON.stringify(['id', of, id])]
    yield [dep.tag(of, id), JSON.stringify(['tag', of, id])]
    yield [dep.group(of, id), JSON.stringify(['group', of, id])]
  }
  for (const [of, [first, second]] of pairs(texts, pairs(few, few))) {
    yield [dep.id(of, first, second), JSON.stringify(['id', of, first, second])]
    yield [dep.tag(of, first, second), JSON.stringify(['tag', of, first, second])]
  }
  for (const of of one) {
    for (const [field, value] of pairs(texts, [...ids, null, true, false]))
      yield* condition(of, { [field]: value })
    for (const [first, second] of pairs(few, few))
      if (first < second) yield* condition(of, { [first]: second, [second]: first })
  }
}

function condition(of: string, values: Readonly<Record<string, string | boolean | null>>): readonly Thing[] {
  const fields = Object.keys(values).sort()
  const [kind = '', name = ''] = dep
    .scopes(of)
    .describes(fields, () => undefined)
    .condition(values as never)
  return [
    [kind, JSON.stringify(['kind', of, fields])],
    [name, JSON.stringify(['condition', of, fields.map((field) => [field, values[field]])])],
  ]
}

it('no two things have one name', () => {
  const meanings = new Map<string, string>()
  const doubtful: string[] = []
  for (const [name, meaning] of things()) {
    const known = meanings.get(name)
    if (known !== undefined && known !== meaning) doubtful.push(`${name} is ${known} and ${meaning}`)
    meanings.set(name, meaning)
  }
  expect(doubtful.slice(0, 5)).toEqual([])
  expect(meanings.size).toBeGreaterThan(100_000)
})

it('a record has one name, whether its id is a number, a bigint or a text', () => {
  expect(new Set([5, 5n, '5'].map((id) => dep.id('user', id))).size).toBe(1)
  expect(new Set([0, -0, 0n, '0'].map((id) => dep.id('Order', 1, id))).size).toBe(1)
})

it('a value that is no part of a name is refused, not turned into text', () => {
  const parts: readonly unknown[] = [
    Number.NaN,
    1 / 0,
    true,
    null,
    undefined,
    {},
    [1],
    new Date(0),
    Symbol('s'),
    () => 1,
  ]
  const makers: readonly ((part: never) => unknown)[] = [
    (part) => dep.id('user', part),
    (part) => dep.id(part, 1),
    (part) => dep.tag(part),
    (part) => dep.tag('menu', part),
    (part) => dep.tag('menu', 'de', part),
    (part) => dep.tag(part, 'de'),
    (part) => dep.group('user', part),
    (part) => dep.group(part, 5),
    (part) => dep.id('Order', 1, part),
    (part) => dep.id('Order', part, 1),
    (part) => dep.scopes(part),
    (part) => dep.version(part, () => 1),
    (part) => dependsOn(dep.tag('a'), [part]),
  ]
  for (const make of makers)
    for (const part of parts)
      expect(() => make(part as never), String(make)).toThrow(expect.objectContaining({ code: 'ERR_OPTION' }))
  for (const make of [
    () => dep.tag(''),
    () => dep.id('', 1),
    () => dep.scopes(''),
    () => (dep.id as (type: string) => string)('Order'),
    () => dependsOn(''),
  ])
    expect(make).toThrow(CorralError)
})

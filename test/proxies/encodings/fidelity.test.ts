import { inspect } from 'node:util'
import { describe, expect, it } from 'vitest'
import { json } from '../../../proxies/json.js'
import { msgpack } from '../../../proxies/msgpack.js'
import { v8 } from '../../../proxies/v8.js'
import { CorralError } from '../../../src/base/errors.js'
import { wrap } from '../../../src/chain/wrap.js'
import { makeRegion } from '../../../src/region/region.js'
import { benchOf, ENCODINGS, type Encoding, shelf } from './chains.js'
import { difference } from './same.js'
import { SAMPLES, type Sample } from './samples.js'

const KEPT = 'kept'
const REFUSED = 'refused'
const UNREADABLE = 'a miss'

function outcome(encoding: Encoding, { value, here = value, also }: Sample): string {
  const bench = benchOf(encoding)
  let stored: Uint8Array
  try {
    stored = bench.put(value)
  } catch (error) {
    if (CorralError.is(error, 'ERR_UNENCODABLE')) return REFUSED
    throw error
  }
  const found = bench.read(stored)
  if (found === undefined) return UNREADABLE
  const kept = difference(here, found.payload) === undefined && (also?.(found.payload as never) ?? true)
  return kept ? KEPT : `→ \`${shown(found.payload)}\``
}

function shown(value: unknown): string {
  // An error is shown without the stack of this very test.
  if (value instanceof Error) return `${value.name}: ${value.message}, another stack`
  return inspect(value, { compact: true, breakLength: Number.POSITIVE_INFINITY })
}

const STRICT: Record<string, Encoding> = {
  'json()': json(),
  'msgpack()': msgpack(),
  'v8()': v8(),
  "msgpack({ profile: 'bundled' })": msgpack({ profile: 'bundled' }),
  "msgpack({ profile: 'records' })": msgpack({ profile: 'records' }),
  'msgpack({ regExp: true })': msgpack({ regExp: true }),
  'v8({ regExp: true })': v8({ regExp: true }),
}
const LOSSY: Record<string, Encoding> = {
  'json({ lossy: true })': json({ lossy: true }),
  'msgpack({ lossy: true })': msgpack({ lossy: true }),
  'v8({ lossy: true })': v8({ lossy: true }),
}

function table(columns: Record<string, Encoding>): string {
  const lines = SAMPLES.map((sample) => {
    const cells = Object.values(columns).map((encoding) => outcome(encoding, sample))
    return `| ${[sample.name, ...cells].join(' | ')} |`
  })
  const names = Object.keys(columns).map((name) => `\`${name}\``)
  return [`| | ${names.join(' | ')} |`, `|---|${names.map(() => '---').join('|')}|`, ...lines].join('\n')
}

const pick = (columns: Record<string, Encoding>, names: readonly string[]) =>
  Object.fromEntries(names.map((name) => [name, columns[name] as Encoding]))

describe('the values that each encoding keeps', () => {
  it('is the table of docs/fidelity.md', async () => {
    const page = `# Values that each encoding keeps

This page is written by \`test/proxies/encodings/fidelity.test.ts\`, which stores each of these and reads it back; \`vitest -u\`
renews it. *kept*: the same value comes back, with types, −0 and shared parts. *refused*: \`set\` fails with
\`ERR_UNENCODABLE\` and names the path, such as \`value.rows[3].price\`. Other results are shown as they come back.

${table(pick(STRICT, ['json()', 'msgpack()', 'v8()']))}

The profiles \`bundled\` and \`records\` of \`msgpack()\` keep the same as \`faithful\`. \`regExp: true\` makes \`msgpack()\`
and \`v8()\` keep RegExps, except \`lastIndex\`. \`json()\` with a \`replacer\` keeps every value that its \`reviver\` restores. The other
values are kept or refused as above.

Symbols as keys, properties that are not enumerable, own properties of arrays, prototypes that are \`null\`, and
whether an object is frozen are no data to any encoding: they are dropped without an error.

## With \`lossy: true\`

Values are not checked, and the library's output is stored. A value is refused only if the library itself cannot take it,
or no read would accept it.

${table(LOSSY)}
`
    await expect(page).toMatchFileSnapshot('../../../docs/fidelity.md')
  })

  it.each(Object.entries(STRICT))('is kept or refused by %s, and never changed', (name, encoding) => {
    for (const sample of SAMPLES) {
      const found = outcome(encoding, sample)
      if (sample.tolerated === undefined) expect([KEPT, REFUSED], `${sample.name}: ${found}`).toContain(found)
      else expect([REFUSED, UNREADABLE], `${name}, ${sample.name}: ${found}`).not.toContain(found)
    }
  })

  it('is the same for the profiles of msgpack()', () => {
    for (const profile of ["msgpack({ profile: 'bundled' })", "msgpack({ profile: 'records' })"])
      for (const sample of SAMPLES)
        expect(outcome(STRICT[profile] as Encoding, sample), sample.name).toBe(
          outcome(STRICT['msgpack()'] as Encoding, sample),
        )
  })

  it('is never refused with lossy: true, except a value that no read accepts', () => {
    for (const encoding of Object.values(LOSSY))
      for (const sample of SAMPLES) expect(outcome(encoding, sample), sample.name).not.toBe(UNREADABLE)
  })

  it('includes RegExps where they were allowed', () => {
    const sample: Sample = { name: 'RegExp', value: { deep: [/a+/gi] } }
    expect(outcome(msgpack({ regExp: true }), sample)).toBe(KEPT)
    expect(outcome(msgpack({ regExp: true, lossy: true }), sample)).toBe(KEPT)
    expect(outcome(v8({ regExp: true }), sample)).toBe(KEPT)
    expect(outcome(msgpack({ lossy: true }), sample)).toBe(REFUSED)
    expect(outcome(v8({ lossy: true }), sample)).toBe(REFUSED)
  })
})

describe.each(Object.entries(ENCODINGS))('%s names the path of a refused value', (_, make) => {
  const refusal = (payload: unknown): string => {
    try {
      benchOf(make()).put(payload)
    } catch (error) {
      if (CorralError.is(error, 'ERR_UNENCODABLE')) return error.message
      throw error
    }
    throw new Error('Expected the value to be refused.')
  }
  const f = () => {}
  const deep = (levels: number): unknown => (levels === 0 ? 1 : { a: deep(levels - 1) })

  it.each<[string, unknown]>([
    ['`value`', f],
    ['a symbol at `value`', Symbol('s')],
    ['`value.rows[3].price`', { rows: [1, 2, 3, { price: f }] }],
    ['`value["a b"][0]`', { 'a b': [f] }],
    ['`value["1"]`', { 1: f }],
    ['`value.a.b`', { a: { b: new URL('http://example.com') } }],
    ['an instance of URL', [new URL('http://example.com')]],
    ['an instance of a nameless class', [new (class {})()]],
    ['a key named __proto__ at `value.a`', JSON.parse('{"a":{"__proto__":1}}')],
    ['nested deeper than 500', deep(501)],
    ['nested deeper than 500', deep(3000)],
  ])('%s', (message, payload) => {
    expect(refusal(payload)).toContain(message)
  })
  it('but takes a value exactly as deep as allowed', () => {
    const bench = benchOf(make())
    expect(difference(deep(500), bench.back(deep(500))?.payload)).toBeUndefined()
  })
  it('and shortens long keys', () => {
    expect(refusal({ ['k'.repeat(10_000)]: f }).length).toBeLessThan(400)
  })
  it('names the remedy', () => {
    expect(refusal({ a: f })).toMatch(/Expected .* got a function at .*lossy: true/)
  })
  it.each<[string, () => unknown]>([
    ['a Proxy of a Map', () => new Proxy(new Map([[1, 2]]), {})],
    ['a Proxy of a Set inside', () => ({ a: new Proxy(new Set([1]), {}) })],
    ['a revoked Proxy', () => revoked()],
    ['a getter that throws on its second reading', () => ({ a: [failingLater()] })],
  ])('refuses %s, on which a check fails', (_, odd) => {
    expect(refusal(odd())).toMatch(/Expected/)
  })
  it('and stores nothing', () => {
    const bench = benchOf(make())
    expect(() => bench.put({ a: f })).toThrow()
    expect(bench.shelf.held.size).toBe(0)
  })
})

function revoked(): unknown {
  const { proxy, revoke } = Proxy.revocable({}, {})
  revoke()
  return proxy
}

function failingLater(): unknown {
  let readings = 0
  return {
    get b() {
      if (readings++ > 0) throw new TypeError('read again')
      return -0
    },
  }
}

describe('msgpack() and v8() name the path inside collections', () => {
  const refusal = (encoding: Encoding, payload: unknown) => {
    try {
      benchOf(encoding).put(payload)
      return 'stored'
    } catch (error) {
      return (error as Error).message
    }
  }
  it.each([
    ['msgpack()', msgpack()],
    ['v8()', v8()],
  ])('%s', (_, encoding) => {
    const f = () => {}
    expect(refusal(encoding, { m: new Map([['k', { x: f }]]) })).toContain('`value.m.get("k").x`')
    expect(refusal(encoding, { m: new Map([[7, f]]) })).toContain('`value.m.get(7)`')
    expect(refusal(encoding, { m: new Map([[{ f }, 1]]) })).toContain('`value.m.keys()[0].f`')
    expect(refusal(encoding, { m: new Map([[{}, f]]) })).toContain('`value.m.values()[0]`')
    expect(refusal(encoding, new Set([1, f]))).toContain('`value.values()[1]`')
  })
  it('v8() inside errors', () => {
    expect(refusal(v8(), { e: new Error('x', { cause: { f() {} } }) })).toContain('`value.e.cause.f`')
    expect(refusal(v8(), { e: Object.assign(new Error('x'), { code: 1 }) })).toContain('`value.e.code`')
  })
  it('msgpack() for half surrogate pairs, in text and keys', () => {
    expect(refusal(msgpack(), { a: ['fine', 'x\udc00'] })).toContain('half a surrogate pair at `value.a[1]`')
    expect(refusal(msgpack(), { a: [`${'long '.repeat(50)}\udc00`] })).toContain('`value.a[0]`')
    expect(refusal(msgpack(), { a: { 'x\udc00': 1 } })).toContain(
      'a key with half a surrogate pair at `value.a`',
    )
    expect(
      refusal(msgpack(), { a: 'the true \ufffd, and a float', b: Array.from({ length: 500 }, Math.random) }),
    ).toBe('stored')
  })
})

describe('looking at a value takes time in proportion to it', () => {
  it.each([
    ['msgpack()', msgpack()],
    ['v8()', v8()],
  ])('%s with parts shared 2^40 times', (_, encoding) => {
    let payload: unknown = { leaf: 1, zero: -0 }
    for (let i = 0; i < 40; i++) payload = [payload, payload]
    const bench = benchOf(encoding)
    expect(difference(payload, bench.back(payload)?.payload)).toBeUndefined()
  })
  it('msgpack() with one large part in many places', () => {
    const large = Array.from({ length: 20_000 }, (_, i) => i)
    const payload = Array.from({ length: 20_000 }, () => large)
    const start = performance.now()
    benchOf(msgpack()).put(payload)
    expect(performance.now() - start).toBeLessThan(2000)
  })
})

describe('a region', () => {
  it('rejects with the path, from set, getOrCreate and decorated functions, and stores nothing', async () => {
    const { backend, held } = shelf()
    const region = makeRegion<unknown>({ name: 'strict', backend: wrap(backend, json()) })
    const decorated = region.cacheOnArguments({ namespace: 'days' })(async (day: number) => ({
      at: new Date(day),
    }))
    const refusal = {
      code: 'ERR_UNENCODABLE',
      message: expect.stringContaining('an instance of Date at `value.at`'),
    }
    await expect(region.set('key', { at: new Date() })).rejects.toMatchObject(refusal)
    await expect(region.getOrCreate('key', () => ({ at: new Date() }))).rejects.toMatchObject(refusal)
    await expect(decorated(5)).rejects.toMatchObject(refusal)
    expect([...held.keys()]).toEqual([])
  })
})

describe('sizes', () => {
  it.each([
    ['json()', json({ maxBytes: 1000 })],
    ['msgpack()', msgpack({ maxBytes: 1000 })],
    ["msgpack({ profile: 'records' })", msgpack({ maxBytes: 1000, profile: 'records' })],
    ['v8()', v8({ maxBytes: 1000 })],
    ['json(), lossy', json({ maxBytes: 1000, lossy: true })],
    ['msgpack(), lossy', msgpack({ maxBytes: 1000, lossy: true })],
    ['v8(), lossy', v8({ maxBytes: 1000, lossy: true })],
  ])(
    '%s refuses a payload beyond maxBytes, and takes a larger one of another process for a miss',
    (name, encoding) => {
      const bench = benchOf(encoding)
      expect(() => bench.put('x'.repeat(1001))).toThrow(
        expect.objectContaining({ code: 'ERR_VALUE_TOO_LARGE' }),
      )
      expect(() => bench.put('x'.repeat(1001))).toThrow(/at most 1000 bytes .* got 10\d\d.*raise maxBytes/)
      const larger = benchOf((name.startsWith('json') ? json : name.startsWith('v8') ? v8 : msgpack)())
      expect(bench.misses(larger.put('x'.repeat(1100)))).toBe(true)
      expect(bench.back('x'.repeat(900))).toMatchObject({ payload: 'x'.repeat(900) })
    },
  )
  it.each([json, msgpack, v8])('%o takes only limits that make sense', (make) => {
    for (const maxBytes of [0, -1, 1.5, Number.NaN, '5' as never])
      expect(() => make({ maxBytes })).toThrow(expect.objectContaining({ code: 'ERR_OPTION' }))
    expect(() => make({ maxDepth: 0 })).toThrow(/`maxDepth`.*whole number/)
    expect(() => make({ lossey: true } as never)).toThrow(/Unknown option `lossey`/)
  })
})

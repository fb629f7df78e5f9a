import { describe, expect, it } from 'vitest'
import { memory } from '../../backends/memory/index.js'
import { prefix } from '../../proxies/prefix.js'
import { makeRegion, mapKeys, NO_VALUE, sha1, sha256, whenLongerThan, wrap } from '../../src/index.js'
import { held, inEveryRegion } from '../support/stage.js'

describe('a mangled region', () => {
  const stage = () => {
    const backend = memory()
    return {
      backend,
      region: makeRegion<string>({
        backend: wrap(
          backend,
          mapKeys((key) => `HI!${key}`),
        ),
      }),
    }
  }

  it('stores under mangled keys and is used with plain ones', async () => {
    const { backend, region } = stage()
    await region.set('a', '1')
    await region.setMulti([
      ['b', '2'],
      ['c', '3'],
    ])
    await region.getOrCreate('d', () => '4')
    await region.getOrCreateMulti(['e', 'f'], (keys) => keys)
    for (const key of ['a', 'b', 'c', 'd', 'e', 'f']) {
      expect(backend.get(key)).toBeUndefined()
      expect(backend.get(`HI!${key}`)).toBeDefined()
    }
    expect(await region.get('a')).toBe('1')
    expect(await region.getMulti(['b', 'c', 'f', 'g'])).toEqual(['2', '3', 'f', NO_VALUE])
    expect(region.peek('d')).toBe('4')
    expect(await region.getValueMetadata('e')).toMatchObject({ payload: 'e' })
  })

  it('removes mangled keys', async () => {
    const { backend, region } = stage()
    await region.setMulti([
      ['a', '1'],
      ['b', '2'],
      ['c', '3'],
    ])
    await region.delete('a')
    await region.deleteMulti(['b'])
    await region.expire('c')
    expect(backend.get('HI!a')).toBeUndefined()
    expect(backend.get('HI!b')).toBeUndefined()
    expect(backend.get('HI!c')).toMatchObject({ metadata: { stale: true } })
  })

  it('tells creators plain keys', async () => {
    const { region } = stage()
    await region.getOrCreate('key', (creation) => {
      expect(creation.key).toBe('key')
      return 'value'
    })
  })

  it('answers keyIsLocked by itself for plain keys', async () => {
    const { backend, region } = stage()
    const creator = held<string>()
    const created = region.getOrCreate('key', creator.create)
    await creator.started
    expect(await region.keyIsLocked('key')).toBe(true)
    expect(await region.keyIsLocked('HI!key')).toBe(false)
    expect(backend.held('HI!key')).toBe(true)
    creator.resolve('value')
    await created
    expect(await region.keyIsLocked('key')).toBe(false)
  })

  it('has no mangling unless it is asked for', async () => {
    const backend = memory()
    await makeRegion({ backend }).set('key', 1)
    expect(backend.get('key')).toMatchObject({ payload: 1 })
  })
})

describe('several key proxies', () => {
  it('change a key from the outermost inwards', async () => {
    const backend = memory()
    const region = makeRegion({ backend: wrap(backend, prefix('inner:'), prefix('outer:')) })
    await region.set('key', 1)
    expect(backend.get('inner:outer:key')).toMatchObject({ payload: 1 })
  })
})

describe('manglers', () => {
  it('make digests of text', () => {
    expect(sha1('some_key')).toBe('53def077a4264bd3183d4eb21b1f56f883e1b572')
    expect(sha1('ünïcödé')).toHaveLength(40)
    expect(sha256('some_key')).toMatch(/^[0-9a-f]{64}$/)
    expect(sha256('a')).not.toBe(sha256('b'))
  })

  it('leave short keys readable when asked', () => {
    const mangler = whenLongerThan(5, sha1)
    expect(mangler('12345')).toBe('12345')
    expect(mangler('123456')).toBe(sha1('123456'))
  })

  it('refuse a length that is none', () => {
    for (const length of [-1, 1.5, Number.NaN, '5' as never])
      expect(() => whenLongerThan(length, sha1)).toThrow(
        expect.objectContaining({ code: 'ERR_OPTION' }) as Error,
      )
  })
})

inEveryRegion('odd keys', (open) => {
  const keys = [
    '',
    ' ',
    '__proto__',
    'constructor',
    'toString',
    'hasOwnProperty',
    'a\0b',
    'a\nb\r\n',
    'ключ 鍵 🗝',
    '\ud800',
    'k'.repeat(1_000),
    'k'.repeat(1_000_000),
  ]

  it('are keys like any other', async () => {
    const { region } = open<number>()
    expect(await region.getMulti(keys)).toEqual(keys.map(() => NO_VALUE))
    for (const [i, key] of keys.entries()) expect(await region.getOrCreate(key, () => i)).toBe(i)
    expect(await region.getMulti(keys)).toEqual(keys.map((_, i) => i))
    for (const key of keys) expect(await region.keyIsLocked(key)).toBe(false)
    await region.deleteMulti(keys.slice(0, 6))
    expect(await region.getMulti(keys)).toEqual(keys.map((_, i) => (i < 6 ? NO_VALUE : i)))
    const values = await region.getOrCreateMulti(keys, (missing) => missing.map((key) => key.length))
    expect(values).toEqual(keys.map((key, i) => (i < 6 ? key.length : i)))
  })
})

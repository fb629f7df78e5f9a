import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import {
  CLOCK,
  decodeEntry,
  encodeEntry,
  STAMP,
  wireKey,
  wireName,
} from '../../../backends/memcached/format.js'
import { sleep } from '../../support/waiting.js'
import { bytes, say, text, withMemcached } from './start.js'

/** Strings of all kinds, lone surrogates, control characters and our own escapes included. */
const anyKey = fc.oneof(
  fc.string({ unit: 'binary', maxLength: 300 }),
  fc.string({
    unit: fc.constantFrom('%', '#', '-', 'u', '0', '2', '5', ' ', '\r', '\n', '\0', 'é', '\ud800', '\udc00'),
    maxLength: 80,
  }),
  fc.string({ unit: fc.constantFrom('a', '%', '€'), minLength: 240, maxLength: 260 }),
)

describe('keys of memcached', () => {
  it('are printable ASCII of 1 to 250 bytes for every key', () => {
    fc.assert(
      fc.property(anyKey, (key) => {
        for (const wire of [wireKey(key).text, wireName(STAMP, key), wireName(CLOCK, key)])
          expect(wire).toMatch(/^[!-~]{1,250}$/)
      }),
      { numRuns: 2_000 },
    )
  })

  it('are different for different keys, and for entries and bookkeeping', () => {
    const taken = new Map<string, string>()
    const claim = (wire: string, whose: string) => {
      expect(taken.get(wire) ?? whose).toBe(whose)
      taken.set(wire, whose)
    }
    fc.assert(
      fc.property(anyKey, (key) => {
        claim(wireKey(key).text, `entry ${key}`)
        claim(wireName(STAMP, key), `stamp ${key}`)
        claim(wireName(CLOCK, key), `clock ${key}`)
      }),
      { numRuns: 5_000 },
    )
  })

  it.each([
    ['a space and its escape', 'a b', 'a%20b'],
    ['two lone surrogates', '\ud800', '\ud801'],
    ['a lone surrogate and what UTF-8 makes of it', '\ud800', '\ufffd'],
    ['the empty key and its escape', '', '%-'],
    ['a character and its escape', '€', '%u20ac'],
    ['two that differ behind 250 characters', `${'x'.repeat(300)}1`, `${'x'.repeat(300)}2`],
    ['one of 250 and one of 251 characters', 'x'.repeat(250), 'x'.repeat(251)],
  ])('tells apart %s', (_, one, other) => {
    expect(wireKey(one).text).not.toBe(wireKey(other).text)
  })

  it('leaves plain keys readable', () => {
    expect(wireKey('users:5').text).toBe('users:5')
  })
})

describe('an entry', () => {
  it('comes back as it was packed', () => {
    fc.assert(
      fc.property(
        fc.uint8Array(),
        fc.option(fc.string({ unit: 'binary' }), { nil: undefined }),
        (value, key) => {
          const lease = { id: Buffer.alloc(16, 7), until: 123.5 }
          expect(decodeEntry(encodeEntry({ value, livesUntil: 42, lease, key }), key)).toEqual({
            value: Buffer.from(value),
            livesUntil: 42,
            lease,
          })
        },
      ),
    )
  })

  it('is as large with a lease as without', () => {
    const value = bytes('value')
    const lease = { id: Buffer.alloc(16, 7), until: 1 }
    expect(encodeEntry({ value, livesUntil: 1, lease }).length).toBe(
      encodeEntry({ value, livesUntil: 1 }).length,
    )
  })

  it('is of no use for another key than it was written for, when its name is only a hash', () => {
    const packed = encodeEntry({ value: bytes('value'), livesUntil: 1, key: 'one' })
    expect(decodeEntry(packed, 'other')).toBeUndefined()
    expect(decodeEntry(packed, undefined)).toBeUndefined()
  })

  it('never throws on foreign bytes', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 100 }), fc.constantFrom(undefined, 'key'), (foreign, key) => {
        decodeEntry(Buffer.from(foreign), key)
        decodeEntry(Buffer.concat([Buffer.from([0xc5, 1]), foreign]), key)
      }),
    )
  })
})

withMemcached('keys and values in a real memcached', (bench) => {
  it('are safe at any length and content', async () => {
    const backend = bench().open()
    const nasty = [
      '',
      ' ',
      'a b',
      'a\r\nset evil 0 0 1\r\nx\r\n',
      '\0',
      'é',
      '\ud800',
      '\ufffd',
      '%',
      'x'.repeat(250),
      'x'.repeat(251),
    ]
    nasty.push('y'.repeat(100_000), `${'y'.repeat(100_000)}!`, '__proto__', '%k', '%sname', 'q'.repeat(249))
    await Promise.all(nasty.map(async (key, i) => backend.set(key, bytes(`value ${i}`), {})))
    expect((await backend.getMulti(nasty)).map((value) => text(value))).toEqual(
      nasty.map((_, i) => `value ${i}`),
    )
    expect(await backend.get('evil')).toBeUndefined()
    await backend.deleteMulti(nasty)
    expect((await backend.getMulti(nasty)).filter((value) => value !== undefined)).toEqual([])
  })

  it('returns a miss for bytes that another program wrote under the key', async () => {
    const backend = bench().open()
    await say(bench().server.port, 'set foreign 0 0 5\r\nhello')
    expect(await backend.get('foreign')).toBeUndefined()
    expect(await backend.acquire('foreign', 1_000)).toHaveProperty('token')
  })

  it('keeps empty and binary values', async () => {
    const backend = bench().open()
    const all = Buffer.from(Array.from({ length: 256 }, (_, i) => i))
    await backend.set('empty', Buffer.alloc(0), {})
    await backend.set('binary', all, {})
    expect(await backend.get('empty')).toEqual(Buffer.alloc(0))
    expect(await backend.get('binary')).toEqual(all)
  })

  it('refuses a value over the item limit, naming the limit, and leaves no older value behind', async () => {
    const backend = bench().open()
    await backend.set('big', bytes('older'), {})
    await expect(backend.set('big', Buffer.alloc(2 ** 20), {})).rejects.toMatchObject({
      code: 'ERR_VALUE_TOO_LARGE',
      message: expect.stringMatching(/limit is 1048576 bytes/),
    })
    expect(await backend.get('big')).toBeUndefined()
    expect(await backend.held('big')).toBe(false)
    // The connection goes on.
    await backend.set('big', bytes('smaller'), {})
    expect(text(await backend.get('big'))).toBe('smaller')
  })

  it('can lease a value that just fits', async () => {
    const backend = bench().open()
    const value = Buffer.alloc(2 ** 20 - 200, 1)
    expect(await backend.set('just', value, { ttl: 60_000 })).toBe('stored')
    expect(await backend.acquire('just', 1_000)).toHaveProperty('token')
    expect(value.equals((await backend.get('just')) ?? Buffer.alloc(0))).toBe(true)
  })
})

withMemcached('lifetimes in a real memcached', (bench) => {
  const left = async (key: string) =>
    Number(/t(-?\d+)/.exec(await say(bench().server.port, `mg ${key} t`))?.[1])

  it('are rounded up: half a second is not for ever, and not less', async () => {
    const backend = bench().open()
    await backend.set('half', bytes('value'), { ttl: 500 })
    expect(await left('half')).toBeGreaterThanOrEqual(1)
    expect(await left('half')).toBeLessThanOrEqual(2)
    await sleep(400)
    expect(text(await backend.get('half'))).toBe('value')
    await sleep(150)
    expect(await backend.get('half')).toBeUndefined()
  })

  it.each([
    ['a minute', 60_000, 60],
    ['30 days, where memcached begins to take seconds for dates', 30 * 86_400_000, 30 * 86_400],
    ['a second more', 30 * 86_400_000 + 1_000, 30 * 86_400 + 1],
    ['a year', 365 * 86_400_000, 365 * 86_400],
  ])('are right for %s', async (_, ttl, seconds) => {
    const backend = bench().open()
    await backend.set('lives', bytes('value'), { ttl })
    expect(await left('lives')).toBeGreaterThanOrEqual(seconds)
    expect(await left('lives')).toBeLessThanOrEqual(seconds + 3)
  })

  it('are for ever without a ttl, and beyond the largest number of memcached', async () => {
    const backend = bench().open()
    await backend.set('ever', bytes('value'), {})
    expect(await left('ever')).toBe(-1)
    await backend.set('ever', bytes('value'), { ttl: 200 * 365 * 86_400_000 })
    expect(await left('ever')).toBe(-1)
  })

  it('survive a lease in between', async () => {
    const backend = bench().open()
    await backend.set('leased', bytes('value'), { ttl: 100_000 })
    const { token } = await backend.acquire('leased', 1_000)
    expect(await left('leased')).toBeGreaterThanOrEqual(99)
    await backend.release('leased', token as string)
    expect(await left('leased')).toBeGreaterThanOrEqual(99)
    expect(await left('leased')).toBeLessThanOrEqual(102)
  })
})

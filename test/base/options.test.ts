import { describe, expect, it } from 'vitest'
import { CorralError } from '../../src/base/errors.js'
import {
  checkOptions,
  expectBoolean,
  expectFunction,
  expectInteger,
  expectMethods,
  expectOneOf,
  expectText,
  expectThat,
  rejectOptions,
  rejectUnknownOptions,
} from '../../src/base/options.js'

function messageOf(check: () => unknown): string {
  try {
    check()
  } catch (error) {
    if (CorralError.is(error, 'ERR_OPTION')) return error.message
    throw error
  }
  return 'accepted'
}

describe('a check of an option', () => {
  it('names the expectation, the value and the remedy', () => {
    expect(messageOf(() => expectThat(true, 1, 'one'))).toBe('accepted')
    expect(messageOf(() => expectThat(false, 1, 'two'))).toBe('Expected two, got `1`.')
    expect(messageOf(() => expectThat(false, [], 'a list of some', 'Give one.'))).toBe(
      'Expected a list of some, got an array. Give one.',
    )
  })

  it('accepts functions only', () => {
    expect(messageOf(() => expectFunction(() => 1, '`work`'))).toBe('accepted')
    for (const value of [undefined, null, {}, 'work'])
      expect(messageOf(() => expectFunction(value, '`work`'))).toMatch(
        'Expected `work` to be a function, got',
      )
    expect(messageOf(() => expectFunction(1, '`work`', 'a function of the key'))).toBe(
      'Expected `work` to be a function of the key, got `1`.',
    )
  })

  it('accepts text that is not empty', () => {
    expect(messageOf(() => expectText('a', '`name`'))).toBe('accepted')
    for (const value of [undefined, null, '', 5, ['a']])
      expect(messageOf(() => expectText(value, '`name`'))).toMatch('Expected `name` to be a non-empty string')
  })

  it('returns whole numbers within bounds', () => {
    expect(expectInteger(1, '`n`')).toBe(1)
    expect(expectInteger(0, '`n`', 0, 2)).toBe(0)
    expect(expectInteger(Number.POSITIVE_INFINITY, '`n`', 1, Number.POSITIVE_INFINITY)).toBe(
      Number.POSITIVE_INFINITY,
    )
    for (const value of [0, 1.5, Number.NaN, Number.POSITIVE_INFINITY, 2 ** 53, '1', 1n, null, undefined])
      expect(messageOf(() => expectInteger(value, '`n`'))).toMatch(
        'Expected `n` to be a whole number from 1 up, got',
      )
    expect(messageOf(() => expectInteger(3, '`n`', 0, 2))).toBe(
      'Expected `n` to be a whole number from 0 to 2, got `3`.',
    )
    expect(messageOf(() => expectInteger(-1, '`n`', 0, Number.POSITIVE_INFINITY))).toBe(
      'Expected `n` to be a whole number from 0 up, or Infinity, got `-1`.',
    )
  })

  it('lists the choices', () => {
    expect(messageOf(() => expectOneOf('a', '`mode`', ['a', 'b']))).toBe('accepted')
    expect(messageOf(() => expectOneOf('c', '`mode`', ['a', 'b']))).toBe(
      "Expected `mode` to be 'a' or 'b', got 'c'.",
    )
    expect(messageOf(() => expectOneOf('toString', '`mode`', ['a', 'b', 'c']))).toMatch(
      "`mode` to be 'a', 'b' or 'c', got",
    )
    expect(messageOf(() => expectOneOf('true', '`on`', [true, false]))).toBe(
      "Expected `on` to be true or false, got 'true'.",
    )
  })

  it('accepts an object with all methods', () => {
    const expected = '`clock` to have now()'
    expect(messageOf(() => expectMethods({ now() {} }, ['now'], expected))).toBe('accepted')
    for (const value of [undefined, null, {}, { now: 1 }, 5])
      expect(messageOf(() => expectMethods(value, ['now'], expected))).toMatch(`Expected ${expected}, got`)
    expect(messageOf(() => expectMethods({ now() {} }, ['now', 'then'], expected, 'Do.'))).toBe(
      `Expected ${expected}, got an object. Do.`,
    )
  })

  it('accepts booleans only', () => {
    expect(messageOf(() => expectBoolean(false, '`on`'))).toBe('accepted')
    expect(messageOf(() => expectBoolean(0, '`on`'))).toBe('Expected `on` to be true or false, got `0`.')
  })

  it('passes on a message for options that do not go together', () => {
    expect(messageOf(() => rejectOptions('Expected one, got two.'))).toBe('Expected one, got two.')
  })

  it('checks every option that is given, and no other', () => {
    const check = (options: object) =>
      messageOf(() => checkOptions(options, 'f()', { on: expectBoolean, n: expectInteger }))
    expect(check({})).toBe('accepted')
    expect(check({ on: undefined, n: 1 })).toBe('accepted')
    expect(check({ on: 1 })).toBe('Expected `on` of f() to be true or false, got `1`.')
    expect(check({ of: 1 })).toBe('Unknown option `of` of f(). It takes: on, n.')
    expect(check({ constructor: 1 })).toMatch('Unknown option `constructor` of f()')
  })

  it('refuses an option that the library does not read', () => {
    expect(messageOf(() => rejectUnknownOptions({ a: 1 }, ['a', 'b'], 'f()'))).toBe('accepted')
    expect(messageOf(() => rejectUnknownOptions({ c: 1 }, ['a', 'b'], 'f()'))).toBe(
      'Unknown option `c` of f(). It takes: a, b.',
    )
    for (const value of [null, [], 'a', undefined])
      expect(messageOf(() => rejectUnknownOptions(value as never, ['a'], 'f()'))).toMatch(
        'Expected the options of f() to be a plain object, got',
      )
  })
})

describe('null', () => {
  it('is no value of an option and not its default, except in data of the caller', () => {
    const check = (options: object) =>
      messageOf(() => rejectUnknownOptions(options, ['size', 'before', 'meta'], 'box()'))
    expect(check({ size: null })).toBe(
      'Expected a value for `size` of box(), got `null`. Leave it out to get the default.',
    )
    expect(check({ size: undefined, before: null, meta: null })).toBe('accepted')
    expect(messageOf(() => checkOptions({ size: null }, 'box()', { size: () => {} }))).toMatch(
      /a value for `size`/,
    )
  })
})

import { describe, expect, it } from 'vitest'
import { duration } from '../../src/index.js'

describe('duration()', () => {
  it.each<[string | number, number]>([
    ['250ms', 250],
    ['90s', 90_000],
    ['1.5h', 5_400_000],
    ['5m', 300_000],
    ['30d', 2_592_000_000],
    ['Infinity', Number.POSITIVE_INFINITY],
    ['infinity', Number.POSITIVE_INFINITY],
    [300, 300],
    [Number.POSITIVE_INFINITY, Number.POSITIVE_INFINITY],
  ])('of %j is %d ms', (given, expected) => {
    expect(duration(given)).toBe(expected)
  })

  it.each<[unknown, RegExp]>([
    ['300', /^Expected `duration` to carry a unit, got '300'\. Write '300s' or '300ms'\.$/],
    ['0s', /^Expected `duration` to be a duration above zero .*, got '0s'/],
    ['5 m', /with ms, s, m, h or d such as '5m'\), got '5 m'\.$/],
    ['-5m', /got '-5m'/],
    ['', /got ''/],
    [0, /got `0`/],
    [Number.NaN, /got `NaN`/],
    [undefined, /got `undefined`/],
    [5n, /got `5`/],
  ])('refuses %s', (given, message) => {
    expect(() => duration(given as never)).toThrow(
      expect.objectContaining({ code: 'ERR_OPTION', message: expect.stringMatching(message) }),
    )
  })
})

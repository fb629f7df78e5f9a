import { expect, it } from 'vitest'
import { Recovery } from '../../src/backend/recovery.js'

/** A recovery whose repetitions never end, and whether reads were misses already when copies were told of a failure. */
function recovery(max: number) {
  const told: unknown[] = []
  const never = () => new Promise<never>(() => {})
  const one = new Recovery({
    name: 'test',
    max,
    store: { deleteMulti: never, invalidate: never, dropClock: never, isUnreachable: () => true },
    hidden: {
      key: (key) => told.push([key, one.hides(key)]),
      names: (clock, names) => told.push([clock, names, one.isBlind]),
    },
  })
  one.addClock('clock')
  return { told, one }
}

it('hides what a failed invalidation leaves wrong before it tells the copies: a read in between would make one', () => {
  const { told, one } = recovery(10)
  one.failedKey('key')
  one.failedNames('clock', ['name'], 'hard')
  expect(told).toEqual([
    ['key', true],
    ['clock', ['name'], true],
  ])
  one.close()
})

it('tells the copies of a failure that it does not remember', () => {
  const [some, none] = [recovery(1), recovery(0)]
  some.one.failedKey('first')
  some.one.failedKey('second')
  none.one.failedKey('key')
  expect(some.told).toEqual([
    ['first', true],
    ['second', true],
  ])
  expect(none.told).toEqual([['key', false]])
  some.one.close()
  none.one.close()
})

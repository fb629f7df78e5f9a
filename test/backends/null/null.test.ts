import { describe, expect, it } from 'vitest'
import { nullBackend } from '../../../backends/null.js'
import { makeRegion, NO_VALUE } from '../../../src/index.js'
import { counting, held } from '../../support/stage.js'
import { idle } from '../../support/waiting.js'

const open = () => makeRegion<number>({ backend: nullBackend() })

describe('a region that is switched off', () => {
  it('accepts values and forgets them', async () => {
    const region = open()
    expect(await region.set('key', 1)).toBe('stored')
    expect(await region.get('key')).toBe(NO_VALUE)
    expect(
      await region.setMulti([
        ['a', 1],
        ['b', 2],
      ]),
    ).toEqual(['stored', 'stored'])
    expect(await region.getMulti(['a', 'b'])).toEqual([NO_VALUE, NO_VALUE])
    expect(region.peek('key')).toBe(NO_VALUE)
    expect(await region.has('key')).toBe(false)
  })

  it('removes and invalidates without complaint', async () => {
    const region = open()
    await region.delete('key')
    await region.deleteMulti(['a', 'b'])
    await region.invalidate()
    await region.invalidate('soft')
    await region.expire('key')
    expect(await region.keyIsLocked('key')).toBe(false)
  })

  it('creates each time', async () => {
    const region = open()
    const calls = counting()
    expect(await region.getOrCreate('key', calls.next)).toBe(1)
    expect(await region.getOrCreate('key', calls.next)).toBe(2)
    expect(await region.getOrCreateMulti(['a', 'b'], (keys) => keys.map(calls.next))).toEqual([3, 4])
    expect(await region.getOrCreateMulti(['a', 'b'], (keys) => keys.map(calls.next))).toEqual([5, 6])
  })

  it('calls a decorated function each time', async () => {
    const calls = counting()
    const f = open().cacheOnArguments({ namespace: 'f' })((a: number) => a + calls.next())
    expect(await f(10)).toBe(11)
    expect(await f(10)).toBe(12)
    expect(await f.refresh(10)).toBe(13)
    await f.set(50, 10)
    expect(await f.get(10)).toBe(NO_VALUE)
    await f.invalidate(10)
    expect(await f(10)).toBe(14)
  })

  it('still shares a creation between callers of the same moment', async () => {
    const region = open()
    const creator = held<number>()
    const callers = Array.from({ length: 5 }, () => region.getOrCreate('key', creator.create))
    await creator.started
    await idle()
    expect(await region.keyIsLocked('key')).toBe(true)
    creator.resolve(1)
    expect(await Promise.all(callers)).toEqual([1, 1, 1, 1, 1])
    expect(creator.runs).toBe(1)
    expect(await region.keyIsLocked('key')).toBe(false)
  })
})

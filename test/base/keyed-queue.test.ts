import { describe, expect, it } from 'vitest'
import { keyedQueue } from '../../src/base/keyed-queue.js'
import { deferred } from '../support/waiting.js'

describe('a keyed queue', () => {
  it('runs work on one key in the order of the calls', async () => {
    const queue = keyedQueue()
    const first = deferred<void>()
    const log: string[] = []
    const one = queue('a', () => first.promise.then(() => void log.push('first')))
    const two = queue('a', () => void log.push('second'))
    void queue('b', () => void log.push('of another key'))
    expect(log).toEqual(['of another key'])
    first.resolve()
    await Promise.all([one, two])
    expect(log).toEqual(['of another key', 'first', 'second'])
  })

  it('goes on after work that failed, and passes the failure to its caller alone', async () => {
    const queue = keyedQueue()
    const one = queue('a', () => Promise.reject(new Error('boom')))
    const two = queue('a', () => 2)
    await expect(one).rejects.toThrow('boom')
    await expect(two).resolves.toBe(2)
    expect(() =>
      queue('b', () => {
        throw new Error('at once')
      }),
    ).toThrow('at once')
    expect(queue('b', () => 3)).toBe(3)
  })

  it('returns plain values again once a key is idle', async () => {
    const queue = keyedQueue()
    await queue('a', async () => 1)
    await undefined
    expect(queue('a', () => 2)).toBe(2)
  })
})

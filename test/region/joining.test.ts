/** Callers of one moment share one promise. None of them may get a value that it would not have got by joining alone. */
import { describe, expect, it } from 'vitest'
import { memory } from '../../backends/memory/index.js'
import { dependencies } from '../../proxies/dependencies.js'
import { json } from '../../proxies/json.js'
import { delegate, dep, makeRegion, NO_VALUE, wrap } from '../../src/index.js'
import { afterCommit } from '../../src/signals/index.js'
import { held } from '../support/stage.js'

const over = (backend = wrap(memory(), dependencies())) =>
  makeRegion<{ n: number }>({ backend, expirationTime: '1m' })
const value = { n: 1 }

describe('callers that join a creation at one moment', () => {
  it('share one promise with the second of them, and are counted one by one', async () => {
    const region = over()
    const creator = held<{ n: number }>()
    const calls = Array.from({ length: 5 }, () => region.getOrCreate('key', creator.create))
    expect(new Set(calls).size).toBe(2)
    creator.resolve(value)
    expect(await Promise.all(calls)).toEqual(Array(5).fill(value))
    expect(region.stats()).toMatchObject({ misses: 5, joined: 4, creations: 1 })
  })

  it('all get the failure of the creator, and of the next one each its own', async () => {
    const region = over()
    const failing = () => Promise.reject(new Error('source'))
    const calls = Array.from({ length: 3 }, () => region.getOrCreate('key', failing))
    for (const outcome of await Promise.allSettled(calls)) expect(outcome.status).toBe('rejected')
    expect(await region.getOrCreate('key', () => value)).toBe(value)
  })

  it('share as calls of one cached function, and not with calls of other options', async () => {
    const region = over()
    const creator = held<{ n: number }>()
    const load = region.cacheOnArguments((_: number) => creator.create(), { namespace: 'load' })
    const [, one, two] = [load(1), load(1), load(1)]
    const others = [
      load.with({})(1),
      load.with({ signal: AbortSignal.timeout(60_000) })(1),
      load.with({ hardTimeout: '50s' })(1),
      region.getOrCreate(load.key(1), () => expect.unreachable()),
    ]
    expect(one).toBe(two)
    expect(new Set([one, ...others]).size).toBe(1 + others.length)
    creator.resolve(value)
    expect(await Promise.all([one, two, ...others])).toEqual(Array(6).fill(value))
  })

  it.each(['delete', 'invalidate', 'by name'])('do not share across an invalidation: %s', async (how) => {
    const region = over()
    const [before, after] = [held<{ n: number }>(), held<{ n: number }>()]
    const call = (create: () => Promise<{ n: number }>) =>
      region.getOrCreate('key', (creation) => {
        creation.dependsOn('key', dep.tag('t'))
        return create()
      })
    const [leader, early] = [call(before.create), call(before.create)]
    await before.started
    // The creator has read already: what these get must be stored, and so younger than every invalidation.
    const [late, later] = [call(after.create), call(after.create)]
    expect(late).toBe(later)
    expect(late).not.toBe(early)
    if (how === 'delete') await region.delete('key')
    else if (how === 'invalidate') await region.invalidate()
    else await region.invalidateDependencies(dep.tag('t'))
    const afterwards = call(after.create)
    if (how === 'delete') expect(afterwards).not.toBe(late)
    before.resolve({ n: 1 })
    expect(await Promise.all([leader, early])).toEqual([{ n: 1 }, { n: 1 }])
    await after.started
    after.resolve({ n: 2 })
    expect(await Promise.all([late, later, afterwards])).toEqual([{ n: 2 }, { n: 2 }, { n: 2 }])
  })

  it('do not share with a creator, which depends on the value, nor with a transaction', async () => {
    const region = over()
    const creator = held<{ n: number }>()
    const inner = () =>
      region.getOrCreate('part', (creation) => {
        creation.dependsOn('part', dep.tag('t'))
        return creator.create()
      })
    const leader = inner()
    await creator.started
    const plain = inner()
    const whole = region.getOrCreate('whole', async () => ({ n: 10 + (await inner()).n }))
    const alone = afterCommit(() => region.getOrCreate('part', () => ({ n: 7 })))
    creator.resolve(value)
    expect(await Promise.all([leader, plain, whole])).toEqual([value, value, { n: 11 }])
    expect(await alone).toEqual({ n: 7 })
    await region.invalidateDependencies(dep.tag('t'))
    expect(await region.get('whole')).toBe(NO_VALUE)
  })

  it('do not share while the fill is on its way, which an invalidation may overtake', async () => {
    const answer = held<void>()
    const store = wrap(memory(), (next) =>
      delegate(next, {
        async set(...write) {
          const outcome = await next.set(...write)
          await answer.create()
          return outcome
        },
      }),
    )
    const region = over(wrap(store, dependencies()))
    const creator = held<{ n: number }>()
    const call = (create: () => Promise<{ n: number }>) =>
      region.getOrCreate('key', (creation) => {
        creation.dependsOn('key', dep.tag('t'))
        return create()
      })
    const leader = call(creator.create)
    await creator.started
    const joined = call(creator.create)
    creator.resolve({ n: 1 })
    await answer.started
    await region.invalidateDependencies(dep.tag('t'))
    const after = call(async () => ({ n: 2 }))
    expect(after).not.toBe(joined)
    answer.resolve()
    expect(await Promise.all([leader, joined, after])).toEqual([{ n: 1 }, { n: 1 }, { n: 2 }])
  })

  it('get copies of their own from a store that copies', async () => {
    for (const backend of [memory({ copy: 'clone' }), wrap(memory({ stores: 'bytes' }), json())]) {
      const region = over(wrap(backend, dependencies()))
      const creator = held<{ n: number }>()
      const calls = Array.from({ length: 4 }, () => region.getOrCreate('key', creator.create))
      creator.resolve(value)
      const got = await Promise.all(calls)
      if (backend.copyOut !== undefined) expect(new Set(got).size).toBe(4)
      expect(got).toEqual(Array(4).fill(value))
    }
  })
})

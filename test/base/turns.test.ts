import { AsyncLocalStorage } from 'node:async_hooks'
import { expect, it } from 'vitest'
import { turns } from '../../src/base/turns.js'
import { deferred, idle, isPending } from '../support/waiting.js'

const refuse = (waiting: number) => new Error(`${waiting} wait`)

it('so much work runs at one time, and the rest in order', async () => {
  const inTurn = turns({ maxRunning: 2, maxWaiting: 10, refuse })
  const works = Array.from({ length: 5 }, () => deferred<number>())
  const begun: number[] = []
  const results = works.map(({ promise }, i) =>
    inTurn(() => {
      begun.push(i)
      return promise
    }),
  )
  await idle()
  expect(begun).toEqual([0, 1])
  works[1]?.resolve(1)
  await idle()
  expect(begun).toEqual([0, 1, 2])
  works[2]?.reject(new Error('no'))
  await expect(results[2]).rejects.toThrow('no')
  await idle()
  expect(begun).toEqual([0, 1, 2, 3])
  for (const [i, { resolve }] of works.entries()) resolve(i)
  expect(await Promise.all([0, 1, 3, 4].map((i) => results[i]))).toEqual([0, 1, 3, 4])
  expect(inTurn(() => 'at once')).toBe('at once')
})

it('work that goes first has its turn before the rest, and is counted by itself', async () => {
  const inTurn = turns({ maxRunning: 1, maxWaiting: 2, refuse })
  const running = deferred()
  const begun: number[] = []
  const works = [() => running.promise, ...[1, 2, 3, 4].map((i) => () => void begun.push(i))]
  const results = works.map((work, i) => inTurn(work, { goesFirst: i > 2 }))
  await expect(async () => inTurn(() => 5)).rejects.toThrow('2 wait')
  await expect(async () => inTurn(() => 5, { goesFirst: true })).rejects.toThrow('2 wait')
  running.resolve()
  await Promise.all(results)
  expect(begun).toEqual([3, 4, 1, 2])
})

it('work of more weight takes as many places, and none that comes later goes before it', async () => {
  const inTurn = turns({ maxRunning: 4, maxWaiting: 10, refuse })
  const begun: string[] = []
  const ends = new Map<string, () => void>()
  const start = (name: string, weight: number, goesFirst = false) =>
    inTurn(
      () => {
        begun.push(name)
        const { promise, resolve } = deferred<void>()
        ends.set(name, resolve)
        return promise
      },
      { weight, goesFirst },
    )
  const end = async (name: string) => {
    ends.get(name)?.()
    await idle()
    return begun.splice(0).join(' ')
  }
  const all = [start('three', 3), start('two', 2), start('one', 1), start('many', 100)]
  await idle()
  expect(begun.splice(0).join(' ')).toBe('three')
  expect(await end('three')).toBe('two one')
  all.push(start('first', 2, true))
  expect(await end('one')).toBe('first')
  expect(await end('two')).toBe('')
  expect(await end('first')).toBe('many')
  all.push(start('last', 1))
  expect(await end('many')).toBe('last')
  await end('last')
  await Promise.all(all)
})

it('work that goes first, without end, lets the rest have its turn now and then', async () => {
  const inTurn = turns({ maxRunning: 4, maxWaiting: 100, refuse })
  let begun = 0
  let isOver = false
  const renewing = Array.from({ length: 12 }, async () => {
    while (!isOver) await inTurn(async () => void (await idle(1), begun++), { goesFirst: true })
  })
  const rest = Promise.all([
    inTurn(async () => begun, { weight: 3 }),
    inTurn(async () => begun, { weight: 100 }),
    inTurn(async () => begun),
  ])
  for (const before of await rest) expect(before).toBeLessThan(100)
  isOver = true
  await Promise.all(renewing)
})

it('work that throws or is done at once makes room', async () => {
  const inTurn = turns({ maxRunning: 1, maxWaiting: 1, refuse })
  const fail = () => {
    throw new Error('at once')
  }
  expect(() => inTurn(fail)).toThrow('at once')
  const first = deferred()
  const running = inTurn(() => first.promise)
  const waiting = Promise.resolve(inTurn(fail))
  expect(await isPending(waiting)).toBe(true)
  await expect(async () => inTurn(() => 1)).rejects.toThrow('1 wait')
  first.resolve()
  await running
  await expect(waiting).rejects.toThrow('at once')
  expect(inTurn(() => 2)).toBe(2)
})

it('work goes on in the asynchronous context of its own caller', async () => {
  const tenant = new AsyncLocalStorage<number>()
  const inTurn = turns({ maxRunning: 1, maxWaiting: 10, refuse })
  const seen = [1, 2, 3].map((i) =>
    tenant.run(i, () => inTurn(async () => [tenant.getStore(), await idle(1), tenant.getStore()])),
  )
  expect(await Promise.all(seen)).toEqual([1, 2, 3].map((i) => [i, undefined, i]))
})

import { expect, it } from 'vitest'
import { type Binding, busBindings, check, excused } from './checker.js'
import type { Happened } from './events.js'

const change = (end: number, version: number, process = 0): Happened => ({
  ...{ kind: 'change', mode: 'hard', process, end, messages: ['m'] },
  of: [['d1', version]],
})
const read = (begin: number, version: number, process = 0): Happened => ({
  ...{ kind: 'read', row: 1, direct: false, fresh: false, begin, version, process },
})

it('the checker excuses only a read that disregards a change which may have died with a primary', () => {
  const changes = [change(100, 2), change(200, 3)]
  const kept: Binding = ({ end }) => (end > 150 && end < 250 ? undefined : end)
  const found = [1, 2, 3].map((version) => {
    const events = [...changes, read(300, version)]
    return [check(events).stale.length, check(events, () => ({ kept })).stale.length, excused(events, kept)]
  })
  expect(found).toEqual([
    [1, 1, 0],
    [1, 0, 1],
    [0, 0, 0],
  ])
})

it('the checker binds each process of a bus from its own moment on', () => {
  const events = [change(100, 2), { kind: 'heard', message: 'm', end: 120, process: 1 } as const]
  const stale = (...reads: Happened[]) => check([...events, ...reads], busBindings).stale
  expect(stale(read(99, 1), read(119, 1, 1), read(399, 1, 2))).toEqual([])
  expect(stale(read(101, 1))).toHaveLength(1)
  expect(stale(read(121, 1, 1))).toHaveLength(1)
  expect(stale(read(401, 1, 2))).toHaveLength(1)
  expect(stale(read(500, 2, 1))).toEqual([])
})

it('the checker holds soft changes against fresh reads alone', () => {
  const soft = { ...change(100, 2), mode: 'soft' } as Happened
  const fresh = { ...read(101, 1), fresh: true } as Happened
  expect(check([soft, read(101, 1)])).toMatchObject({ stale: [], staleAsFresh: [] })
  expect(check([soft, fresh]).staleAsFresh).toHaveLength(1)
})

import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, expect, it, vi } from 'vitest'
import { lmdb } from '../../../backends/lmdb/index.js'
import type { OpenLedger } from '../../../src/ledger/ledger.js'
import type { DependencySnapshot, LedgerTime } from '../../../src/ledger/snapshot.js'
import { validate } from '../../../src/ledger/validate.js'

const time = vi.hoisted(() => ({ ahead: 0 }))
vi.mock(import('../../../src/base/timers.js'), async (original) => {
  const timers = await original()
  return { ...timers, epochNow: () => timers.epochNow() + time.ahead }
})

const ends: (() => unknown)[] = []
afterEach(async () => {
  time.ahead = 0
  for (const end of ends.splice(0)) await end()
})

const snapshot = ({ epoch, at }: LedgerTime, ...names: string[]): DependencySnapshot => ({
  epoch,
  groups: [{ asOf: at, names }],
})

function opened(options = {}): OpenLedger {
  const folder = mkdtempSync(join(tmpdir(), 'corral-pending-'))
  const backend = lmdb(join(folder, 'data'), options)
  ends.push(async () => {
    await backend.close()
    rmSync(folder, { recursive: true, force: true })
  })
  if (backend.ledger === undefined) throw new Error('Expected a ledger')
  return backend.ledger.open('clock')
}

it('the marks of a transaction that died end by themselves, which invalidates what was created under them', async () => {
  const on = opened({ pendingFor: '1h' })
  expect(await on.pending?.(['a'], 'hard', 'died')).toBe(3_600_000)
  const during = snapshot(await on.now(['a']), 'a')
  expect(await validate(on, during)).toBe('invalid')
  time.ahead = 3_600_000
  expect(await validate(on, during)).toBe('invalid')
  expect(await validate(on, snapshot(await on.now(['a']), 'a'))).toBe('fresh')
  expect(await validate(on, during)).toBe('invalid')
  await on.invalidate(['a'], 'soft')
  expect(await validate(on, during)).toBe('invalid')
  expect(await validate(on, snapshot(await on.now(['a']), 'a'))).toBe('fresh')
})

it('a mark that expires leaves those of transactions that live', async () => {
  const on = opened({ pendingFor: '1h' })
  await on.pending?.(['a', 'b'], 'hard', 'died')
  time.ahead = 1_800_000
  await on.pending?.(['b'], 'hard', 'lives')
  time.ahead = 3_600_000
  expect(await validate(on, snapshot(await on.now(['a', 'b']), 'b'))).toBe('invalid')
  await on.invalidate(['b'], 'hard', 'lives')
  expect(await validate(on, snapshot(await on.now(['a', 'b']), 'a', 'b'))).toBe('fresh')
})

const HOUR = 3_600_000

it.each([
  ['before it was asked again', false],
  ['and a creation began before that', true],
])(
  'a mark that was set while the clock was ahead ends after its life, once that is set back (%s)',
  async (_, during) => {
    const on = opened({ pendingFor: '1m' })
    time.ahead = HOUR
    await on.pending?.(['a'], 'hard', 'died')
    const old = snapshot(await on.now(['a']), 'a')
    time.ahead = 0
    if (during) expect(await validate(on, snapshot(await on.now(['a']), 'a'))).toBe('invalid')
    else await on.invalidate(['b'], 'hard')
    // Its transaction may go on: it lives for a minute from now on.
    time.ahead = 59_000
    expect(await validate(on, snapshot(await on.now(['a']), 'a'))).toBe('invalid')
    time.ahead = 62_000
    const later = snapshot(await on.now(['a', 'b']), 'a', 'b')
    expect(await validate(on, later)).toBe('fresh')
    expect(await validate(on, old)).toBe('invalid')
    await on.invalidate(['b'], 'hard')
    expect(await validate(on, snapshot(await on.now(['a']), 'a'))).toBe('fresh')
    expect(await validate(on, old)).toBe('invalid')
  },
)

it('a mark lives for its life, though the clock of the ledger is ahead of the time of day', async () => {
  const on = opened({ pendingFor: '1m' })
  time.ahead = HOUR
  await on.invalidate(['b'], 'hard')
  time.ahead = 0
  await on.pending?.(['a'], 'hard', 'died')
  await on.pending?.(['c'], 'soft', 'committed')
  await on.invalidate(['c'], 'soft', 'committed')
  const during = snapshot(await on.now(['a']), 'a')
  time.ahead = 59_000
  expect(await validate(on, snapshot(await on.now(['a']), 'a'))).toBe('invalid')
  time.ahead = 62_000
  // It ends with the next invalidation, or the next creation.
  await on.invalidate(['b'], 'hard')
  expect(await validate(on, snapshot(await on.now(['a', 'c']), 'a', 'c'))).toBe('fresh')
  expect(await validate(on, during)).toBe('invalid')
})

it('a mark that is over ends none that lives, though the clock of the ledger is ahead', async () => {
  const on = opened({ pendingFor: '1m' })
  time.ahead = HOUR
  await on.pending?.(['a'], 'hard', 'died')
  time.ahead = 0
  await on.now([])
  time.ahead = 30_000
  await on.pending?.(['b'], 'hard', 'lives')
  time.ahead = 62_000
  const during = snapshot(await on.now(['a', 'b']), 'b')
  for (const _ of [1, 2, 3]) await on.invalidate(['c'], 'hard')
  expect(await validate(on, snapshot(await on.now(['b']), 'b'))).toBe('invalid')
  time.ahead = 92_000
  expect(await validate(on, snapshot(await on.now(['a', 'b']), 'a', 'b'))).toBe('fresh')
  expect(await validate(on, during)).toBe('invalid')
})

it('a mark that was set while the clock was behind lives on once that is set right', async () => {
  const on = opened({ pendingFor: '1m' })
  await on.invalidate(['b'], 'hard')
  time.ahead = -HOUR
  await on.pending?.(['a'], 'hard', 'lives')
  for (time.ahead = 0; time.ahead < 60_000; time.ahead += 29_000)
    expect(await validate(on, snapshot(await on.now(['a']), 'a'))).toBe('invalid')
  time.ahead = 62_000
  expect(await validate(on, snapshot(await on.now(['a']), 'a'))).toBe('fresh')
})

it.each([-500, 100])('so it does if the clock is set to %i ms of the last invalidation', async (to) => {
  const on = opened({ pendingFor: '1m' })
  await on.invalidate(['b'], 'hard')
  time.ahead = -HOUR
  await on.pending?.(['a'], 'hard', 'lives')
  time.ahead = to
  expect(await validate(on, snapshot(await on.now(['a']), 'a'))).toBe('invalid')
})

it('a mark that was set while the clock was ahead ends with its transaction', async () => {
  const on = opened({ pendingFor: '1m' })
  time.ahead = HOUR
  await on.pending?.(['a'], 'hard', 'lives')
  time.ahead = 0
  const during = snapshot(await on.now(['a']), 'a')
  await on.invalidate(['a'], 'hard', 'lives')
  expect(await validate(on, during)).toBe('invalid')
  expect(await validate(on, snapshot(await on.now(['a']), 'a'))).toBe('fresh')
})

it('names are marked by default, and not with `pendingFor: false`', () => {
  expect(opened().pending).toBeDefined()
  expect(opened({ pendingFor: false }).pending).toBeUndefined()
})

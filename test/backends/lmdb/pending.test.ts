import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, expect, it, vi } from 'vitest'
import { openPath } from '../../../backends/lmdb/client/open-file.js'
import { dropOldStamps } from '../../../backends/lmdb/client/stamps.js'
import { openStore } from '../../../backends/lmdb/client/store.js'
import { lmdb } from '../../../backends/lmdb/index.js'
import { fileLedger } from '../../../backends/lmdb/ledger.js'
import type { OpenLedger } from '../../../src/ledger/ledger.js'
import type { DependencySnapshot, LedgerTime } from '../../../src/ledger/snapshot.js'
import { validate } from '../../../src/ledger/validate.js'

/** ms by which the time of day is set forward, and for which the machine ran. */
const time = vi.hoisted(() => ({ ahead: 0, passed: 0 }))
vi.mock(import('../../../src/base/timers.js'), async (original) => {
  const timers = await original()
  return { ...timers, epochNow: () => timers.epochNow() + time.ahead + time.passed }
})
vi.mock(import('../../../backends/lmdb/client/machine-clock.js'), async (original) => {
  const { machineNow } = await original()
  return { machineNow: () => machineNow() + time.passed }
})

const ends: (() => unknown)[] = []
afterEach(async () => {
  time.ahead = time.passed = 0
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
  time.passed = 3_600_000
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
  time.passed = 1_800_000
  await on.pending?.(['b'], 'hard', 'lives')
  time.passed = 3_600_000
  expect(await validate(on, snapshot(await on.now(['a', 'b']), 'b'))).toBe('invalid')
  await on.invalidate(['b'], 'hard', 'lives')
  expect(await validate(on, snapshot(await on.now(['a', 'b']), 'a', 'b'))).toBe('fresh')
})

const HOUR = 3_600_000
const MINUTE = 60_000

/** Ways to set the time of day while a mark lives. */
const STEPS: readonly [name: string, before: number, after: number][] = [
  ['stays', 0, 0],
  ['is set forward', 0, HOUR],
  ['was behind and is set right', -HOUR, 0],
  ['was ahead and is set back', HOUR, 0],
]

it.each(STEPS)(
  'a mark lives for its life, and no longer, where the time of day %s',
  async (_, before, after) => {
    const on = opened({ pendingFor: '1m' })
    await on.invalidate(['b'], 'hard')
    time.ahead = before
    await on.pending?.(['a'], 'hard', 'died')
    const during = snapshot(await on.now(['a']), 'a')
    time.ahead = after
    for (time.passed = 0; time.passed < MINUTE; time.passed += 29_000) {
      expect(await validate(on, snapshot(await on.now(['a']), 'a'))).toBe('invalid')
      // Invalidations move the clock, but not to the end of the mark.
      for (const _ of [1, 2, 3]) await on.invalidate(['b'], 'hard')
      expect(await validate(on, snapshot(await on.now(['a']), 'a'))).toBe('invalid')
    }
    time.passed = MINUTE
    expect(await validate(on, snapshot(await on.now(['a', 'b']), 'a', 'b'))).toBe('fresh')
    expect(await validate(on, during)).toBe('invalid')
  },
)

it.each(STEPS)(
  'a mark that is over ends none that lives, where the time of day %s',
  async (_, before, after) => {
    const on = opened({ pendingFor: '1m' })
    time.ahead = before
    await on.pending?.(['a'], 'hard', 'died')
    time.ahead = after
    time.passed = 30_000
    await on.pending?.(['b'], 'hard', 'lives')
    time.passed = 62_000
    const during = snapshot(await on.now(['a', 'b']), 'b')
    for (const _ of [1, 2, 3]) await on.invalidate(['c'], 'hard')
    expect(await validate(on, snapshot(await on.now(['b']), 'b'))).toBe('invalid')
    // The clock has come to the end of the other one.
    expect(await validate(on, snapshot(await on.now(['a']), 'a'))).toBe('fresh')
    time.passed = 92_000
    expect(await validate(on, snapshot(await on.now(['a', 'b']), 'a', 'b'))).toBe('fresh')
    expect(await validate(on, during)).toBe('invalid')
  },
)

it('a mark ends with its transaction, where the time of day was ahead and is set back', async () => {
  const on = opened({ pendingFor: '1m' })
  time.ahead = HOUR
  await on.pending?.(['a'], 'hard', 'lives')
  time.ahead = 0
  const during = snapshot(await on.now(['a']), 'a')
  await on.invalidate(['a'], 'hard', 'lives')
  expect(await validate(on, during)).toBe('invalid')
  expect(await validate(on, snapshot(await on.now(['a']), 'a'))).toBe('fresh')
})

it('a mark ends with the machine, whose clock begins anew', async () => {
  const on = opened({ pendingFor: '1m' })
  await on.pending?.(['a'], 'hard', 'died')
  const during = snapshot(await on.now(['a']), 'a')
  time.passed = -1_000
  expect(await validate(on, snapshot(await on.now(['a']), 'a'))).toBe('fresh')
  expect(await validate(on, during)).toBe('invalid')
})

it('the stamp of a marked name stays while its mark lives, where the time of day is set forward', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'corral-pending-'))
  const { entries, bookkeeping, close } = openPath(join(folder, 'data'), { timeout: 10_000 })
  const store = openStore(entries, bookkeeping, 10_000)
  ends.push(async () => {
    await close()
    rmSync(folder, { recursive: true, force: true })
  })
  const ledger = fileLedger(store, MINUTE, () => {})
  const on = ledger.open('clock')
  await on.pending?.(['a'], 'hard', 'lives')
  time.ahead = HOUR
  await ledger.open('other').invalidate(['b', 'c', 'd'], 'hard')
  await dropOldStamps(store)
  await on.invalidate(['b'], 'hard')
  expect(await validate(on, snapshot(await on.now(['a']), 'a'))).toBe('invalid')
})

it('names are marked by default, and not with `pendingFor: false`', () => {
  expect(opened().pending).toBeDefined()
  expect(opened({ pendingFor: false }).pending).toBeUndefined()
})

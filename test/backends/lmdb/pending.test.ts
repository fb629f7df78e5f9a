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

it('names are marked by default, and not with `pendingFor: false`', () => {
  expect(opened().pending).toBeDefined()
  expect(opened({ pendingFor: false }).pending).toBeUndefined()
})

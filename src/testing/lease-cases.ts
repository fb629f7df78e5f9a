import assert from 'node:assert/strict'
import type { Backend } from '../backend/backend.js'
import { delay } from '../base/timers.js'
import {
  type Bodies,
  busy,
  type Case,
  casesOf,
  granted,
  inTime,
  same,
  stopwatch,
  writesOf,
} from './context.js'

/** Ways in which a lease ends, each of which must wake the waiters. */
type Ending = <T>(backend: Backend<T>, token: string, value: T) => unknown

const ENDINGS: Readonly<Record<string, Ending>> = {
  'is filled': (backend, token, value) => backend.set('key', value, { token }),
  'is filled in a batch': (backend, token, value) => backend.setMulti([['key', value, { token }]]),
  'is released': (backend, token) => backend.release('key', token),
  'is kept after a failure': (backend, token) => backend.release('key', token, { failedFor: 10_000 }),
  'is revoked by a write': (backend, _, value) => backend.set('key', value, {}),
  'is revoked by a deletion': (backend) => backend.delete('key'),
  'is revoked by a batch of deletions': (backend) => backend.deleteMulti(['other', 'key']),
  'is stolen': (backend) => backend.acquire('key', 10_000, { steal: true }),
}

const wakes: readonly Case[] = Object.entries(ENDINGS).map(([how, end]) => ({
  name: `a waiter is woken when its lease ${how}`,
  async run({ backend, values: [value] }) {
    const token = await granted(backend, 'key')
    const waits = [await busy(backend, 'key'), await busy(backend, 'key')]
    let woken = false
    void waits[0]?.settled.then(() => {
      woken = true
    })
    await delay(5)
    assert.equal(woken, false, 'no waiter is woken while it is held')
    await end(backend, token, value)
    await inTime(Promise.all(waits.map(({ settled }) => settled)), `waking up when a lease ${how}`)
  },
}))

const holding: Bodies = {
  async 'a free lease is granted, with a token'({ backend }) {
    await granted(backend, 'key')
  },
  async 'a token is unique for each grant'({ backend }) {
    const tokens = new Set<string>()
    for (let round = 0; round < 20; round++) {
      const token = await granted(backend, 'key')
      tokens.add(token)
      await backend.release('key', token)
      tokens.add(await granted(backend, `other ${round}`))
    }
    assert.equal(tokens.size, 40)
  },
  async 'a lease has one holder at a time'({ backend }) {
    await granted(backend, 'key', 5_000)
    const { remaining, settled } = await busy(backend, 'key')
    assert.ok(remaining > 0 && remaining <= 10_000, `Expected 0 < remaining ≤ ms, got ${remaining}.`)
    assert.equal(typeof settled.then, 'function')
  },
  async 'of many callers that request a lease at once, one is granted it'({ backend }) {
    const answers = await Promise.all(Array.from({ length: 20 }, async () => backend.acquire('key', 10_000)))
    assert.equal(answers.filter(({ token }) => token !== undefined).length, 1)
  },
  async 'leases of different keys do not meet'({ backend }) {
    const a = await granted(backend, 'a')
    const b = await granted(backend, 'b')
    assert.equal(await backend.release('a', b), false)
    assert.equal(await backend.release('a', a), true)
    assert.equal(await backend.held('b'), true)
  },
  async 'asking whether a lease is held does not take it'({ backend }) {
    assert.equal(await backend.held('key'), false)
    assert.equal(await backend.held('key'), false)
    const token = await granted(backend, 'key')
    assert.equal(await backend.held('key'), true)
    assert.equal(await backend.held('key'), true)
    await backend.release('key', token)
    assert.equal(await backend.held('key'), false)
  },
  async 'a lease neither shows nor hides the value of its key'({ backend, values: [value] }) {
    await backend.set('key', value, {})
    const token = await granted(backend, 'key')
    same(await backend.get('key'), value)
    await backend.release('key', token)
    same(await backend.get('key'), value)
    await granted(backend, 'absent')
    same(await backend.get('absent'), undefined)
    same(await backend.getMulti(['key', 'absent']), [value, undefined])
  },
  async 'a lease is released once, by its token only'({ backend }) {
    const token = await granted(backend, 'key')
    assert.equal(await backend.release('key', `${token}x`), false)
    assert.equal(await backend.release('key', ''), false)
    assert.equal(await backend.held('key'), true)
    assert.equal(await backend.release('key', token), true)
    assert.equal(await backend.release('key', token), false)
    await granted(backend, 'key')
    assert.equal(await backend.release('key', token), false, 'nor when another caller holds it')
    assert.equal(await backend.held('key'), true)
  },
  async 'a lease is renewed by its token only'({ backend, ttlResolution }) {
    const passed = stopwatch()
    const token = await granted(backend, 'key', ttlResolution * 4)
    assert.equal(await backend.renew('key', `${token}x`, 10_000), false)
    assert.equal(await backend.renew('free', token, 10_000), false)
    assert.equal(await backend.held('free'), false)
    const renewed = await backend.renew('key', token, 3_600_000)
    if (passed() >= ttlResolution * 3) return
    assert.equal(renewed, true)
    await delay(ttlResolution * 6)
    assert.equal(await backend.held('key'), true, 'a renewed lease lives on')
    assert.equal(await backend.release('key', token), true)
    assert.equal(await backend.renew('key', token, 10_000), false, 'a released lease cannot be renewed')
  },
  async 'a lease that nobody renews expires, and its token is worth nothing'({
    backend,
    values: [one, other],
    ttlResolution,
  }) {
    const token = await granted(backend, 'key', ttlResolution * 2)
    await delay(ttlResolution * 5)
    assert.equal(await backend.held('key'), false)
    assert.equal(await backend.renew('key', token, 10_000), false)
    assert.equal(await backend.release('key', token), false)
    assert.equal(await backend.set('key', one, { token }), 'lost')
    same(await backend.get('key'), undefined)
    const next = await granted(backend, 'key')
    assert.equal(await backend.set('key', one, { token }), 'lost')
    assert.equal(await backend.set('key', other, { token: next }), 'stored')
    same(await backend.get('key'), other)
  },
  async 'a waiter is woken when its lease expires'({ backend, ttlResolution }) {
    const passed = stopwatch()
    await granted(backend, 'key', ttlResolution * 3)
    const answer = await backend.acquire('key', 10_000)
    if (passed() >= ttlResolution * 2) return
    if (answer.token !== undefined) assert.fail('Expected the lease to be held.')
    await inTime(answer.settled, 'waking up when a lease expires')
    await granted(backend, 'key')
  },
}

const theftAndFills: Bodies = {
  async 'a lease can be stolen, which voids the token of its holder'({ backend, values: [one, other] }) {
    const token = await granted(backend, 'key')
    const thief = await granted(backend, 'key', 10_000, true)
    assert.notEqual(thief, token)
    assert.equal(await backend.renew('key', token, 10_000), false)
    assert.equal(await backend.release('key', token), false)
    assert.equal(await backend.set('key', one, { token }), 'lost')
    same(await backend.get('key'), undefined)
    assert.equal(await backend.held('key'), true)
    assert.equal(await backend.set('key', other, { token: thief }), 'stored')
    same(await backend.get('key'), other)
  },
  async 'a free lease can be stolen too'({ backend, values: [value] }) {
    const thief = await granted(backend, 'key', 10_000, true)
    assert.equal(await backend.set('key', value, { token: thief }), 'stored')
    same(await backend.get('key'), value)
  },
  async 'a fill stores its value and ends the lease'({ backend, values: [value] }) {
    const token = await granted(backend, 'key')
    assert.equal(await backend.set('key', value, { token }), 'stored')
    same(await backend.get('key'), value)
    assert.equal(await backend.held('key'), false)
    await granted(backend, 'key')
  },
  async 'a token fills once'({ backend, values: [one, other] }) {
    const token = await granted(backend, 'key')
    await backend.set('key', one, { token })
    assert.equal(await backend.set('key', other, { token }), 'lost')
    same(await backend.get('key'), one)
    await granted(backend, 'key')
    assert.equal(await backend.set('key', other, { token }), 'lost', 'nor under the next lease')
    same(await backend.get('key'), one)
  },
  async 'a fill keeps its lifetime'({ backend, values: [value], ttlResolution }) {
    const token = await granted(backend, 'key')
    const passed = stopwatch()
    await backend.set('key', value, { token, ttl: ttlResolution * 3 })
    const before = await backend.get('key')
    if (passed() < ttlResolution * 2) same(before, value)
    await delay(ttlResolution * 5)
    same(await backend.get('key'), undefined)
  },
}

/** For stores that know `ifAbsent`. */
const absences: Bodies = {
  async 'with `ifAbsent` an absent key is leased'({ backend, values: [value] }) {
    if (backend.ifAbsentFrom === undefined) return
    const { token } = await backend.acquire('key', 10_000, { ifAbsent: true })
    assert.ok(token, 'Expected the lease to be granted.')
    assert.equal((await backend.acquire('key', 10_000, { ifAbsent: true })).token, undefined)
    assert.equal(await backend.set('key', value, { token }), 'stored')
    same(await backend.get('key'), value)
  },
  async 'with `ifAbsent` an entry is brought, and no lease is taken or voided'({
    backend,
    values: [one, other],
  }) {
    if (backend.ifAbsentFrom === undefined) return
    await backend.set('key', one, {})
    const brought = await backend.acquire('key', 10_000, { ifAbsent: true })
    if (brought.token === undefined) assert.fail('Expected an entry, got a lease that is held.')
    assert.equal(brought.token, '')
    same(brought.found, one)
    assert.equal(await backend.held('key'), false)
    const token = await granted(backend, 'key')
    same(await backend.acquire('key', 10_000, { ifAbsent: true }), brought)
    assert.equal(await backend.set('key', other, { token }), 'stored')
  },
}

/** Ways in which a lease is revoked. Each returns the value that it leaves under the key. */
type Revocation = <T>(backend: Backend<T>, value: T) => Promise<unknown>

const REVOCATIONS: Readonly<Record<string, Revocation>> = {
  async 'a deletion, and leaves a miss'(backend) {
    await backend.delete('key')
  },
  async 'a deletion in a batch, and leaves a miss'(backend) {
    await backend.deleteMulti(['other', 'key'])
  },
  async 'a write, and leaves the written value'(backend, value) {
    await backend.set('key', value, {})
    return value
  },
  async 'a write in a batch, and leaves the written value'(backend, value) {
    await backend.setMulti(writesOf({ other: value, key: value }))
    return value
  },
}

const revoked: readonly Case[] = Object.entries(REVOCATIONS).map(([how, revoke]) => ({
  name: `a fill is lost after ${how}`,
  async run({ backend, values: [one, other] }) {
    const token = await granted(backend, 'key')
    const left = await revoke(backend, one)
    assert.equal(await backend.held('key'), false)
    assert.equal(await backend.set('key', other, { token }), 'lost')
    same(await backend.get('key'), left)
  },
}))

const lostFills: Bodies = {
  async 'a fill is lost when another caller was granted the lease meanwhile'({
    backend,
    values: [one, other],
  }) {
    const token = await granted(backend, 'key')
    await backend.delete('key')
    const next = await granted(backend, 'key')
    assert.equal(await backend.set('key', one, { token }), 'lost')
    same(await backend.get('key'), undefined)
    assert.equal(await backend.held('key'), true, 'a lost fill leaves the lease of others')
    assert.equal(await backend.set('key', other, { token: next }), 'stored')
    same(await backend.get('key'), other)
  },
  async 'a token fills its own key only'({ backend, values: [one, other] }) {
    const a = await granted(backend, 'a')
    const b = await granted(backend, 'b')
    assert.equal(await backend.set('a', one, { token: b }), 'lost')
    assert.equal(await backend.set('c', one, { token: a }), 'lost')
    same(await backend.getMulti(['a', 'c']), [undefined, undefined])
    assert.equal(await backend.set('a', one, { token: a }), 'stored')
    assert.equal(await backend.set('b', other, { token: b }), 'stored')
  },
  async 'a token that was never granted fills nothing'({ backend, values: [one, other] }) {
    assert.equal(await backend.set('key', one, { token: 'invented' }), 'lost')
    assert.equal(await backend.set('key', one, { token: '' }), 'lost')
    same(await backend.get('key'), undefined)
    await backend.set('key', other, {})
    assert.equal(await backend.set('key', one, { token: 'invented' }), 'lost')
    same(await backend.get('key'), other)
  },
  async 'a batch of writes answers an outcome of its own for each'({ backend, values: [one, other] }) {
    const stored = await granted(backend, 'filled')
    const lost = await granted(backend, 'deleted')
    await backend.delete('deleted')
    const overwritten = await granted(backend, 'overwritten')
    await backend.set('overwritten', one, {})
    await granted(backend, 'revoked')
    const outcomes = await backend.setMulti([
      ['filled', other, { token: stored }],
      ['deleted', other, { token: lost }],
      ['plain', other, {}],
      ['overwritten', other, { token: overwritten }],
      ['revoked', other, {}],
    ])
    same(outcomes, ['stored', 'lost', 'stored', 'lost', 'stored'])
    const read = await backend.getMulti(['filled', 'deleted', 'plain', 'overwritten', 'revoked'])
    same(read, [other, undefined, other, one, other])
    assert.equal(await backend.held('filled'), false)
    assert.equal(await backend.held('revoked'), false)
  },
  async 'releasing one’s lease and asking again can be done over and over'({ backend, values: [value] }) {
    for (let round = 0; round < 30; round++) {
      const token = await granted(backend, 'key')
      if (round % 3 === 0) assert.equal(await backend.release('key', token), true)
      else if (round % 3 === 1) assert.equal(await backend.set('key', value, { token }), 'stored')
      else await backend.delete('key')
    }
    assert.equal(await backend.held('key'), false)
  },
}

/** A lease that was kept after a failure. */
async function failed<T>(backend: Backend<T>, failedAsOf?: number): Promise<string> {
  const token = await granted(backend, 'key')
  assert.equal(await backend.release('key', token, { failedFor: 10_000, failedAsOf }), true)
  return token
}

const failures: Bodies = {
  async 'a lease kept after a failure is denied at once, and has no holder'({ backend, values: [value] }) {
    await backend.set('key', value, {})
    const token = await failed(backend, 5)
    assert.equal(await backend.held('key'), false)
    const { remaining, settled, failure } = await busy(backend, 'key')
    assert.ok(remaining > 0 && remaining <= 10_000, `Expected 0 < remaining ≤ failedFor, got ${remaining}.`)
    assert.deepEqual(failure, { failedAsOf: 5 })
    await inTime(settled, 'a lease without a holder, for which no caller needs to wait,')
    same(await backend.get('key'), value)
    assert.equal(await backend.renew('key', token, 10_000), false)
    assert.equal(await backend.release('key', token), false)
    assert.equal(await backend.set('key', value, { token }), 'lost')
    assert.ok((await busy(backend, 'key')).failure !== undefined)
  },
  async 'the time of a failure is kept exactly, or absent'({ backend }) {
    for (const failedAsOf of [undefined, 0, 1_764_486_000_123_456, 1_764_486_000_123.456]) {
      await failed(backend, failedAsOf)
      assert.equal((await busy(backend, 'key')).failure?.failedAsOf, failedAsOf)
      await backend.delete('key')
    }
  },
  async 'a lease kept after a failure can be taken over, and stolen'({ backend, values: [value] }) {
    await failed(backend)
    const over = await backend.acquire('key', 10_000, { overFailed: Number.POSITIVE_INFINITY })
    if (over.token === undefined) assert.fail('Expected the lease to be granted.')
    const denied = await backend.acquire('key', 10_000, { overFailed: Number.POSITIVE_INFINITY })
    assert.equal(denied.token, undefined, 'a lease with a holder is not taken over')
    assert.equal(await backend.set('key', value, { token: over.token }), 'stored')
    await failed(backend)
    await granted(backend, 'key', 10_000, true)
    assert.equal(await backend.held('key'), true)
  },
  async 'a lease kept after a failure is taken over only if that creation began by the time that is given'({
    backend,
  }) {
    const at = 1_764_486_000_123_456
    await failed(backend, at)
    const denied = await backend.acquire('key', 10_000, { overFailed: at - 1 })
    assert.equal(denied.token, undefined)
    const over = await backend.acquire('key', 10_000, { overFailed: at })
    assert.ok(over.token !== undefined, 'Expected the lease to be granted.')
  },
  async 'a lease kept after a failure expires'({ backend, ttlResolution }) {
    const token = await granted(backend, 'key')
    await backend.release('key', token, { failedFor: ttlResolution * 2 })
    await delay(ttlResolution * 5)
    await granted(backend, 'key')
  },
  async 'a lease is kept after a failure by its token only'({ backend }) {
    const token = await granted(backend, 'key')
    await backend.delete('key')
    assert.equal(await backend.release('key', token, { failedFor: 10_000 }), false)
    await granted(backend, 'key')
    assert.equal(await backend.release('key', token, { failedFor: 10_000 }), false)
    assert.equal(await backend.held('key'), true)
  },
}

const revokedFailures: readonly Case[] = Object.entries(REVOCATIONS).map(([how, revoke]) => ({
  name: `a lease kept after a failure is free after ${how}`,
  async run({ backend, values: [value] }) {
    await failed(backend)
    await revoke(backend, value)
    await granted(backend, 'key')
  },
}))

export const leaseCases: readonly Case[] = [
  ...casesOf(holding),
  ...wakes,
  ...casesOf(theftAndFills),
  ...casesOf(absences),
  ...revoked,
  ...casesOf(lostFills),
  ...casesOf(failures),
  ...revokedFailures,
]

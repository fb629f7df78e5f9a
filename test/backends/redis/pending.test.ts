import { expect, it } from 'vitest'
import { clockKeys, stampKey } from '../../../backends/redis/format.js'
import { redis } from '../../../backends/redis/index.js'
import type { DependencySnapshot, LedgerTime } from '../../../src/ledger/snapshot.js'
import { faultProxy } from '../../support/faultproxy.js'
import { judge } from '../../support/ledgers.js'
import { sleep } from '../../support/waiting.js'
import type { Deployment } from './deployments.js'
import { everywhere, freshKey } from './suite.js'

const snapshot = ({ epoch, at }: LedgerTime, ...names: string[]): DependencySnapshot => ({
  epoch,
  groups: [{ asOf: at, names }],
})

function opened(at: Deployment, options: object = {}) {
  const { ledger } = at.open(options)
  if (ledger === undefined) throw new Error('Expected a ledger')
  const clock = freshKey('clock')
  return { ledger, clock, on: ledger.open(clock), name: freshKey('name') }
}

/** The marks of a transaction whose process died come to their end: the records say so, instead of a long wait. */
async function expire({ admin }: Deployment, clock: string, name: string): Promise<void> {
  const keys = clockKeys(clock)
  const [, n] = /:(\d+)$/.exec((await admin.get(keys.clock)) ?? '') ?? []
  const end = `${Number(n) + 1}`
  const stamp = stampKey(clock, name)
  const text = (await admin.get(stamp)) ?? ''
  const [marked] = text.split(' ')
  await admin.set(stamp, text.replaceAll(marked as string, end))
  for (const member of await admin.zrange(keys.pending, '0', '-1'))
    await admin.zadd(keys.pending, end, `${member}`)
}

everywhere('names that a transaction marks', (at) => {
  it('end by themselves, which invalidates what was created under the mark', async () => {
    const { ledger, clock, on, name } = opened(at(), { pendingFor: '1h' })
    expect(await on.pending?.([name], 'hard', 'died')).toBe(3_600_000)
    const during = snapshot(await on.now([name]), name)
    const late = await on.now([])
    expect(await judge(ledger, clock, during)).toBe('invalid')
    await expire(at(), clock, name)
    expect(await judge(ledger, clock, during)).toBe('invalid')
    const since = snapshot(await on.now([name]), name)
    expect(await judge(ledger, clock, since)).toBe('fresh')
    expect(await judge(ledger, clock, during)).toBe('invalid')
    expect(await judge(ledger, clock, snapshot(late, name))).toBe('invalid')
    // What is left of the mark is folded into the stamp by the next invalidation.
    await on.invalidate([name], 'soft')
    expect(await at().admin.get(stampKey(clock, name))).toMatch(/^\d+ \d+$/)
    expect(await at().admin.zcard(clockKeys(clock).pending)).toBe(0)
  })

  it('leave no trace once their transaction has ended', async () => {
    const { on, clock, name } = opened(at(), { pendingFor: '1h' })
    await on.pending?.([name], 'hard', 'one')
    await on.pending?.([name], 'soft', 'two')
    await on.invalidate([name], 'hard', 'one')
    await on.invalidate([name], 'soft', 'two')
    expect(await at().admin.get(stampKey(clock, name))).toMatch(/^\d+ \d+$/)
    expect(await at().admin.exists(clockKeys(clock).pending)).toBe(0)
    expect(await at().admin.pttl(stampKey(clock, name))).toBeGreaterThan(0)
  })

  it('count until each slice of a long list has ended its own', async () => {
    const { ledger, clock, on, name } = opened(at(), { pendingFor: '1h' })
    const [first, last] = [`${name} first`, `${name} last`]
    await on.pending?.([first, last], 'hard', 'one')
    await on.invalidate([first], 'hard', 'one')
    // Between the slices the transaction is over, and the mark of the last name is not.
    const between = snapshot(await on.now([last]), last)
    expect(await judge(ledger, clock, between)).toBe('invalid')
    expect(await judge(ledger, clock, snapshot(await on.now([first]), first))).toBe('fresh')
    await on.invalidate([last], 'hard', 'one')
    expect(await judge(ledger, clock, between)).toBe('invalid')
    expect(await judge(ledger, clock, snapshot(await on.now([last]), last))).toBe('fresh')
  })

  it('wait for a connection that is lost, but no longer than one timeout after its loss', async () => {
    // The proxy needs no names of nodes, keys or passwords.
    if (Object.keys(at().where).join() !== 'url' || !/^redis:\/\/[^@]+$/.test(at().where.url ?? '')) return
    const proxy = await faultProxy({ port: at().servers[0]?.port ?? 0 })
    const backend = redis({ url: `redis://127.0.0.1:${proxy.port}`, timeout: 1_500 })
    const on = backend.ledger?.open(freshKey('clock'))
    try {
      await on?.pending?.(['a'], 'hard', 'one')
      proxy.set({ kind: 'refuse' })
      proxy.reset()
      const duringTheBlip = on?.pending?.(['a'], 'hard', 'two')
      await sleep(50)
      proxy.set({ kind: 'none' })
      expect(await duringTheBlip).toBeGreaterThan(0)
      proxy.set({ kind: 'refuse' })
      proxy.reset()
      await expect(on?.pending?.(['a'], 'hard', 'three')).rejects.toThrow()
      // The loss may have been heard of a moment after the third began.
      await sleep(100)
      // At once: it names the loss, where a command that had waited names its deadline.
      await expect(on?.pending?.(['a'], 'hard', 'four')).rejects.toMatchObject({ code: 'ERR_UNAVAILABLE' })
    } finally {
      proxy.set({ kind: 'none' })
      await backend.close()
      await proxy.close()
    }
  })

  it('are marked by default where that takes one command', async () => {
    const isClustered = at().servers.length > 1 && at().where.cluster !== undefined
    expect(opened(at()).on.pending === undefined).toBe(isClustered)
    expect(opened(at(), { pendingFor: false }).on.pending).toBeUndefined()
  })
})

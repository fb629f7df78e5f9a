import { join } from 'node:path'
import { afterAll, expect, test } from 'vitest'
import { lmdb } from '../../../backends/lmdb/index.js'
import { json } from '../../../proxies/json.js'
import { makeRegion, NO_VALUE, wrap } from '../../../src/index.js'
import { sleep } from '../../support/waiting.js'
import { bundlePeer, endPeers, startPeer, temporaryFolder } from './support.js'

afterAll(endPeers)

test('a process that is frozen with the write lock in its hands costs a deadline, and never the event loop or a read', async () => {
  const file = join(temporaryFolder(), 'cache.mdb')
  const program = await bundlePeer()
  const timeout = 1000
  const store = lmdb(file, { timeout })
  await store.set('k', Buffer.from('v'), {})
  const { token = '' } = await store.acquire('leased', 60_000)
  const at = await store.ledger?.open('~clock').now([])
  const holder = await startPeer(program, { role: 'holder', file })
  let longest = 0
  let last = performance.now()
  const beat = setInterval(() => {
    longest = Math.max(longest, performance.now() - last)
    last = performance.now()
  }, 5)
  const timed = async (work: () => unknown) => {
    const start = performance.now()
    let code: unknown = 'none'
    try {
      await work()
    } catch (error) {
      code = (error as { code?: unknown }).code
    }
    return { code, ms: performance.now() - start }
  }
  const all = await Promise.all([
    timed(() => store.set('k', Buffer.from('late'), {})),
    timed(() => store.delete('other')),
    timed(() => store.acquire('new', 1000)),
    timed(() => store.renew('leased', token, 60_000)),
    timed(() => store.release('leased', token)),
    timed(() => store.ledger?.open('~clock').invalidate(['n'], 'hard')),
    timed(() => store.ledger?.open('other clock').now([])),
  ])
  for (const { code, ms } of all) {
    expect(code).toBe('ERR_TIMEOUT')
    expect(ms).toBeLessThan(timeout + 1500)
  }
  // From now on nothing more is queued behind the lock.
  const next = await timed(() => store.set('another', Buffer.from('v'), {}))
  expect(next).toMatchObject({ code: 'ERR_TIMEOUT' })
  expect(next.ms).toBeLessThan(timeout / 2)
  expect(String(store.get('k'))).toBe('v')
  expect(store.held('leased')).toBe(true)
  expect(store.ledger?.open('~clock').read(['n'])).toMatchObject({ now: at })
  clearInterval(beat)
  expect(longest).toBeLessThan(timeout / 2)

  holder.signal('SIGKILL')
  await holder.exited
  // The waiting writes are applied or given up now; then everything works again.
  for (let tries = 0; ; tries++) {
    const { code } = await timed(() => store.set('again', Buffer.from('v'), {}))
    if (code === 'none') break
    expect(tries).toBeLessThan(40)
    // The kernel frees the lock of a killed process some time after the signal.
    await sleep(50)
  }
  await store.set('k', Buffer.from('newest'), {})
  await store.ledger?.open('~clock').invalidate(['n'], 'hard')
  expect(String(store.get('k'))).toBe('newest')
  expect(store.get('another')).toBeUndefined()
  await store.close()
}, 30_000)

test('a write that waited too long behind the lock does not overwrite a later one', async () => {
  const file = join(temporaryFolder(), 'cache.mdb')
  const program = await bundlePeer()
  const [store, other] = [lmdb(file, { timeout: 200 }), lmdb(file, { timeout: 5000 })]
  await store.set('k', Buffer.from('first'), {})
  const holder = await startPeer(program, { role: 'holder', file })
  // Both read the same state; lmdb queues them in this order or the other.
  const late = Promise.allSettled([store.set('k', Buffer.from('late'), {})])
  const good = other.set('k', Buffer.from('good'), {})
  expect((await late)[0]).toMatchObject({ status: 'rejected', reason: { code: 'ERR_TIMEOUT' } })
  holder.signal('SIGKILL')
  expect(await good).toBe('stored')
  await store.close()
  expect(String(other.get('k'))).toBe('good')
  await other.close()
}, 30_000)

test('closing behind a frozen process does not take longer than an operation', async () => {
  const file = join(temporaryFolder(), 'cache.mdb')
  const program = await bundlePeer()
  const store = lmdb(file, { timeout: 300 })
  const holder = await startPeer(program, { role: 'holder', file })
  const late = Promise.allSettled([store.set('k', Buffer.from('v'), {})])
  const start = performance.now()
  await store.close()
  await late
  expect(performance.now() - start).toBeLessThan(2500)
  holder.signal('SIGKILL')
  await holder.exited
}, 30_000)

test('callers of a region get the stored value or an error within the deadline, and a stale value is still there afterwards', async () => {
  const file = join(temporaryFolder(), 'cache.mdb')
  const program = await bundlePeer()
  let now = Date.now()
  const region = makeRegion<string>({
    name: 'r',
    backend: wrap(lmdb(file, { timeout: 500 }), json()),
    expirationTime: '1m',
    clock: { now: () => now },
  })
  await region.set('old', 'value')
  now += 61_000
  await region.set('fresh', 'value')
  const holder = await startPeer(program, { role: 'holder', file })
  const start = performance.now()
  const outcomes = await Promise.allSettled([
    region.getOrCreate('fresh', () => 'new'),
    region.getOrCreate('old', () => 'new'),
    region.getOrCreate('missing', () => 'new'),
    region.getOrCreateMulti(['fresh', 'missing too'], (keys) => keys.map(() => 'new')),
    region.invalidate(),
    region.delete('fresh'),
  ])
  expect(performance.now() - start).toBeLessThan(500 + 1500)
  const told = outcomes.map((one) => (one.status === 'fulfilled' ? one.value : one.reason.code))
  expect(told).toEqual(['value', ...Array(5).fill('ERR_TIMEOUT')])
  expect(region.peek('fresh')).toBe('value')
  expect(region.peek('old', { ignoreExpiration: true })).toBe('value')
  holder.signal('SIGKILL')
  await holder.exited
  while ((await region.getOrCreate('missing', () => 'new').catch(() => NO_VALUE)) !== 'new') await sleep(20)
  await region.close()
}, 30_000)

test('a process that is stopped in the middle of a commit keeps writers waiting until their deadline, and readers not at all', async () => {
  const folder = temporaryFolder()
  const file = join(folder, 'cache.mdb')
  const program = await bundlePeer()
  const store = lmdb(file, { timeout: 250 })
  await store.set('k', Buffer.from('v'), {})
  const writer = await startPeer(program, {
    role: 'writer',
    file,
    truth: join(folder, 'truth'),
    keys: 6,
  })
  let caught = 0
  let slowest = 0
  for (let tries = 0; tries < 400 && caught < 3; tries++) {
    // At a random moment of the other process's writing.
    await sleep(Math.random() * 20)
    writer.signal('SIGSTOP')
    const start = performance.now()
    const outcome = await Promise.resolve(store.set(`key ${tries}`, Buffer.from('v'), {})).catch(
      (error: { code?: unknown }) => error.code,
    )
    if (outcome !== 'stored') {
      expect(outcome).toBe('ERR_TIMEOUT')
      caught++
      const reading = performance.now()
      expect(String(store.get('k'))).toBe('v')
      slowest = Math.max(slowest, performance.now() - reading)
      expect(performance.now() - start).toBeLessThan(250 + 1500)
    }
    writer.signal('SIGCONT')
    if (outcome !== 'stored')
      while ((await Promise.resolve(store.set('k', Buffer.from('v'), {})).catch(() => '')) !== 'stored')
        await sleep(20)
  }
  console.log(
    `stopped a writer in the middle of a commit ${caught} times; the slowest read meanwhile took ${slowest.toFixed(2)} ms`,
  )
  expect(caught).toBeGreaterThan(0)
  writer.signal('SIGKILL')
  await writer.exited
  await store.close()
}, 90_000)

import { describe, expect, it } from 'vitest'
import { type CreationJob, diagnostics, inBackground, NO_VALUE } from '../../src/index.js'
import { counting, held, inEveryRegion, open as openMemory } from '../support/stage.js'
import { deferred, idle } from '../support/waiting.js'

/** A runner that keeps its jobs until a test runs them. */
function collecting() {
  const jobs: CreationJob[] = []
  return { jobs, runner: (job: CreationJob) => void jobs.push(job) }
}

inEveryRegion('an async creation runner', (open) => {
  it('renews a stale value while every caller is served the old one', async () => {
    const { jobs, runner } = collecting()
    const { region, clock } = open<number>({ expirationTime: 100, asyncCreationRunner: runner })
    const counter = counting()
    expect(await region.getOrCreate('key', counter.next)).toBe(1)
    expect(jobs).toEqual([])
    clock.tick(101)
    expect(await region.getOrCreate('key', counter.next)).toBe(1)
    expect(jobs).toHaveLength(1)
    expect(await region.getOrCreate('key', counter.next)).toBe(1)
    expect(jobs).toHaveLength(1)
    expect(await region.keyIsLocked('key')).toBe(true)
    await jobs[0]?.run()
    expect(counter.runs).toBe(2)
    expect(await region.keyIsLocked('key')).toBe(false)
    expect(await region.getOrCreate('key', counter.next)).toBe(2)
  })

  it('is told the key as the caller gave it', async () => {
    const { jobs, runner } = collecting()
    const { region } = open<number>({ asyncCreationRunner: runner })
    await region.set('key', 1)
    await region.invalidate('soft')
    await region.getOrCreate('key', () => 2)
    expect(jobs[0]).toMatchObject({ key: 'key', keys: ['key'] })
    expect(jobs[0]?.signal.aborted).toBe(false)
  })

  it('does nothing for a value that is missing or was invalidated hard', async () => {
    const { jobs, runner } = collecting()
    const { region } = open<number>({ asyncCreationRunner: runner })
    expect(await region.getOrCreate('key', () => 1)).toBe(1)
    await region.invalidate()
    expect(await region.getOrCreate('key', () => 2)).toBe(2)
    expect(jobs).toEqual([])
  })

  it('renews several stale keys in one job, while missing ones are created at once', async () => {
    const { jobs, runner } = collecting()
    const { region, clock } = open<string>({ expirationTime: 100, asyncCreationRunner: runner })
    await region.setMulti([
      ['a', 'old a'],
      ['b', 'old b'],
    ])
    clock.tick(101)
    const create = (keys: readonly string[]) => keys.map((key) => `new ${key}`)
    expect(await region.getOrCreateMulti(['a', 'b', 'c'], create)).toEqual(['old a', 'old b', 'new c'])
    expect(jobs.map(({ keys }) => keys)).toEqual([['a', 'b']])
    await jobs[0]?.run()
    expect(await region.getMulti(['a', 'b', 'c'])).toEqual(['new a', 'new b', 'new c'])
  })

  it('applies shouldCache', async () => {
    const { jobs, runner } = collecting()
    const { region, clock } = open<number>({ expirationTime: 100, asyncCreationRunner: runner })
    await region.set('key', 1)
    clock.tick(101)
    await region.getOrCreate('key', () => 2, { shouldCache: (value) => value !== 2 })
    await jobs[0]?.run()
    expect(await region.get('key')).toBe(NO_VALUE)
    expect(await region.get('key', { ignoreExpiration: true })).toBe(1)
    expect(await region.keyIsLocked('key')).toBe(false)
  })

  it('does not bring back a value that was invalidated while it worked', async () => {
    for (const when of ['before', 'during'] as const) {
      const { jobs, runner } = collecting()
      const { region, clock } = open<string>({ expirationTime: 100, asyncCreationRunner: runner })
      await region.set('key', 'old')
      clock.tick(101)
      const creator = held<string>()
      expect(await region.getOrCreate('key', creator.create)).toBe('old')
      if (when === 'before') await region.delete('key')
      const done = jobs[0]?.run()
      if (when === 'during') {
        await creator.started
        await region.delete('key')
      }
      creator.resolve('made before')
      await done
      expect(await region.get('key', { ignoreExpiration: true }), when).toBe(NO_VALUE)
    }
  })

  it('that throws costs no caller the old value, and leaves no lease', async () => {
    const failures: unknown[] = []
    const listen = (message: unknown) => failures.push(message)
    diagnostics('failure').subscribe(listen)
    const { region, clock } = open<number>({
      expirationTime: 100,
      asyncCreationRunner() {
        throw new Error('queue is full')
      },
    })
    await region.set('key', 1)
    clock.tick(101)
    expect(await region.getOrCreate('key', () => 2)).toBe(1)
    await idle()
    expect(await region.keyIsLocked('key')).toBe(false)
    expect(failures).toMatchObject([{ where: 'asyncCreationRunner', error: { message: 'queue is full' } }])
    diagnostics('failure').unsubscribe(listen)
  })

  it('whose creator fails keeps the old value, and leaves no lease', async () => {
    const { jobs, runner } = collecting()
    const { region, clock } = open<number>({ expirationTime: 100, asyncCreationRunner: runner })
    await region.set('key', 1)
    clock.tick(101)
    expect(await region.getOrCreate('key', () => Promise.reject(new Error('boom')))).toBe(1)
    await jobs[0]?.run()
    expect(await region.keyIsLocked('key')).toBe(false)
    expect(await region.get('key', { ignoreExpiration: true })).toBe(1)
  })
})

describe('a job', () => {
  it('that is run twice creates once', async () => {
    const { jobs, runner } = collecting()
    const { region, clock } = openMemory<number>({ expirationTime: 100, asyncCreationRunner: runner })
    const counter = counting()
    await region.set('key', 0)
    clock.tick(101)
    await region.getOrCreate('key', counter.next)
    await Promise.all([jobs[0]?.run(), jobs[0]?.run()])
    await jobs[0]?.run()
    expect(counter.runs).toBe(1)
    expect(await region.get('key')).toBe(1)
  })

  it('that waited longer than its lease lived creates nothing', async () => {
    const { jobs, runner } = collecting()
    const { region, clock } = openMemory<number>({
      expirationTime: 100,
      asyncCreationRunner: runner,
      lease: { ms: 1_000 },
    })
    await region.set('key', 1)
    clock.tick(101)
    const calls = counting()
    await region.getOrCreate('key', calls.next)
    clock.tick(1_001)
    await jobs[0]?.run()
    expect(calls.runs).toBe(0)
    expect(await region.keyIsLocked('key')).toBe(false)
  })

  it('is told when its region is closed', async () => {
    const { jobs, runner } = collecting()
    const { region, clock } = openMemory<number>({ expirationTime: 100, asyncCreationRunner: runner })
    await region.set('key', 1)
    clock.tick(101)
    await region.getOrCreate('key', () => 2)
    await region.close()
    expect(jobs[0]?.signal.aborted).toBe(true)
  })
})

describe('inBackground', () => {
  it('renews without making the caller wait, and drains', async () => {
    const background = inBackground()
    const { region, clock } = openMemory<number>({ expirationTime: 100, asyncCreationRunner: background })
    const counter = counting()
    await region.getOrCreate('key', counter.next)
    clock.tick(101)
    expect(await region.getOrCreate('key', counter.next)).toBe(1)
    await background.drain()
    expect(await region.get('key')).toBe(2)
  })

  it('runs no more jobs at once than allowed, first come first served', async () => {
    const background = inBackground({ concurrency: 2 })
    const ended: string[] = []
    const gates = ['a', 'b', 'c', 'd'].map((key) => ({ key, gate: deferred() }))
    let most = 0
    let running = 0
    for (const { key, gate } of gates)
      background({
        key,
        keys: [key],
        signal: new AbortController().signal,
        async run() {
          most = Math.max(most, ++running)
          await gate.promise
          running--
          ended.push(key)
        },
      })
    await idle()
    expect(running).toBe(2)
    let drained = false
    const drain = background.drain().then(() => {
      drained = true
    })
    for (const { gate } of gates) {
      expect(drained).toBe(false)
      gate.resolve()
      await idle()
    }
    await drain
    expect(ended).toEqual(['a', 'b', 'c', 'd'])
    expect(most).toBe(2)
  })

  it('drains at once when there is nothing to do', async () => {
    await inBackground().drain()
  })

  it('refuses a concurrency that cannot be', () => {
    for (const concurrency of [0, -1, 1.5, Number.NaN, '2'] as never[])
      expect(() => inBackground({ concurrency })).toThrow(
        expect.objectContaining({ code: 'ERR_OPTION' }) as Error,
      )
  })
})

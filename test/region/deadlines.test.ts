import { AsyncLocalStorage } from 'node:async_hooks'
import fc from 'fast-check'
import { afterEach, describe, expect, it } from 'vitest'
import type { CachedValue, RegionOptions } from '../../src/index.js'
import { threeMethods } from '../support/three-methods.js'
import { inRealTime, inVirtualTime } from '../support/virtual-time.js'
import { turn } from '../support/waiting.js'

afterEach(inRealTime)

const LATE = { code: 'ERR_CREATION_TIMEOUT' }
const hang = <T>() => new Promise<T>(() => {})

/** How a promise ended, and when. */
interface Settled {
  readonly at: number
  readonly value?: unknown
  readonly error?: unknown
}

async function staged(options: RegionOptions = {}) {
  const { time, corral, memory, versioned, afterCommit } = await inVirtualTime()
  const clock = { now: () => 1_000_000 + time.now() }
  const open = (more: RegionOptions = {}) =>
    corral.makeRegion<string>({ backend: memory({ clock }), clock, ...options, ...more })
  const settled = (promise: Promise<unknown>): Promise<Settled> =>
    promise.then(
      (value) => ({ at: time.now(), value }),
      (error) => ({ at: time.now(), error }),
    )
  /** A region whose value of 'key' has expired. */
  const expired = async (more: RegionOptions = {}) => {
    const region = open({ expirationTime: 1_000, grace: '1h', ...more })
    await region.set('key', 'old')
    await time.advance(1_001)
    return region
  }
  return { time, corral, open, expired, settled, versioned, afterCommit, clock, memory }
}

/** A store that answers after a time, or never. */
const slowStore = (time: { pause(ms: number): Promise<void> }, ms: () => number) => {
  const store = threeMethods()
  const after = async <T>(work: () => T): Promise<T> => {
    const takes = ms()
    if (takes === Number.POSITIVE_INFINITY) return hang<T>()
    await (takes === 0 ? turn() : time.pause(takes))
    return work()
  }
  return {
    name: 'slow',
    get: (key: string) => after(() => store.get(key)),
    set: (key: string, value: CachedValue) => after(() => store.set(key, value)),
    delete: (key: string) => after(() => store.delete(key)),
  }
}

describe('a caller', () => {
  it('never settles after its deadline, whatever its creator does', { timeout: 60_000 }, async () => {
    const { time, expired, open, settled } = await staged()
    let answered = 0
    await fc.assert(
      fc.asyncProperty(
        fc.boolean(),
        fc.array(
          fc.record({
            starts: fc.nat(60),
            takes: fc.oneof(fc.nat(200), fc.constant(Number.POSITIVE_INFINITY)),
            fails: fc.boolean(),
            soft: fc.option(fc.integer({ min: 1, max: 80 }), { nil: undefined }),
            hard: fc.integer({ min: 81, max: 150 }),
          }),
          { minLength: 1, maxLength: 6 },
        ),
        async (stands, calls) => {
          const region = await (stands ? expired() : open())
          const begun = time.now()
          const all = calls.map(async ({ starts, takes, fails, soft, hard }) => {
            if (starts > 0) await time.pause(starts)
            const at = time.now()
            const ended = await settled(
              region.getOrCreate(
                'key',
                async () => {
                  await (takes === Number.POSITIVE_INFINITY ? hang() : time.pause(takes))
                  if (fails) throw new Error('away')
                  return 'new'
                },
                { softTimeout: soft, hardTimeout: hard },
              ),
            )
            answered++
            expect(ended.at).toBeLessThanOrEqual(at + hard)
            if (stands) expect(['old', 'new']).toContain(ended.value)
            if (stands && soft !== undefined) expect(ended.at).toBeLessThanOrEqual(at + soft)
          })
          await time.advance(400)
          await Promise.all(all)
          expect(time.now()).toBe(begun + 400)
          void region.close()
          await time.advance(600_000)
        },
      ),
      { numRuns: 60 },
    )
    expect(answered).toBeGreaterThan(60)
  })

  it('settles 25 ms after its deadline at the latest, whatever its store does', {
    timeout: 60_000,
  }, async () => {
    const { time, corral, open, settled, clock } = await staged()
    await fc.assert(
      fc.asyncProperty(
        fc.infiniteStream(fc.oneof(fc.constant(0), fc.nat(60), fc.constant(Number.POSITIVE_INFINITY))),
        fc.constantFrom('getOrCreate', 'getOrCreateMulti', 'refresh', 'reserve'),
        fc.integer({ min: 1, max: 100 }),
        async (stream, how, hard) => {
          const backend = corral.defineBackend<CachedValue>(
            slowStore(time, () => stream.next().value as number),
          )
          const region = open({ backend, clock })
          const load = region.cacheOnArguments(async () => 'new', { namespace: 'load' })
          const at = time.now()
          const ended = settled(
            how === 'getOrCreate'
              ? region.getOrCreate('key', () => 'new', { hardTimeout: hard })
              : how === 'getOrCreateMulti'
                ? region.getOrCreateMulti(['key', 'other'], (keys) => keys.map(() => 'new'), {
                    hardTimeout: hard,
                  })
                : how === 'refresh'
                  ? load.with({ hardTimeout: hard }).refresh()
                  : region.reserve('key', { hardTimeout: hard }),
          )
          await time.advance(hard + 25)
          expect(await Promise.race([ended, turn().then(() => 'waits')])).toMatchObject({
            at: expect.toSatisfy((one: number) => one <= at + hard + 25),
          })
        },
      ),
      { numRuns: 60 },
    )
  })

  it('of a refresh settles in time, also if the store hangs while it removes a value that is not replaced', async () => {
    const { time, corral, open, settled } = await staged()
    const store = { ...slowStore(time, () => 0), delete: () => hang<void>() }
    const region = open({ backend: corral.defineBackend<CachedValue>(store) })
    const load = region.cacheOnArguments(async () => 'new', { namespace: 'load', shouldCache: () => false })
    const ended = settled(load.with({ hardTimeout: 50 }).refresh())
    await time.advance(75)
    expect(await Promise.race([ended, turn()])).toMatchObject({ error: expect.objectContaining(LATE) })
  })

  it('gets the value that came in time while the process was busy', async () => {
    const { time, open, settled } = await staged()
    const region = open()
    let resolve: (value: string) => void = () => {}
    const create = () => new Promise<string>((resolves) => (resolve = resolves))
    const ended = settled(region.getOrCreate('key', create, { hardTimeout: 50 }))
    await time.advance(10)
    // The reply waits in the socket while the process is busy, and all timers fire before it is read.
    time.block(500)
    resolve('new')
    await time.advance(0)
    expect(await ended).toMatchObject({ value: 'new' })
  })

  it('gets the value that stands in a store that answers later, also if the process was busy', async () => {
    const { time, corral, open, settled } = await staged()
    const backend = corral.defineBackend<CachedValue>(slowStore(time, () => 10))
    const region = open({ backend, expirationTime: 1_000, grace: '1h' })
    const set = region.set('key', 'old')
    await time.advance(1_100)
    await set
    const ended = settled(region.getOrCreate('key', hang, { hardTimeout: 50 }))
    await time.advance(30)
    time.block(500)
    await time.advance(100)
    expect(await ended).toMatchObject({ value: 'old' })
  })

  it('that took a stale value leaves no timer that keeps the process running', async () => {
    const { time, corral, expired } = await staged()
    for (const backend of [undefined, corral.defineBackend<CachedValue>(slowStore(time, () => 0))]) {
      const region = await expired({ softTimeout: 5, hardTimeout: '1h', ...(backend && { backend }) })
      const read = region.getOrCreate('key', hang)
      await time.advance(5)
      expect(await read).toBe('old')
      expect(time.refs()).toBe(0)
    }
  })

  it.each([true, false])(
    'keeps the process running if its time was chosen (%s), not left to defaults',
    async (chosen) => {
      const { time, open, settled, versioned } = await staged()
      const region = open()
      await region.reserve('reserved', chosen ? { hold: 500 } : {})
      expect(time.refs()).toBe(chosen ? 1 : 0)
      await time.advance(60_000)

      const page = versioned(async () => 'page', {
        namespace: 'page',
        version: () => hang<string>(),
        ...(chosen && { timeout: 500 }),
      })
      const paged = settled(page())
      expect(time.refs()).toBe(chosen ? 1 : 0)
      await time.advance(60_000)
      expect(await paged).toMatchObject({ error: { code: 'ERR_TIMEOUT' } })
    },
  )

  it('with a later deadline than a caller that keeps nothing running keeps the process running', async () => {
    const { time, open, settled } = await staged()
    const region = open()
    void region.getOrCreate('key', hang).catch(() => {})
    void region.getOrCreate('key', hang).catch(() => {})
    await turn()
    expect(time.refs()).toBe(0)
    const late = settled(region.getOrCreate('key', hang, { softTimeout: '90s', hardTimeout: '2m' }))
    await turn()
    expect(time.refs()).toBeGreaterThan(1)
    await time.advance(120_000)
    expect(await late).toMatchObject({ error: LATE })
  })

  it('of a versioned function gets its error at its hardTimeout, also if the read of the version hangs', async () => {
    const { time, open, settled, versioned } = await staged()
    const options = { namespace: 'user', region: open(), version: () => hang<string>() }
    const load = versioned({ ...options, hardTimeout: 50 })(async (id: number) => `${id}`)
    for (const call of [() => load(5), () => load.refresh(5), () => load.with({ hardTimeout: 20 })(5)]) {
      const at = time.now()
      const ended = settled(call())
      await time.advance(75)
      expect(await ended).toMatchObject({ error: expect.objectContaining(LATE) })
      expect((await ended).at).toBeLessThanOrEqual(at + 75)
    }
    const regional = versioned({ ...options, namespace: 'regional', region: open({ hardTimeout: 50 }) })
    const [at, ended] = [time.now(), settled(regional(async (_: number) => 'never')(5))]
    await time.advance(75)
    expect(await ended).toMatchObject({ error: expect.objectContaining(LATE) })
    expect((await ended).at).toBeLessThanOrEqual(at + 75)
  })

  it('of a versioned function takes the value that stands at its hardTimeout, however long its version took', async () => {
    const { time, open, settled, versioned } = await staged()
    let takes = 1
    let hangs = false
    const region = open({ expirationTime: 1_000, grace: '1h', hardTimeout: 150 })
    const version = async () => {
      await time.pause(takes)
      return 'v1'
    }
    const load = versioned({ namespace: 'user', region, version, expirationTime: 1_000 })(
      async (id: number) => (hangs ? hang<string>() : `${id}`),
    )
    const first = settled(load(5))
    await time.advance(10)
    expect(await first).toMatchObject({ value: '5' })
    await time.advance(1_001)
    hangs = true
    takes = 60
    const began = time.now()
    const late = settled(load(5))
    await time.advance(200)
    expect(await late).toEqual({ at: began + 150, value: '5' })
  })
})

describe('a reservation', () => {
  it('lasts as long as its host holds it, whatever timeouts its region has', async () => {
    const { time, open } = await staged({
      softTimeout: 5,
      hardTimeout: 20,
      abandonAfter: 30,
      lease: { ms: 60 },
    })
    const region = open()
    const reserved = await region.reserve('key', { hold: '5s', hardTimeout: 10 })
    if ('value' in reserved) throw new Error('no reservation')
    await time.advance(4_000)
    expect(await reserved.fill('value')).toBe('stored')
    expect(await region.get('key')).toBe('value')
  })

  it('that is granted after the deadline of its caller goes to the next one', async () => {
    const { time, corral, open, settled } = await staged()
    let takes = 100
    const region = open({ backend: corral.defineBackend<CachedValue>(slowStore(time, () => takes)) })
    const late = settled(region.reserve('key', { hold: '1h', hardTimeout: 20 }))
    await time.advance(1_000)
    expect(await late).toMatchObject({ error: expect.objectContaining(LATE) })
    takes = 0
    const next = region.reserve('key', { hardTimeout: 20 })
    await time.advance(100)
    expect(Object.keys(await next).sort()).toEqual(['fill', 'release'])
  })
})

describe('a creation', () => {
  it('without a lease is given up after abandonAfter', async () => {
    const { time, open, settled, afterCommit } = await staged({ abandonAfter: '2s', lease: { ms: 600 } })
    const region = open()
    let signal: AbortSignal | undefined
    const create = (creation: { readonly signal: AbortSignal }) => {
      signal = creation.signal
      return hang<string>()
    }
    const ended = settled(afterCommit(async () => region.getOrCreate('key', create)))
    await time.advance(3_000)
    expect(await ended).toMatchObject({ error: expect.objectContaining(LATE) })
    expect(signal?.aborted).toBe(true)
  })

  it('that is given up is no failure that serveStaleIf is asked about', async () => {
    const asked: unknown[] = []
    const serveStaleIf = (error: unknown) => {
      asked.push(error)
      return false
    }
    const { time, expired, settled } = await staged({ abandonAfter: '2s', lease: { ms: 600 }, serveStaleIf })
    const region = await expired()
    const ended = settled(region.getOrCreate('key', hang))
    await time.advance(3_000)
    expect(await ended).toMatchObject({ value: 'old' })
    expect(await region.getOrCreate('key', () => 'too early')).toBe('old')
    expect(asked).toEqual([])
  })

  it('that goes on after a softTimeout is called off by close()', async () => {
    const { time, expired } = await staged()
    const region = await expired({ softTimeout: 5 })
    let signal: AbortSignal | undefined
    const read = region.getOrCreate('key', (creation) => {
      signal = creation.signal
      return new Promise<string>((_, reject) => {
        creation.signal.addEventListener('abort', () => reject(creation.signal.reason))
      })
    })
    await time.advance(5)
    expect(await read).toBe('old')
    expect(signal?.aborted).toBe(false)
    await region.close()
    expect(signal?.reason).toMatchObject({ code: 'ERR_CLOSED' })
  })

  it('that goes on after a softTimeout is a job of the runner, whose drain() waits for it', async () => {
    const { time, corral, open } = await staged()
    const runner = corral.inBackground()
    const region = open({ expirationTime: 1_000, asyncCreationRunner: runner })
    let resolve: (value: string) => void = () => {}
    const create = () => new Promise<string>((resolves) => (resolve = resolves))
    const read = region.getOrCreate('key', create, { softTimeout: 50 })
    await time.advance(10)
    // Nothing stood at the call, so no job was handed over. Another creator stores a value meanwhile.
    await region.set('key', 'set')
    await time.advance(40)
    expect(await read).toBe('set')
    let drained = false
    const drain = runner.drain().then(() => (drained = true))
    await time.advance(100)
    expect(drained).toBe(false)
    resolve('late')
    await drain
  })

  it('that is given up reads the store in the context of no request', async () => {
    const request = new AsyncLocalStorage<string>()
    const { time, corral, open, settled } = await staged({ abandonAfter: '2s', lease: { ms: 600 } })
    const store = threeMethods()
    const seen: unknown[] = []
    const get = (key: string) => {
      seen.push(request.getStore())
      return store.get(key)
    }
    const region = open({ backend: corral.defineBackend<CachedValue>({ ...store, get }) })
    const ended = request.run('the request', () => settled(region.getOrCreate('key', hang)))
    await time.advance(1_500)
    seen.length = 0
    await time.advance(1_500)
    expect(await ended).toMatchObject({ error: expect.objectContaining(LATE) })
    expect(seen).toEqual([undefined])
  })

  it('reads the store in the context of each caller at its deadline', async () => {
    const request = new AsyncLocalStorage<string>()
    const { time, corral, open, settled } = await staged()
    const store = threeMethods()
    const seen: unknown[] = []
    const get = (key: string) => {
      seen.push(request.getStore())
      return store.get(key)
    }
    const region = open({ backend: corral.defineBackend<CachedValue>({ ...store, get }) })
    const ask = (name: string) =>
      request.run(name, () => settled(region.getOrCreate('key', hang, { hardTimeout: 50 })))
    const ended = [ask('a'), ask('b'), ask('c')]
    await time.advance(40)
    seen.length = 0
    await time.advance(100)
    await Promise.all(ended)
    expect(seen.sort()).toEqual(['a', 'b', 'c'])
  })

  it('that failed leaves no timer once its key is invalidated', async () => {
    const { time, expired } = await staged()
    const region = await expired({ retryAfter: '1h' })
    const before = time.timers()
    expect(await region.getOrCreate('key', () => Promise.reject(new Error('away')))).toBe('old')
    await time.advance(60_000)
    await region.delete('key')
    expect(time.timers()).toBeLessThanOrEqual(before)
  })

  it('that fails after a softTimeout is reported once', async () => {
    const { time, corral, expired } = await staged()
    const seen: unknown[] = []
    corral.diagnostics('failure').subscribe((message) => seen.push(message))
    const region = await expired({ softTimeout: 5 })
    const read = region.getOrCreate('key', async () => {
      await time.pause(20)
      throw new Error('away')
    })
    await time.advance(5)
    expect(await read).toBe('old')
    await time.advance(100)
    expect(seen).toEqual([{ where: 'creator', key: 'key', error: new Error('away') }])
  })

  it('that fails in a job of a runner is reported once', async () => {
    const { corral, expired } = await staged()
    const seen: unknown[] = []
    corral.diagnostics('failure').subscribe((message) => seen.push(message))
    const runner = corral.inBackground()
    const region = await expired({ asyncCreationRunner: runner })
    expect(await region.getOrCreate('key', () => Promise.reject(new Error('away')))).toBe('old')
    await runner.drain()
    expect(seen).toEqual([{ where: 'creator', key: 'key', error: new Error('away') }])
  })
})

import { describe, expect, it } from 'vitest'
import { memory } from '../../backends/memory/index.js'
import { dependencies } from '../../proxies/dependencies.js'
import { localLeases } from '../../src/backend/lease.js'
import {
  type CachedValue,
  type Clock,
  defineBackend,
  dep,
  localInvalidation,
  makeRegion,
  NO_VALUE,
  wrap,
} from '../../src/index.js'
import { threeMethods } from '../support/three-methods.js'

const plain = () => defineBackend<CachedValue>(threeMethods())
const at = (now: number): Clock => ({ now: () => now })
const FAR = [Date.now() + 3_600_000, 2 ** 43, 2 ** 44, Number.MAX_SAFE_INTEGER, 2 ** 60]

describe.each(FAR)('a region whose clock stands at %d', (far) => {
  it('leaves the invalidations and the hits of another region as they were', async () => {
    const future = makeRegion<number>({ name: 'future', clock: at(far), backend: memory() })
    await future.set('key', 1)
    await future.getOrCreate('other', () => 1)
    await future.invalidate()
    const region = makeRegion<string>({ name: 'present', backend: plain() })
    for (const mode of ['hard', 'soft'] as const) {
      await region.set('key', 'before')
      await region.invalidate(mode)
      expect(await region.get('key')).toBe(NO_VALUE)
      await region.set('key', 'after')
      expect(await region.get('key')).toBe('after')
    }
  })

  it('leaves the time as it is that creators of another region receive', async () => {
    await makeRegion<number>({ name: 'future', clock: at(far), backend: plain() }).set('key', 1)
    const before = Date.now()
    for (const backend of [memory(), plain()]) {
      const startedAt = await makeRegion<number>({ backend }).getOrCreate(
        'key',
        (creation) => creation.startedAt,
      )
      expect(startedAt).toBeGreaterThanOrEqual(before - 1_000)
      expect(startedAt).toBeLessThanOrEqual(Date.now() + 1_000)
    }
  })

  it('invalidates and hits as often as it likes, although its clock stands', async () => {
    const region = makeRegion<number>({ clock: at(far), backend: plain() })
    for (let round = 0; round < 20; round++) {
      await region.set('key', round)
      expect(await region.get('key')).toBe(round)
      await region.invalidate()
      expect(await region.get('key')).toBe(NO_VALUE)
    }
  })

  it('shares its invalidations with a region over the same store, or with the same strategy', async () => {
    const backend = plain()
    const shared = [
      [
        { name: 'r', backend },
        { name: 'r', backend, clock: at(far) },
      ],
      [
        { name: 'r', backend: plain(), regionInvalidator: localInvalidation() },
        { name: 'r', backend: plain(), clock: at(far) },
      ],
    ] as const
    for (const [one, other] of shared) {
      const strategy = 'regionInvalidator' in one ? { regionInvalidator: one.regionInvalidator } : {}
      const present = makeRegion<string>(one)
      const future = makeRegion<string>({ ...other, ...strategy })
      await future.set('key', 'from the future')
      await present.invalidate()
      if (strategy.regionInvalidator === undefined) expect(await present.get('key')).toBe(NO_VALUE)
      else expect(await future.get('key')).toBe(NO_VALUE)
      await present.set('key', 'new')
      expect(await present.get('key')).toBe('new')
    }
  })

  it('hits again after it was configured with the time of day', async () => {
    const region = makeRegion<string>({ clock: at(far), backend: plain() })
    await region.invalidate()
    region.configure({ backend: plain(), clock: at(Date.now()), replaceExistingBackend: true })
    await region.set('key', 'value')
    expect(await region.get('key')).toBe('value')
  })
})

describe('a value that is set as of a time ahead of the ledger', () => {
  it.each(['single', 'multi'])('is refused, and leaves nothing older (%s)', async (form) => {
    const region = makeRegion<string>({ name: 'r', backend: wrap(memory(), dependencies()) })
    const { epoch, at: now } = await region.asOf()
    await region.set('key', 'older')
    for (const ahead of [now + 1, Date.now(), Number.MAX_SAFE_INTEGER]) {
      const options = { dependencies: dep.tag('t'), asOf: { epoch, at: ahead } }
      const outcome =
        form === 'single'
          ? await region.set('key', 'old', options)
          : (await region.setMulti([['key', 'old']], options))[0]
      expect(outcome).toBe('refused')
      expect(await region.get('key')).toBe(NO_VALUE)
    }
    await region.invalidateDependencies(dep.tag('t'))
    expect(await region.get('key')).toBe(NO_VALUE)
    expect(await region.set('key', 'new', { dependencies: dep.tag('t'), asOf: await region.asOf() })).toBe(
      'stored',
    )
  })
})

describe('a clock that returns no number', () => {
  it.each([
    ['a promise', async () => Date.now()],
    ['nothing', () => undefined],
    ['NaN', () => Number.NaN],
  ])('is refused: %s', (_, now) => {
    const options = { clock: { now } as never, backend: memory() }
    expect(() => makeRegion(options)).toThrow(/now\(\) of `clock`/)
  })
})

describe('a clock of the store that was ahead and is set back', () => {
  const DAY = 86_400_000

  it.each([
    ['a small step', 2_000, 0, 'old'],
    ['a day', DAY, 0, 'away'],
    ['a day, some hours later', DAY, 6 * 3_600_000, 'away'],
  ])('leaves a value its grace after %s, and no more', async (_, ahead, later, expected) => {
    const time = { now: Date.now() }
    const clock = { now: () => time.now }
    const region = makeRegion<string>({
      backend: memory({ clock }),
      clock,
      expirationTime: '5m',
      grace: '1m',
    })
    time.now += ahead
    await region.set('key', 'old')
    time.now += later - ahead
    const fail = () => Promise.reject(new Error('away'))
    expect(await region.getOrCreate('key', fail).catch((error: Error) => error.message)).toBe(expected)
  })

  it('keeps no failed creator for that much longer', async () => {
    const time = { now: Date.now() }
    const clock = { now: () => time.now }
    const region = makeRegion<string>({
      ...{ backend: memory({ clock }), clock, expirationTime: '5m', grace: '2d', retryAfter: '10s' },
    })
    await region.set('key', 'old')
    time.now += DAY
    expect(await region.getOrCreate('key', () => Promise.reject(new Error('away')))).toBe('old')
    expect(await region.getOrCreate('key', () => 'new')).toBe('old')
    time.now -= DAY - 400_000
    expect(await region.getOrCreate('key', () => 'new')).toBe('new')
  })

  it('keeps no lease for longer than its length', async () => {
    let now = Date.now()
    const leases = localLeases({ now: () => now })
    const { token = '' } = leases.acquire('key', 200)
    now -= DAY
    expect(leases.acquire('key', 200)).toMatchObject({ remaining: 200 })
    expect(leases.owns('key', token)).toBe(true)
    now += 200
    expect(leases.acquire('key', 200).token).toBeDefined()
  })
})

describe.each([Number.NaN, undefined, 'x', 5n, Number.POSITIVE_INFINITY])(
  'a clock that answers %s later on',
  (wrong) => {
    const refused = { code: 'ERR_OPTION', message: expect.stringContaining('to return epoch ms') }

    it.each<[string, (clock: Clock) => Parameters<typeof makeRegion<string>>[0]]>([
      ['of a region', (clock) => ({ clock, backend: plain() })],
      ['of memory()', (clock) => ({ backend: memory({ clock }) })],
      ['of both', (clock) => ({ clock, backend: wrap(memory({ clock }), dependencies()) })],
    ])('%s fails calls, and lets no value live longer', async (_, options) => {
      let now: unknown = Date.now()
      const clock = { now: () => now as number }
      const region = makeRegion<string>({ name: 'r', expirationTime: '1m', ...options(clock) })
      await region.set('key', 'old', { grace: 0 })
      const right = Date.now() + 60_000
      now = wrong
      await expect(region.get('key')).rejects.toMatchObject(refused)
      await expect(region.set('key', 'new')).rejects.toMatchObject(refused)
      await expect(region.getOrCreate('key', () => 'new')).rejects.toMatchObject(refused)
      now = right + 60_000
      const left = await region.get('key')
      if (options(clock)?.clock !== undefined) expect(left).toBe(NO_VALUE)
    })
  },
)

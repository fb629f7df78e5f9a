/** `region.reserve`: a miss that is the lease, for hosts that read, compute and then write. */
import { expect, it } from 'vitest'
import { memory } from '../../backends/memory/index.js'
import {
  type Duration,
  delegate,
  dep,
  diagnostics,
  intercept,
  makeRegion,
  NO_VALUE,
  type Region,
  type Reservation,
  wrap,
} from '../../src/index.js'
import { afterCommit } from '../../src/signals/transactions.js'
import { onStores } from '../dependencies/stores.js'
import { counting, held, inEveryRegion, manualClock } from '../support/stage.js'
import { gate, isPending, until } from '../support/waiting.js'

type Right<V> = Exclude<Reservation<V>, { readonly value: V }>

/** The reservation of a key that is missing. */
async function reserved<V>(region: Region<V>, key: string, hold: Duration = '1h'): Promise<Right<V>> {
  const found = await region.reserve(key, { hold })
  if ('value' in found) throw new Error(`Expected ${key} to be missing`)
  return found
}

inEveryRegion('reservations', (open) => {
  it('of a stored value are the value', async () => {
    const { region } = open<number>()
    await region.set('key', 5)
    expect(await region.reserve('key')).toEqual({ value: 5 })
  })

  it('store the value of the caller that holds them, and give it to those that wait', async () => {
    const { region } = open<number>()
    const right = await reserved(region, 'key')
    const creator = counting()
    const waiting = [region.reserve('key'), region.getOrCreate('key', creator.next)] as const
    expect(await isPending(waiting[0])).toBe(true)
    expect(await region.keyIsLocked('key')).toBe(true)
    expect(await right.fill(7)).toBe('stored')
    expect(await Promise.all(waiting)).toEqual([{ value: 7 }, 7])
    expect(creator.runs).toBe(0)
    expect(await region.get('key')).toBe(7)
    expect(await region.keyIsLocked('key')).toBe(false)
  })

  it('that are released go to the next caller', async () => {
    const { region } = open<number>()
    const right = await reserved(region, 'key')
    const next = region.reserve('key', { hold: '1h' })
    const created = region.getOrCreate('other', () => 1)
    expect(await isPending(next)).toBe(true)
    await right.release()
    await right.release()
    const second = (await next) as Right<number>
    expect(await right.fill(1)).toBe('lost')
    expect(await second.fill(2)).toBe('stored')
    expect(await second.fill(3)).toBe('lost')
    expect(await region.get('key')).toBe(2)
    await created
  })

  it('let a caller with a creator create when they are released', async () => {
    const { region } = open<number>()
    const right = await reserved(region, 'key')
    const created = region.getOrCreate('key', () => 4)
    expect(await isPending(created)).toBe(true)
    await right.release()
    expect(await created).toBe(4)
  })

  it('that nobody fills end by themselves', async () => {
    const { region } = open<number>()
    const right = await reserved(region, 'key', '20ms')
    const next = (await region.reserve('key', { hold: '1h' })) as Right<number>
    expect(next.fill).toBeTypeOf('function')
    expect(await right.fill(1)).toBe('lost')
    expect(await next.fill(2)).toBe('stored')
  })

  it.each(['delete', 'set'] as const)('are void after a %s', async (how) => {
    const { region } = open<number>()
    const right = await reserved(region, 'key')
    if (how === 'delete') await region.delete('key')
    else await region.set('key', 9)
    expect(await right.fill(1)).toBe('lost')
    expect(await region.get('key')).toBe(how === 'delete' ? NO_VALUE : 9)
  })

  it('take an expired value for none, and keep the lifetime of the value', async () => {
    const { region, clock } = open<number>({ expirationTime: '1h' })
    await region.set('key', 1, { expirationTime: 100 })
    clock.tick(101)
    const right = await reserved(region, 'key')
    expect(await right.fill(2, { expirationTime: 500 })).toBe('stored')
    clock.tick(499)
    expect(await region.reserve('key')).toEqual({ value: 2 })
    expect(await region.reserve('key', { expirationTime: 1 })).not.toHaveProperty('value')
  })

  it('go on when a value is refused, and end with their signal', async () => {
    const { region } = open<unknown>()
    const leaving = new AbortController()
    const right = (await region.reserve('key', { hold: '1h', signal: leaving.signal })) as Right<unknown>
    await expect(right.fill(NO_VALUE)).rejects.toMatchObject({ code: 'ERR_OPTION' })
    await expect(right.fill(1, { ttl: 5 } as never)).rejects.toMatchObject({ code: 'ERR_OPTION' })
    await expect(right.fill(1, { expirationTime: 0 })).rejects.toMatchObject({ code: 'ERR_OPTION' })
    await expect(right.fill(1, { dependencies: dep.tag('t') })).rejects.toMatchObject({
      code: 'ERR_NO_LEDGER',
    })
    expect(await region.keyIsLocked('key')).toBe(true)
    leaving.abort(new Error('left'))
    const next = (await region.reserve('key', { hold: '1h' })) as Right<unknown>
    expect(await next.fill(2)).toBe('stored')
    expect(await right.fill(1)).toBe('lost')
  })

  it('are refused for what is no key, option or duration', async () => {
    const { region } = open<unknown>()
    await expect(region.reserve(5 as never)).rejects.toMatchObject({ code: 'ERR_KEY' })
    await expect(region.reserve('key', { ttl: 5 } as never)).rejects.toMatchObject({ code: 'ERR_OPTION' })
    await expect(region.reserve('key', { hold: -1 })).rejects.toMatchObject({ code: 'ERR_OPTION' })
    expect(await region.keyIsLocked('key')).toBe(false)
  })

  it('wait no longer than they say', async () => {
    const { region } = open<number>()
    const right = await reserved(region, 'key')
    await expect(region.reserve('key', { hardTimeout: 20 })).rejects.toMatchObject({
      code: 'ERR_CREATION_TIMEOUT',
    })
    await right.release()
  })

  it('inside a transaction store nothing', async () => {
    const { region } = open<number>()
    await afterCommit(async () => {
      const right = await reserved(region, 'key')
      expect(await right.fill(1)).toBe('lost')
    })
    expect(await region.get('key')).toBe(NO_VALUE)
  })

  it('count as misses, and their values as creations', async () => {
    const { region } = open<number>()
    await (await reserved(region, 'key')).fill(1)
    await region.reserve('key')
    expect(region.stats()).toMatchObject({ hits: 1, misses: 1, creations: 1 })
  })

  it('that no host fills are no creations', async () => {
    const { region } = open<number>()
    const told: unknown[] = []
    const listen = (message: unknown) => void told.push(message)
    diagnostics('create').subscribe(listen)
    await (await reserved(region, 'released')).release()
    await reserved(region, 'forgotten', 1)
    const leaving = new AbortController()
    await region.reserve('left', { hold: '1h', signal: leaving.signal })
    leaving.abort()
    await until(async () => !(await region.keyIsLocked('forgotten')) && !(await region.keyIsLocked('left')))
    diagnostics('create').unsubscribe(listen)
    expect(region.stats()).toMatchObject({ misses: 3, creations: 0, failedCreations: 0 })
    expect(told).toEqual([])
  })
})

it('a reservation does not hold up the end of its region, nor is a stale value handed out as a fresh one', async () => {
  const clock = manualClock()
  const jobs: (() => Promise<unknown>)[] = []
  const region = makeRegion<number>({
    ...{ clock, expirationTime: 100, lease: { ms: 100 } },
    backend: memory({ clock }),
    asyncCreationRunner: ({ run }) => void jobs.push(run),
  })
  await region.set('key', 1)
  clock.tick(101)
  const right = await reserved(region, 'key')
  expect(jobs).toEqual([])
  expect(await region.getOrCreate('key', () => 3)).toBe(1)
  // A caller that waits reads again when the reservation is released: it finds the stale value, and takes it for none.
  const waiting = region.reserve('key', { hold: '1h' })
  expect(await isPending(waiting)).toBe(true)
  await right.release()
  const next = (await waiting) as Right<number>
  expect(jobs).toEqual([])
  expect(await next.fill(2)).toBe('stored')
  expect(await region.get('key')).toBe(2)
  await reserved(region, 'other')
  await region.close()
})

onStores('all', 'reservations', (at) => {
  it('are one for two processes, and their fill wakes the other', async () => {
    const [one, two] = at().regions<string>()
    const right = await reserved(one, 'key')
    const other = two.reserve('key')
    expect(await isPending(other)).toBe(true)
    expect(await right.fill('value', { dependencies: dep.tag('t') })).toBe('stored')
    expect(await other).toEqual({ value: 'value' })
    await two.invalidateDependencies(dep.tag('t'))
    expect(await one.get('key')).toBe(NO_VALUE)
  })

  it('are refused after an invalidation of a name, which nobody had named before', async () => {
    const [one, two] = at().regions<string>()
    const right = await reserved(one, 'key')
    await two.invalidateDependencies(dep.tag('t'))
    expect(await right.fill('old', { dependencies: dep.tag('t') })).toBe('refused')
    expect(await two.get('key')).toBe(NO_VALUE)
  })

  it('hand the names of their value to the creation around them', async () => {
    const [one] = at().regions<string>()
    const page = () =>
      one.getOrCreate('page', async () => {
        const found = await one.reserve('part')
        if ('value' in found) return `page of ${found.value}`
        await found.fill('part', { dependencies: dep.tag('t') })
        return 'page of part'
      })
    expect([await page(), await one.get('page')]).toEqual(['page of part', 'page of part'])
    await one.invalidateDependencies(dep.tag('t'))
    expect(await one.get('page')).toBe(NO_VALUE)
  })
})

it('a reservation that joins a creation rejects if its value cannot be copied for it', async () => {
  const region = makeRegion<unknown>({ backend: memory({ copy: 'clone' }) })
  const { opened, open } = gate()
  const created = region.getOrCreate(
    'key',
    async () => {
      await opened
      return () => 'a function'
    },
    { shouldCache: () => false },
  )
  const joined = region.reserve('key')
  const outcomes = Promise.allSettled([created, joined])
  expect(await isPending(joined)).toBe(true)
  open()
  const refused = { status: 'rejected', reason: expect.objectContaining({ code: 'ERR_UNENCODABLE' }) }
  expect(await outcomes).toEqual([refused, refused])
})

it('a value that its host brought is stored, though the signal of the host is aborted meanwhile', async () => {
  const sent = held<void>()
  const slow = wrap(memory(), (next) =>
    delegate(next, {
      async set(...given) {
        await sent.create()
        return next.set(...given)
      },
    }),
  )
  const region = makeRegion<number>({ backend: slow })
  const leaving = new AbortController()
  const right = (await region.reserve('key', { signal: leaving.signal })) as Right<number>
  const filled = right.fill(1)
  await sent.started
  leaving.abort(new Error('left'))
  sent.resolve()
  expect(await filled).toBe('stored')
  expect(await region.get('key')).toBe(1)
})

it('a reservation has the options of its call', async () => {
  const { opened, open } = gate()
  const slow = intercept(async ({ name }, proceed) => {
    if (name === 'get') await opened
    return proceed()
  })
  const region = makeRegion<string>({ name: 'r', backend: wrap(memory(), slow) })
  const options: { hold: Duration; signal?: AbortSignal } = { hold: '1h' }
  const reserving = region.reserve('key', options)
  options.signal = AbortSignal.abort()
  options.hold = 0
  open()
  const found = await reserving
  expect('fill' in found && (await found.fill('value'))).toBe('stored')
})

import { describe, expect, it, vi } from 'vitest'
import { memory } from '../../backends/memory/index.js'
import { dependencies } from '../../proxies/dependencies.js'
import { type CreationJob, dependsOn, makeRegion, NO_VALUE, wrap } from '../../src/index.js'
import { session, versioned } from '../../src/session/index.js'
import {
  afterCommit,
  broker,
  cacheResults,
  drainRefreshes,
  invalidateAfterCommit,
} from '../../src/signals/index.js'
import { held } from '../support/stage.js'
import { deferred, sleep } from '../support/waiting.js'

/** A database of one row. A transaction sees the rows that were committed when it began, and its changes. */
function bank() {
  let committed = 1
  const transaction = (work: (own: { balance: number }) => Promise<unknown>) =>
    afterCommit(async () => {
      const own = { balance: committed }
      const before = own.balance
      await work(own)
      if (own.balance !== before) committed = own.balance
    })
  const region = makeRegion<number>({ name: 'bank', backend: wrap(memory(), dependencies()) })
  const accounts = broker<{ id: number }>('account', { regions: [region], id: ({ id }) => id })
  const change = (balance: number) =>
    accounts.apply({ id: 1 }, () => {
      committed = balance
    })
  let made = 0
  /** As read in a transaction, or from the committed rows. */
  const read = (own?: { readonly balance: number }) =>
    region.getOrCreate('balance', () => {
      made++
      dependsOn('id:account:1')
      return own?.balance ?? committed
    })
  return { region, transaction, change, read, made: () => made, committed: () => committed }
}

const rollback = new Error('rollback')

describe('a creation inside a transaction', () => {
  it('is not kept when it is rolled back', async () => {
    const { region, transaction, read } = bank()
    await expect(
      transaction(async (own) => {
        own.balance = 99
        expect(await read(own)).toBe(99)
        throw rollback
      }),
    ).rejects.toBe(rollback)
    expect(await region.get('balance')).toBe(NO_VALUE)
    expect(await read()).toBe(1)
  })

  it('is not kept when it was read as of before a change that is invalidated already', async () => {
    const { region, transaction, change, read } = bank()
    const began = deferred()
    const changed = deferred()
    const running = transaction(async (own) => {
      began.resolve()
      await changed.promise
      expect(await read(own)).toBe(1)
    })
    await began.promise
    await change(2)
    changed.resolve()
    await running
    expect(await region.get('balance')).toBe(NO_VALUE)
    expect(await read()).toBe(2)
  })

  it('is given to no other caller, which would take it for committed', async () => {
    const { region, transaction } = bank()
    const slow = held<number>()
    const running = transaction(async () => {
      expect(await region.getOrCreate('balance', slow.create)).toBe(99)
    })
    await slow.started
    expect(await region.getOrCreate('balance', () => 1)).toBe(1)
    slow.resolve(99)
    await running
    expect(await region.get('balance')).toBe(1)
  })

  it('waits for no other creation: that may wait for a lock of the transaction', async () => {
    const { region, transaction } = bank()
    const slow = held<number>()
    const other = region.getOrCreate('balance', slow.create)
    await slow.started
    await transaction(async (own) => {
      expect(await region.getOrCreate('balance', () => own.balance)).toBe(1)
      expect(await region.getOrCreateMulti(['balance', 'x'], (keys) => keys.map(() => 7))).toEqual([7, 7])
    })
    expect(await region.get('x')).toBe(NO_VALUE)
    slow.resolve(5)
    expect(await other).toBe(5)
    expect(await region.get('balance')).toBe(5)
  })

  it('is not needed where there is a value; a stale one is created again, and stays for others', async () => {
    const { region, transaction, read, made } = bank()
    await read()
    await transaction(async (own) => {
      own.balance = 2
      expect(await read(own)).toBe(1)
    })
    expect(made()).toBe(1)
    await region.expire('balance')
    await expect(
      transaction(async (own) => {
        own.balance = 98
        expect(await read(own)).toBe(98)
        throw rollback
      }),
    ).rejects.toBe(rollback)
    expect(await region.get('balance', { ignoreExpiration: true })).toBe(1)
  })

  it('runs again each time, by all kinds of cached functions, and the functions that they call', async () => {
    const { region, transaction } = bank()
    let inner = 0
    let outer = 0
    const part = region.cacheOnArguments({ namespace: 'part' })((id: number) => ++inner + 0 * id)
    const whole = region.cacheOnArguments({ namespace: 'whole' })(async (id: number) => {
      outer++
      return part(id)
    })
    const version = versioned({ version: () => 1, namespace: 'v', region })(() => ++outer)
    const quick = cacheResults({ namespace: 'quick', expirationTime: '1m', region })(() => ++outer)
    await transaction(async () => {
      for (const work of [() => whole(1), version, quick]) {
        const before = outer
        await work()
        await work()
        expect(outer).toBe(before + 2)
      }
    })
    expect(inner).toBe(2)
    await whole(1)
    await whole(1)
    expect([inner, await part(1)]).toEqual([3, 3])
  })

  it('is made at once for many keys, except those that are there', async () => {
    const { region } = bank()
    await region.set('fresh', 1)
    await region.set('stale', 2)
    await region.expire('stale')
    const slow = held<number>()
    const other = region.getOrCreate('flying', slow.create)
    await slow.started
    const asked: (readonly string[])[] = []
    const made = await afterCommit(() =>
      region.getOrCreateMulti(['flying', 'fresh', 'missing', 'stale', 'missing'], (keys) => {
        asked.push(keys)
        return keys.map(() => 99)
      }),
    )
    expect(made).toEqual([99, 1, 99, 99, 99])
    expect(asked).toEqual([['flying', 'missing', 'stale']])
    slow.resolve(5)
    expect(await other).toBe(5)
    expect(await region.getMulti(['flying', 'fresh', 'missing', 'stale'])).toEqual([5, 1, NO_VALUE, NO_VALUE])
  })

  it('is not handed to a runner, whose jobs are in no transaction, wherever they run', async () => {
    const jobs: CreationJob[] = []
    const backend = wrap(memory(), dependencies())
    const region = makeRegion<number>({ name: 'jobs', backend, asyncCreationRunner: (job) => jobs.push(job) })
    await region.set('key', 1)
    await region.expire('key')
    expect(await afterCommit(() => region.getOrCreate('key', () => 2))).toBe(2)
    expect(jobs).toEqual([])
    const part = () => region.getOrCreate('part', () => 3)
    expect(await region.getOrCreate('key', part)).toBe(1)
    const running = afterCommit(async () => {
      await jobs[0]?.run()
      throw rollback
    })
    await expect(running).rejects.toBe(rollback)
    expect(await region.getMulti(['key', 'part'])).toEqual([3, 3])
  })

  it('ends when its caller has gone, and without a deadline otherwise', async () => {
    const { region } = bank()
    const gone = new Error('gone')
    const slow = held<number>()
    const abort = new AbortController()
    const running = afterCommit(() => region.getOrCreate('key', slow.create, { signal: abort.signal }))
    await slow.started
    abort.abort(gone)
    await expect(running).rejects.toBe(gone)
    slow.resolve(1)
    const later = async () => (await sleep(5), 2)
    expect(await afterCommit(() => region.getOrCreate('key', later))).toBe(2)
    expect([await region.get('key'), await region.keyIsLocked('key')]).toEqual([NO_VALUE, false])
  })

  it('is kept again once it is over, also by work that it left behind', async () => {
    const { region, transaction, read } = bank()
    const over = deferred()
    let late: Promise<number> | undefined
    await transaction(async () => {
      late = over.promise.then(() => read())
    })
    expect(await region.get('balance')).toBe(NO_VALUE)
    over.resolve()
    expect(await late).toBe(1)
    expect(await region.get('balance')).toBe(1)
  })
})

describe('a creation outside of a transaction that it has begun itself', () => {
  type Bank = ReturnType<typeof bank>
  const inside: Record<string, (bank: Bank, own: { balance: number }) => Promise<unknown>> = {
    getOrCreate: ({ read }, own) => read(own),
    'a creation within a creation': ({ region, read }, own) => region.getOrCreate('mid', () => read(own)),
    'a savepoint': ({ read }, own) => afterCommit(() => read(own)),
    getOrCreateMulti: ({ region }, own) =>
      region.getOrCreateMulti(['balance'], () => {
        dependsOn('id:account:1')
        return [own.balance]
      }),
    refresh: ({ region }, own) =>
      region
        .cacheOnArguments({ namespace: 'own', dependencies: () => 'id:account:1' })(() => own.balance)
        .refresh(),
  }
  for (const [how, work] of Object.entries(inside)) {
    it(`is no newer than the transaction, from which it has something by ${how}`, async () => {
      const all = bank()
      const began = deferred()
      const changed = deferred()
      const running = all.region.getOrCreate('outer', async () => {
        await all.transaction(async (own) => {
          began.resolve()
          await changed.promise
          await work(all, own)
        })
        return 1
      })
      await began.promise
      await all.change(2)
      changed.resolve()
      expect(await running).toBe(1)
      expect(await all.region.get('outer')).toBe(NO_VALUE)
    })

    it(`is not kept if that is rolled back, after ${how}`, async () => {
      const all = bank()
      await all.region.getOrCreate('outer', async () => {
        const running = all.transaction(async (own) => {
          own.balance = 99
          await work(all, own)
          throw rollback
        })
        await expect(running).rejects.toBe(rollback)
        return 99
      })
      expect(await all.region.get('outer')).toBe(NO_VALUE)
    })

    it(`is kept until something changes, after ${how}`, async () => {
      const all = bank()
      await all.region.getOrCreate('outer', async () => {
        await all.transaction((own) => work(all, own))
        return 1
      })
      expect(await all.region.get('outer')).toBe(1)
      await all.change(2)
      expect(await all.region.get('outer')).toBe(NO_VALUE)
    })
  }

  it('is not kept if it reads values that the transaction left behind', async () => {
    const { region, transaction } = bank()
    const slow = held<number>()
    await region.getOrCreate('outer', async () => {
      let left: Promise<number> | undefined
      await transaction(async () => {
        left = region.getOrCreate('late', slow.create)
        await slow.started
      })
      slow.resolve(1)
      return (await left) ?? 0
    })
    expect(await region.get('outer')).toBe(NO_VALUE)
  })

  it('is not kept if only a savepoint is rolled back', async () => {
    const { region, transaction, read } = bank()
    await region.getOrCreate('outer', async () => {
      await transaction(async () => {
        const point = afterCommit(async () => {
          await read({ balance: 99 })
          throw rollback
        })
        await expect(point).rejects.toBe(rollback)
      })
      return 99
    })
    expect(await region.get('outer')).toBe(NO_VALUE)
  })
})

describe('a version that is read inside a transaction', () => {
  const never = { version: 2, text: 'never' }
  const stage = () => {
    const row = { version: 1, text: 'one' }
    let own: typeof row | undefined
    const region = makeRegion<string>({ name: 'pages', backend: wrap(memory(), dependencies()) })
    const page = versioned({ version: () => (own ?? row).version, namespace: 'page', region })(
      () => (own ?? row).text,
    )
    const rolledBack = async (work: () => Promise<unknown>) => {
      const running = afterCommit(async () => {
        own = never
        await work()
        throw rollback
      })
      await expect(running).rejects.toBe(rollback)
      own = undefined
    }
    return { row, region, page, rolledBack }
  }

  for (const how of ['call', 'refresh'] as const)
    it(`is not the one that the session knows from then on: ${how}`, async () => {
      const { row, page, rolledBack } = stage()
      await session.run(async () => {
        await rolledBack(async () => expect(await page.version()).toBe('2'))
        if (how === 'call') await rolledBack(async () => expect(await page()).toBe('never'))
        else await rolledBack(() => page.version().then(() => page.refresh()))
        await page.invalidate()
        expect(await page()).toBe('one')
        expect(await page.version()).toBe('1')
      })
      Object.assign(row, { version: 2, text: 'two' })
      expect(await session.run(() => page())).toBe('two')
    })

  it('asks again for a version that the session knows, and leaves it known', async () => {
    const { page, rolledBack } = stage()
    await session.run(async () => {
      expect(await page()).toBe('one')
      await rolledBack(async () => expect(await page()).toBe('never'))
      expect(await page()).toBe('one')
    })
  })

  it('is no dependency of the creation around it, if it is rolled back', async () => {
    const { row, region, page, rolledBack } = stage()
    const outer = () =>
      region.getOrCreate('outer', async () => {
        if (row.version === 1) await rolledBack(() => page())
        return row.text
      })
    expect(await outer()).toBe('one')
    Object.assign(row, { version: 2, text: 'two' })
    expect(await outer()).toBe('two')
  })
})

it('a creator inside a transaction that asks for itself is an error, and not endless', async () => {
  const { region } = bank()
  const cycles: (() => Promise<unknown>)[] = [
    function self(): Promise<number> {
      return region.getOrCreate('self', self as () => Promise<number>)
    },
    function nested(): Promise<number> {
      return region.getOrCreate('nested', () => afterCommit(nested as () => Promise<number>))
    },
    function multi(): Promise<number> {
      return region.getOrCreate('one', async () => {
        const [value] = await region.getOrCreateMulti(['other'], async () => [(await multi()) as number])
        return value as number
      })
    },
  ]
  for (const cycle of cycles)
    await expect(afterCommit(cycle)).rejects.toMatchObject({ code: 'ERR_CREATION_CYCLE' })
})

it.each([
  ['a hole', Object.assign(new Array(2), { 1: 'a' })],
  ['a number', [5]],
  ['undefined', undefined],
])('invalidateAfterCommit() refuses %s, also inside a transaction', async (_, names) => {
  const region = makeRegion({ name: 'r', backend: wrap(memory(), dependencies()) })
  const refused = { code: 'ERR_OPTION' }
  await expect(invalidateAfterCommit(region, names as never)).rejects.toMatchObject(refused)
  await expect(afterCommit(() => invalidateAfterCommit(region, names as never))).rejects.toMatchObject(
    refused,
  )
})

it('drainRefreshes() of one copy of the package waits for the refreshes of another', async () => {
  vi.resetModules()
  const copy = await import('../../src/signals/index.js')
  expect(copy.drainRefreshes).not.toBe(drainRefreshes)
  const work = deferred<void>()
  let isDone = false
  await copy.refreshAfterCommit(() => work.promise.then(() => void (isDone = true)))
  const drained = drainRefreshes().then(() => isDone)
  await sleep(0)
  work.resolve()
  expect(await drained).toBe(true)
})

import { describe, expect, it } from 'vitest'
import { type DogpileDriver, dogpile, type FillResult, type Lookup } from '../../src/dogpile/index.js'
import { type CorralError, diagnostics } from '../../src/index.js'
import { held } from '../support/stage.js'
import { deferred, idle, isPending, sleep, until } from '../support/waiting.js'

/** A resource in a variable, with every call that the dogpile makes. */
function resource(initial: Lookup<string> = { state: 'missing' }) {
  const calls: string[] = []
  let current = initial
  let holder: string | undefined
  let settle = deferred()
  let tokens = 0
  const free = () => {
    holder = undefined
    settle.resolve()
    settle = deferred()
  }
  const state = {
    calls,
    get holder() {
      return holder
    },
    put(found: Lookup<string>) {
      current = found
    },
    /** Another process holds the lease. */
    occupy() {
      holder = 'somebody else'
    },
    free,
    steps: (create: () => Promise<string> | string): DogpileDriver<string> => ({
      read(keys) {
        calls.push('look')
        return keys.map(() => current)
      },
      async create(keys) {
        calls.push('create')
        const value = await create()
        return keys.map(() => value)
      },
      acquire(_, steal) {
        calls.push(steal ? 'steal' : 'acquire')
        if (holder !== undefined && !steal) return { remaining: 1_000, settled: settle.promise }
        if (steal) free()
        holder = `token ${++tokens}`
        return { token: holder, found: steal ? undefined : current }
      },
      fill(fills) {
        calls.push('fill')
        return fills.map(([, value, token]): FillResult => {
          if (token !== holder) return 'lost'
          current = { state: 'fresh', value }
          free()
          return 'stored'
        })
      },
      release(_, token) {
        calls.push('release')
        if (token !== holder) return false
        free()
        return true
      },
      renew: (_, token) => token === holder,
    }),
  }
  return state
}

describe('a dogpile without a cache', () => {
  it('serves a fresh value with one look and no lease', async () => {
    const at = resource({ state: 'fresh', value: 'fresh' })
    expect(
      await dogpile<string>().run(
        'key',
        at.steps(() => expect.unreachable()),
      ),
    ).toBe('fresh')
    expect(at.calls).toEqual(['look'])
  })

  it('creates a missing value under the lease, after a second look', async () => {
    const at = resource()
    expect(
      await dogpile<string>().run(
        'key',
        at.steps(() => 'made'),
      ),
    ).toBe('made')
    expect(at.calls).toEqual(['look', 'acquire', 'create', 'fill'])
    expect(at.holder).toBeUndefined()
  })

  it('needs nothing but a look and a creation', async () => {
    let value: string | undefined
    const pile = dogpile<string>()
    const steps: DogpileDriver<string> = {
      read: () => [value === undefined ? { state: 'missing' } : { state: 'fresh', value }],
      create: () => {
        value = 'made'
        return [value]
      },
    }
    expect(await pile.run('key', steps)).toBe('made')
    expect(await pile.run('key', steps)).toBe('made')
  })

  it('serves the value that another caller created between the first look and the lease', async () => {
    const at = resource()
    at.occupy()
    const waiting = dogpile<string>().run(
      'key',
      at.steps(() => expect.unreachable()),
    )
    expect(await isPending(waiting)).toBe(true)
    at.put({ state: 'fresh', value: 'made elsewhere' })
    at.free()
    expect(await waiting).toBe('made elsewhere')
    expect(at.holder).toBeUndefined()
  })

  it('creates when the former holder of the lease created nothing', async () => {
    const at = resource()
    at.occupy()
    const waiting = dogpile<string>().run(
      'key',
      at.steps(() => 'made here'),
    )
    await idle()
    at.free()
    expect(await waiting).toBe('made here')
  })

  it('serves a stale value at once while another caller holds the lease', async () => {
    const at = resource({ state: 'stale', value: 'old' })
    at.occupy()
    expect(
      await dogpile<string>().run(
        'key',
        at.steps(() => expect.unreachable()),
      ),
    ).toBe('old')
    expect(at.calls).toEqual(['look', 'acquire'])
  })

  it('asks once for a lease that another caller holds, for any number of callers with the stale value', async () => {
    const at = resource({ state: 'stale', value: 'old' })
    at.occupy()
    const pile = dogpile<string>()
    const steps = at.steps(() => 'made here')
    for (let i = 0; i < 3; i++) expect(await pile.run('key', steps)).toBe('old')
    expect(at.calls).toEqual(['look', 'acquire', 'look', 'look'])
    at.free()
    await idle()
    expect(await pile.run('key', steps)).toBe('made here')
    // A call may still create a value that is missing now.
    at.put({ state: 'stale', value: 'old' })
    at.occupy()
    expect(await pile.run('key', steps)).toBe('old')
    at.put({ state: 'missing' })
    const missing = pile.run('key', steps)
    await idle()
    at.free()
    expect(await missing).toBe('made here')
  })

  it('asks again when a lease does not tell that it is over', async () => {
    const at = resource({ state: 'stale', value: 'old' })
    const pile = dogpile<string>()
    const steps = {
      ...at.steps(() => 'made here'),
      acquire: () => {
        at.calls.push('acquire')
        return { remaining: 1, settled: new Promise<void>(() => {}) }
      },
    }
    const asked = () => at.calls.filter((call) => call === 'acquire').length
    for (const deadline = performance.now() + 10_000; asked() < 2 && performance.now() < deadline; ) {
      expect(await pile.run('key', steps)).toBe('old')
      await sleep(1)
    }
    expect(asked()).toBe(2)
  })

  it('looks again before it renews, so that no caller repeats a renewal', async () => {
    const at = resource({ state: 'stale', value: 'old' })
    const steps = at.steps(() => expect.unreachable())
    const acquired = deferred()
    const late: DogpileDriver<string> = {
      ...steps,
      async acquire(key, steal) {
        await acquired.promise
        return steps.acquire?.(key, steal) as never
      },
    }
    const caller = dogpile<string>().run('key', late)
    await idle()
    at.put({ state: 'fresh', value: 'renewed elsewhere' })
    acquired.resolve()
    expect(await caller).toBe('renewed elsewhere')
    expect(at.calls).toEqual(['look', 'acquire', 'release'])
  })

  it('makes one caller renew a stale value and wait for it, while the others have the old one', async () => {
    const at = resource({ state: 'stale', value: 'old' })
    const pile = dogpile<string>()
    const creator = held<string>()
    const leader = pile.run('key', at.steps(creator.create))
    await creator.started
    expect(
      await pile.run(
        'key',
        at.steps(() => expect.unreachable()),
      ),
    ).toBe('old')
    expect(await isPending(leader)).toBe(true)
    creator.resolve('new')
    expect(await leader).toBe('new')
  })

  it('waits until the lease that blocks it has ended, however often it is taken', async () => {
    const at = resource()
    at.occupy()
    const waiting = dogpile<string>().run(
      'key',
      at.steps(() => 'made'),
    )
    for (let round = 0; round < 20; round++) {
      await idle(2)
      at.free()
      at.occupy()
    }
    expect(await isPending(waiting)).toBe(true)
    at.free()
    expect(await waiting).toBe('made')
  })
})

describe('a failure in a dogpile', () => {
  const boom = new Error('boom')

  it('of a creation releases the lease and reaches all waiters', async () => {
    const at = resource()
    const pile = dogpile<string>()
    const creator = held<string>()
    const callers = [1, 2, 3].map(() => pile.run('key', at.steps(creator.create)))
    await creator.started
    creator.reject(boom)
    for (const caller of callers) await expect(caller).rejects.toBe(boom)
    expect(creator.runs).toBe(1)
    expect(at.holder).toBeUndefined()
    expect(
      await pile.run(
        'key',
        at.steps(() => 'then'),
      ),
    ).toBe('then')
  })

  it('of the first look leaves nothing behind', async () => {
    const at = resource()
    const pile = dogpile<string>()
    const failing: DogpileDriver<string> = { ...at.steps(() => 'made'), read: () => Promise.reject(boom) }
    await expect(pile.run('key', failing)).rejects.toBe(boom)
    expect(
      await pile.run(
        'key',
        at.steps(() => 'made'),
      ),
    ).toBe('made')
  })

  it('of giving the lease back does not replace the error that counts', async () => {
    const at = resource()
    const failing: DogpileDriver<string> = {
      ...at.steps(() => Promise.reject(boom)),
      release: () => Promise.reject(new Error('not the owner')),
    }
    await expect(dogpile<string>().run('key', failing)).rejects.toBe(boom)
  })

  it('of the entry that a lease brings reaches no caller while the leases of the other keys are asked for', async () => {
    const unhandled: unknown[] = []
    const note = (error: unknown) => unhandled.push(error)
    process.on('unhandledRejection', note)
    const others = deferred()
    const at = resource()
    const settled = Promise.reject(new Error('judged in vain'))
    const waiting = dogpile<string>().runMulti(['a', 'b'], {
      ...at.steps(() => 'made'),
      acquire: async (key) => {
        if (key === 'a') return { remaining: 1_000, settled }
        await others.promise
        return { token: '', found: undefined }
      },
    })
    const failed = expect(waiting).rejects.toThrow('judged in vain')
    await sleep(1)
    others.resolve()
    await failed
    process.off('unhandledRejection', note)
    expect(unhandled).toEqual([])
  })

  it('of the renewal of a lease does not reach the creation', async () => {
    const at = resource()
    const creator = held<string>()
    const renewed = deferred()
    const steps: DogpileDriver<string> = {
      ...at.steps(creator.create),
      renew() {
        renewed.resolve()
        return Promise.reject(boom)
      },
    }
    const caller = dogpile<string>({ renewEvery: 1 }).run('key', steps)
    await renewed.promise
    creator.resolve('made')
    expect(await caller).toBe('made')
  })

  it('to keep a lease lets later callers create: the first creation may hang', async () => {
    const at = resource()
    const first = held<string>()
    const asked = deferred()
    const hanging: DogpileDriver<string> = {
      ...at.steps(first.create),
      renew() {
        asked.resolve()
        return false
      },
    }
    const pile = dogpile<string>({ renewEvery: 1 })
    const caller = pile.run('key', hanging)
    await asked.promise
    await idle()
    // Another process invalidated the key, and so the lease is free.
    at.free()
    expect(
      await pile.run(
        'key',
        at.steps(() => 'second'),
      ),
    ).toBe('second')
    first.resolve('first')
    expect(await caller).toBe('first')
  })

  it('to keep a lease is told once for a creation', async () => {
    const at = resource()
    const [lost, kept] = [held<string>(), held<string>()]
    const pile = dogpile<string>({ renewEvery: 1 })
    const told: unknown[] = []
    const listen = (message: unknown) => void told.push(message)
    diagnostics('notice').subscribe(listen)
    let renewals = 0
    const all = [
      pile.run('lost', { ...at.steps(lost.create), renew: () => false }),
      pile.run('kept', { ...resource().steps(kept.create), renew: () => ++renewals > 0 }),
    ]
    await until(() => renewals > 5)
    diagnostics('notice').unsubscribe(listen)
    for (const one of [lost, kept]) one.resolve('made')
    expect(await Promise.all(all)).toEqual(['made', 'made'])
    expect(told).toEqual([expect.objectContaining({ key: 'lost' })])
  })

  it('to keep a lease that the fill has ended is told nobody', async () => {
    const at = resource()
    const [renewing, filling, asked] = [deferred<boolean>(), deferred(), deferred()]
    const told: unknown[] = []
    const listen = (message: unknown) => void told.push(message)
    diagnostics('notice').subscribe(listen)
    let renewals = 0
    const creator = held<string>()
    const steps: DogpileDriver<string> = {
      ...at.steps(creator.create),
      renew() {
        // One that was sent before the fill, and others behind it.
        renewals++
        asked.resolve()
        return renewals === 1 ? renewing.promise : false
      },
      fill: async () => {
        await filling.promise
        return ['stored']
      },
    }
    const caller = dogpile<string>({ renewEvery: 1 }).run('key', steps)
    await asked.promise
    creator.resolve('made')
    await until(() => renewals > 1)
    renewing.resolve(false)
    filling.resolve()
    expect(await caller).toBe('made')
    diagnostics('notice').unsubscribe(listen)
    expect(told).toEqual([])
  })

  it('of the driver to judge a failure does not leave callers waiting', async () => {
    const at = resource()
    const steps: DogpileDriver<string> = {
      ...at.steps(() => Promise.reject(boom)),
      failed() {
        throw new Error('of the driver')
      },
    }
    await expect(dogpile<string>().run('key', steps)).rejects.toBe(boom)
  })

  it('of the runner costs no caller the old value, and releases the lease', async () => {
    const at = resource({ state: 'stale', value: 'old' })
    const pile = dogpile<string>({
      runner() {
        throw boom
      },
    })
    expect(
      await pile.run(
        'key',
        at.steps(() => expect.unreachable()),
      ),
    ).toBe('old')
    await idle()
    expect(at.holder).toBeUndefined()
  })
})

describe('a runner', () => {
  it('is handed the lease, and gives it back when its job is done', async () => {
    const at = resource({ state: 'stale', value: 'old' })
    let run: (() => Promise<void>) | undefined
    const pile = dogpile<string>({
      runner(job) {
        run = job.run
      },
    })
    expect(
      await pile.run(
        'key',
        at.steps(() => 'new'),
      ),
    ).toBe('old')
    expect(at.holder).toBeDefined()
    expect(at.calls).not.toContain('create')
    await run?.()
    expect(at.holder).toBeUndefined()
    expect(
      await pile.run(
        'key',
        at.steps(() => expect.unreachable()),
      ),
    ).toBe('new')
  })
})

describe('a flight', () => {
  it('takes no joiners once its fill is sent', async () => {
    const at = resource()
    const pile = dogpile<string>()
    const sent = deferred()
    const answer = deferred()
    const steps = at.steps(() => 'first')
    const slow: DogpileDriver<string> = {
      ...steps,
      async fill(fills) {
        sent.resolve()
        await answer.promise
        return steps.fill?.(fills) as never
      },
    }
    const leader = pile.run('key', slow)
    await sent.promise
    // An invalidation that is acknowledged now may have overtaken the fill.
    at.free()
    const after = pile.run(
      'key',
      at.steps(() => 'second'),
    )
    expect(await after).toBe('second')
    answer.resolve()
    expect(await leader).toBe('first')
    expect(
      await pile.run(
        'key',
        at.steps(() => expect.unreachable()),
      ),
    ).toBe('second')
  })

  it('ends when a lease brings a value: a later caller runs another creator', async () => {
    const pile = dogpile<string>()
    const at = resource()
    const told = deferred<Lookup<string>>()
    const steps = at.steps(() => expect.unreachable())
    const leader = pile.run('key', {
      ...steps,
      acquire: () => ({ remaining: 1_000, settled: told.promise }),
    })
    await idle()
    const joiner = pile.run(
      'key',
      at.steps(() => 'made by who came later'),
    )
    await idle()
    told.resolve({ state: 'fresh', value: 'told' })
    expect(await leader).toBe('told')
    expect(await joiner).toBe('made by who came later')
  })

  it('whose fill was lost serves its leader only; joiners start over together', async () => {
    const at = resource()
    const pile = dogpile<string>()
    const first = held<string>()
    const leader = pile.run('key', at.steps(first.create))
    await first.started
    const second = held<string>()
    const joiners = [1, 2].map(() => pile.run('key', at.steps(second.create)))
    await idle()
    at.free()
    first.resolve('first')
    expect(await leader).toBe('first')
    await second.started
    second.resolve('second')
    expect(await Promise.all(joiners)).toEqual(['second', 'second'])
    expect(second.runs).toBe(1)
  })

  it('that is overtaken again and again ends in a creation of one’s own', async () => {
    const at = resource()
    const pile = dogpile<string>()
    let runs = 0
    const value = await pile.run(
      'key',
      at.steps(() => {
        runs++
        at.free()
        return `made ${runs}`
      }),
    )
    expect(value).toBe('made 1')
    const gate = held<string>()
    const leader = pile.run('key', at.steps(gate.create))
    await gate.started
    let joined = 0
    const joiner = pile.run(
      'key',
      at.steps(() => {
        joined++
        at.free()
        return `joined ${joined}`
      }),
    )
    await idle()
    at.free()
    gate.resolve('led')
    expect(await leader).toBe('led')
    expect(await joiner).toMatch(/^joined/)
  })
})

describe('the renewal of a value', () => {
  it('creates over any entry, and returns whether the value was stored', async () => {
    const at = resource({ state: 'fresh', value: 'old' })
    expect(
      await dogpile<string>().renew(
        'key',
        at.steps(() => 'new'),
      ),
    ).toEqual({
      value: 'new',
      filled: 'stored',
    })
    expect(at.calls).toEqual(['steal', 'create', 'fill'])
  })

  it('voids a creation under way', async () => {
    const at = resource()
    const pile = dogpile<string>()
    const slow = held<string>()
    const leader = pile.run('key', at.steps(slow.create))
    await slow.started
    expect(
      await pile.renew(
        'key',
        at.steps(() => 'renewed'),
      ),
    ).toEqual({
      value: 'renewed',
      filled: 'stored',
    })
    slow.resolve('slow')
    expect(await leader).toBe('slow')
    expect(
      await pile.run(
        'key',
        at.steps(() => expect.unreachable()),
      ),
    ).toBe('renewed')
  })

  it('of a key inside its own creation is refused', async () => {
    const at = resource()
    const pile = dogpile<string>()
    await expect(
      pile.run(
        'key',
        at.steps(
          async () =>
            (
              await pile.renew(
                'key',
                at.steps(() => 'inner'),
              )
            ).value,
        ),
      ),
    ).rejects.toMatchObject({ code: 'ERR_CREATION_CYCLE' })
  })
})

it('awaits thenables of other libraries that a driver or a caller returns, with a signal and without', async () => {
  const thenable = <T>(value: T): Promise<T> =>
    // biome-ignore lint/suspicious/noThenProperty: the test needs a thenable
    ({ then: (resolve: (value: T) => void) => void resolve(value) }) as unknown as Promise<T>
  const gate = deferred()
  const driver: DogpileDriver<string> = {
    read: (keys) => thenable(keys.map(() => ({ state: 'missing' as const }))),
    create: (keys) => gate.promise.then(() => keys.map((key) => `of ${key}`)),
  }
  const pile = dogpile<string>()
  const { signal } = new AbortController()
  const accept = () => thenable(true)
  const results = Promise.all([
    pile.run('key', driver, { signal }),
    pile.run('key', driver, { signal, accept }),
    pile.run('key', driver, { accept }),
  ])
  gate.resolve()
  expect(await results).toEqual(['of key', 'of key', 'of key'])
})

describe('the options of a dogpile', () => {
  it('are refused when they cannot be', () => {
    const refusal = expect.objectContaining({ code: 'ERR_OPTION' }) as CorralError
    for (const options of [{ wait: 0 }, { renewEvery: -1 }, { timeout: 5 }, 5, null] as never[])
      expect(() => dogpile(options)).toThrow(refusal)
  })
})

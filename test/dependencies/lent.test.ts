import { describe, expect, it } from 'vitest'
import { memory } from '../../backends/memory/index.js'
import { dependencies } from '../../proxies/dependencies.js'
import {
  type Backend,
  CorralError,
  delegate,
  dep,
  dependsOn,
  type EpochStore,
  epochLedger,
  type Ledger,
  makeRegion,
  NO_VALUE,
  wrap,
} from '../../src/index.js'
import { withMemcached } from '../backends/memcached/start.js'
import { withOperations } from '../support/ledgers.js'
import { deferred, idle } from '../support/waiting.js'

/** Two processes over one store whose ledger is in another store. */
function lending(ledger: Ledger) {
  const store = memory()
  const region = () => makeRegion<string>({ name: 'lent', backend: wrap(store, dependencies({ ledger })) })
  return [region(), region()] as const
}

/** Learns its dependencies only inside. */
const make = () => {
  dependsOn(dep.id('row', 1))
  return 'v'
}

withMemcached('a ledger of memcached, lent', (bench) => {
  it('stores a value made from names that were unknown before, and invalidates it', async () => {
    const [one, other] = lending(bench().open().ledger as Ledger)
    await one.getOrCreate('k', make)
    expect(await other.get('k')).toBe('v')
    await other.invalidateDependencies(dep.id('row', 1))
    expect(await one.get('k')).toBe(NO_VALUE)
    await one.getOrCreate('k', make)
    expect(await other.get('k')).toBe('v')
  })
})

describe('a ledger of get, set and add', () => {
  const epochs = () => {
    const texts = new Map<string, string>()
    const store: EpochStore = {
      get: (key) => texts.get(key),
      set: async (key, value) => void texts.set(key, value),
      add: (key, value) => void (texts.has(key) || texts.set(key, value)),
    }
    return { texts, ledger: epochLedger(store) }
  }

  it('has the entry that a lease brings read again, since it may have been stored after an invalidation', async () => {
    const { ledger } = epochs()
    const judged = deferred()
    const stored = deferred()
    const slow = withOperations(ledger, (opened) => ({
      async read(names) {
        const reading = await opened.read(names)
        judged.resolve()
        await stored.promise
        return reading
      },
    }))
    const store = memory()
    const bringing = <T>(next: Backend<T>): Backend<T> =>
      delegate<T>(next, {
        async acquire(key, ms, options) {
          const acquired = await next.acquire(key, ms, options)
          if (acquired.token !== undefined) return acquired
          return { ...acquired, settled: acquired.settled.then(() => next.get(key)) }
        },
      })
    const region = (by: Ledger) =>
      makeRegion<string>({ name: 'lent', backend: wrap(store, bringing, dependencies({ ledger: by })) })
    const [maker, waiter] = [region(slow), region(ledger)]
    const made = maker.getOrCreate('k', () => 'old')
    await judged.promise
    await waiter.invalidate()
    const got = waiter.getOrCreate('k', () => 'new')
    await idle()
    stored.resolve()
    await made
    expect(await got).toBe('new')
  })

  it('takes all entries with any name, hard or soft, and nothing else', async () => {
    const [one, other] = lending(epochs().ledger)
    for (const mode of ['hard', 'soft'] as const) {
      await one.getOrCreate('k', make)
      await one.set('unrelated', 'w')
      expect([await other.get('k'), await other.get('unrelated')]).toEqual(['v', 'w'])
      await other.invalidateDependencies(dep.id('another', 1), mode)
      expect([await one.get('k'), await one.get('unrelated')]).toEqual([NO_VALUE, NO_VALUE])
    }
  })

  it('takes the loss of its record, and a broken epoch, for an invalidation', async () => {
    const { texts, ledger } = epochs()
    const [one, other] = lending(ledger)
    for (const lose of [() => texts.clear(), () => texts.forEach((_, key) => texts.set(key, ''))]) {
      await one.getOrCreate('k', make)
      lose()
      expect(await other.get('k')).toBe(NO_VALUE)
    }
  })

  it('hands up from one region to another', async () => {
    const [one, other] = lending(epochs().ledger)
    const whole = () => one.getOrCreate('whole', async () => `whole of ${await one.getOrCreate('k', make)}`)
    await whole()
    expect(await other.get('whole')).toBe('whole of v')
    await other.invalidateDependencies(dep.id('row', 1))
    expect(await one.get('whole')).toBe(NO_VALUE)
  })

  it('needs all three', () => {
    for (const store of [undefined, {}, { get: () => undefined, set: () => undefined }])
      expect(() => epochLedger(store as never)).toThrow(CorralError)
  })
})

import { describe, expect, it } from 'vitest'
import { memory } from '../../backends/memory/index.js'
import {
  type BackendSpec,
  type CachedValue,
  CorralError,
  defineBackend,
  intercept,
  makeRegion,
  memoryLedger,
  NO_VALUE,
  type OperationName,
  wrap,
} from '../../src/index.js'
import type { OpenLedger } from '../../src/ledger/ledger.js'
import { judge, withOperations } from '../support/ledgers.js'
import { manualClock } from '../support/stage.js'
import { idle, sleep } from '../support/waiting.js'

const cause = new Error('connection refused')
const failed = expect.objectContaining({ name: 'CorralError', code: 'ERR_BACKEND', cause }) as Error

/** A region whose backend fails in one operation. */
function failing(name: OperationName, how: 'throws' | 'rejects') {
  let armed = false
  const clock = manualClock()
  const backend = wrap(
    memory({ clock }),
    intercept((operation, proceed) => {
      if (!armed || operation.name !== name) return proceed()
      if (how === 'throws') throw cause
      return Promise.reject(cause)
    }),
  )
  return {
    clock,
    region: makeRegion<string>({ backend, clock, expirationTime: 100 }),
    arm: (on = true) => {
      armed = on
    },
  }
}

for (const how of ['throws', 'rejects'] as const)
  describe(`a backend that ${how}`, () => {
    it('in a read rejects with a typed error and its cause', async () => {
      const { region, arm } = failing('get', how)
      await region.set('key', 'value')
      arm()
      const never = () => expect.unreachable()
      await expect(region.get('key')).rejects.toEqual(failed)
      await expect(region.has('key')).rejects.toEqual(failed)
      await expect(region.getValueMetadata('key')).rejects.toEqual(failed)
      await expect(region.getOrCreate('key', never)).rejects.toEqual(failed)
      if (how === 'throws') expect(() => region.peek('key')).toThrow(failed)
      arm(false)
      expect(await region.get('key')).toBe('value')
      expect(await region.keyIsLocked('key')).toBe(false)
    })

    it('in a batch read rejects with a typed error', async () => {
      const { region, arm } = failing('getMulti', how)
      arm()
      await expect(region.getMulti(['a', 'b'])).rejects.toEqual(failed)
      await expect(region.getOrCreateMulti(['a', 'b'], () => expect.unreachable())).rejects.toEqual(failed)
      arm(false)
      expect(await region.getOrCreateMulti(['a', 'b'], (keys) => keys)).toEqual(['a', 'b'])
    })

    it('in a write rejects with a typed error, and leaves no lease', async () => {
      const { region, arm } = failing('set', how)
      arm()
      await expect(region.set('key', 'value')).rejects.toEqual(failed)
      await expect(region.getOrCreate('key', () => 'value')).rejects.toEqual(failed)
      arm(false)
      expect(await region.keyIsLocked('key')).toBe(false)
      expect(await region.getOrCreate('key', () => 'then')).toBe('then')
    })

    it('in a batch write rejects with a typed error, and leaves no lease', async () => {
      const { region, arm } = failing('setMulti', how)
      arm()
      await expect(
        region.setMulti([
          ['a', '1'],
          ['b', '2'],
        ]),
      ).rejects.toEqual(failed)
      await expect(region.getOrCreateMulti(['a', 'b'], (keys) => keys)).rejects.toEqual(failed)
      arm(false)
      expect(await region.keyIsLocked('a')).toBe(false)
      expect(await region.keyIsLocked('b')).toBe(false)
      expect(await region.getOrCreateMulti(['a', 'b'], (keys) => keys)).toEqual(['a', 'b'])
    })

    it('in a removal rejects with a typed error', async () => {
      const { region, arm } = failing('delete', how)
      arm()
      await expect(region.delete('key')).rejects.toEqual(failed)
      const many = failing('deleteMulti', how)
      many.arm()
      await expect(many.region.deleteMulti(['a', 'b'])).rejects.toEqual(failed)
    })

    it('in the lease rejects with a typed error, and creates nothing', async () => {
      const { region, arm } = failing('acquire', how)
      arm()
      const never = () => expect.unreachable()
      await expect(region.getOrCreate('key', never)).rejects.toEqual(failed)
      await expect(region.getOrCreateMulti(['a', 'b'], never)).rejects.toEqual(failed)
      await expect(region.expire('key')).rejects.toEqual(failed)
      await expect(region.cacheOnArguments({ namespace: 'f' })(never).refresh()).rejects.toEqual(failed)
      arm(false)
      expect(await region.getOrCreate('key', () => 'value')).toBe('value')
    })

    it('in releasing a lease costs no caller the value or the error that counts', async () => {
      const { region, arm } = failing('release', how)
      arm()
      await expect(region.getOrCreate('key', () => Promise.reject(new Error('boom')))).rejects.toThrow('boom')
      expect(await region.getOrCreate('other', () => 'value', { shouldCache: () => false })).toBe('value')
      expect(await region.getOrCreateMulti(['a', 'b'], (keys) => keys, { shouldCache: () => false })).toEqual(
        ['a', 'b'],
      )
    })

    it('in asking for the lock rejects with a typed error', async () => {
      const { region, arm } = failing('held', how)
      arm()
      await expect(region.keyIsLocked('key')).rejects.toEqual(failed)
    })
  })

describe('a backend that answers too late', () => {
  const lateIn = (...names: (keyof BackendSpec<CachedValue>)[]) => {
    const pending: ((error: Error) => void)[] = []
    const late = () =>
      new Promise<never>((_, reject) => {
        pending.push(reject)
      })
    const spec: BackendSpec<CachedValue> = {
      name: 'own',
      timeout: 20,
      get: () => undefined,
      set: () => {},
      delete: () => {},
    }
    for (const name of names) Object.assign(spec, { [name]: late })
    return {
      region: makeRegion<string>({ backend: defineBackend(spec) }),
      fail: () => {
        for (const reject of pending) reject(new Error('too late'))
      },
    }
  }

  it('is not waited for, and its late failure is handled', async () => {
    const timeout = expect.objectContaining({ code: 'ERR_TIMEOUT' }) as Error
    const reads = lateIn('get', 'getMulti')
    await expect(reads.region.get('key')).rejects.toEqual(timeout)
    await expect(reads.region.getMulti(['a', 'b'])).rejects.toEqual(timeout)
    await expect(reads.region.getOrCreate('key', () => expect.unreachable())).rejects.toEqual(timeout)
    const writes = lateIn('set', 'delete')
    await expect(writes.region.set('a', 'value')).rejects.toEqual(timeout)
    await expect(writes.region.delete('b')).rejects.toEqual(timeout)
    await expect(writes.region.getOrCreate('c', () => 'value')).rejects.toEqual(timeout)
    reads.fail()
    writes.fail()
    await idle()
  })

  it('in its ledger holds no caller up either', async () => {
    const timeout = expect.objectContaining({
      code: 'ERR_TIMEOUT',
      message: expect.stringMatching(/own\.(?:ledger\.\w+|acquire) did not return within 20 ms/),
    }) as Error
    const hangs = (...names: (keyof OpenLedger)[]) => {
      const pending: ((error: Error) => void)[] = []
      const late = () => new Promise<never>((_, reject) => void pending.push(reject))
      const values = new Map<string, CachedValue>()
      const ledger = withOperations(memoryLedger(), () =>
        Object.fromEntries(names.map((name) => [name, late])),
      )
      const backend = defineBackend<CachedValue>({
        name: 'own',
        timeout: 20,
        ledger,
        get: (key) => values.get(key),
        set: (key, value) => void values.set(key, value),
        delete: (key) => void values.delete(key),
      })
      return { backend, fail: () => pending.forEach((reject) => void reject(new Error('too late'))) }
    }
    const all = hangs('read', 'now', 'invalidate')
    const { ledger } = all.backend
    const snapshot = { epoch: 'e', groups: [{ asOf: 0, names: ['n'] }] }
    await expect(ledger?.open('c').read(['n'])).rejects.toEqual(timeout)
    await expect(ledger?.open('c').now(['n'])).rejects.toEqual(timeout)
    await expect(judge(ledger, 'c', snapshot)).rejects.toEqual(timeout)
    await expect(ledger?.open('c').invalidate(['n'], 'hard')).rejects.toEqual(timeout)
    all.fail()
    const creating = hangs('now')
    const region = makeRegion<string>({ backend: creating.backend })
    await expect(region.getOrCreate('key', () => 'value')).rejects.toEqual(timeout)
    creating.fail()
    const invalidating = hangs('invalidate')
    await expect(makeRegion({ backend: invalidating.backend }).invalidate()).rejects.toEqual(timeout)
    invalidating.fail()
    // A synchronous store stays synchronous.
    const prompt = hangs().backend.ledger
    expect(prompt?.open('c').read([])).toMatchObject({ now: { at: 0 } })
    expect(judge(prompt, 'c', snapshot)).toBe('invalid')
    await idle()
  })

  it('is given as long as it says, however long that is', async () => {
    const backend = defineBackend<CachedValue>({
      name: 'patient',
      timeout: '30d',
      // A duration taken for 1 ms would fail this read, and only a real timer shows it.
      get: async () => void (await sleep(30)),
      set: () => {},
      delete: () => {},
    })
    expect(await backend.get('key')).toBeUndefined()
  })
})

describe('a backend that answers nonsense', () => {
  it('in place of several values rejects, or counts as misses', async () => {
    for (const answer of [undefined, null, [], ['a'], 'ab', 5] as never[]) {
      const region = makeRegion<string>({
        backend: defineBackend<CachedValue>({
          name: 'own',
          get: () => undefined,
          getMulti: () => answer,
          set: () => {},
          delete: () => {},
        }),
      })
      const read = await region.getMulti(['a', 'b']).catch((error: unknown) => error)
      if (Array.isArray(read)) expect(read).toEqual([NO_VALUE, NO_VALUE])
      else expect(CorralError.is(read)).toBe(true)
    }
  })

  it('in place of a cached value counts as a miss', async () => {
    for (const answer of [null, 5, 'text', [], {}, { payload: 1 }, { metadata: {} }, NO_VALUE] as never[]) {
      const region = makeRegion<string>({
        backend: defineBackend<CachedValue>({
          name: 'own',
          get: () => answer,
          set: () => {},
          delete: () => {},
        }),
      })
      expect(await region.get('key'), String(answer)).toBe(NO_VALUE)
      expect(await region.getMulti(['key'])).toEqual([NO_VALUE])
      expect(await region.getValueMetadata('key', { ignoreExpiration: true })).toBeUndefined()
      expect(await region.getOrCreate('key', () => 'value')).toBe('value')
      await region.expire('key')
    }
  })
})

describe('a former backend whose closing fails', () => {
  it('does not break its replacement, nor end the process', async () => {
    const region = makeRegion<string>({
      backend: defineBackend<CachedValue>({
        name: 'own',
        get: () => undefined,
        set: () => {},
        delete: () => {},
        close: () => Promise.reject(cause),
      }),
    })
    region.configure({ backend: memory(), replaceExistingBackend: true })
    await idle()
    expect(await region.getOrCreate('key', () => 'value')).toBe('value')
  })

  it('rejects an explicit close with a typed error', async () => {
    const region = makeRegion({
      backend: defineBackend<CachedValue>({
        name: 'own',
        get: () => undefined,
        set: () => {},
        delete: () => {},
        close: () => Promise.reject(cause),
      }),
    })
    await expect(region.close()).rejects.toEqual(failed)
  })
})

/** What a client library without promises of its own returns: no `catch`, and a `then` that returns nothing. */
function foreign<T>(value: T): never {
  // biome-ignore lint/suspicious/noThenProperty: the test needs a thenable
  return { then: (resolve: (value: T) => void) => void setImmediate(resolve, value) } as never
}

describe('a backend that answers thenables', () => {
  const entries = new Map<string, CachedValue>()
  const store: BackendSpec<CachedValue> = {
    name: 'own',
    get: (key) => foreign(entries.get(key)),
    set: (key, value) => foreign(void entries.set(key, value)),
    delete: (key) => foreign(entries.delete(key)),
  }
  const leases = memory()
  const kinds: Readonly<Record<string, BackendSpec<CachedValue>>> = {
    alone: store,
    'with batches': {
      ...store,
      getMulti: (keys) => foreign(keys.map((key) => entries.get(key))),
      setMulti: (writes) => foreign(writes.map(([key, value]) => (entries.set(key, value), 'stored'))),
      deleteMulti: (keys) => foreign(void keys.forEach((key) => entries.delete(key))),
      ping: () => foreign(undefined),
      close: () => foreign(undefined),
    },
    'with a mutex': {
      ...store,
      mutex: () => ({
        acquire: () => foreign(true),
        release: () => foreign(true),
        locked: () => foreign(false),
      }),
    },
    'with a lease': {
      ...store,
      set(key, value, { token }) {
        entries.set(key, value)
        if (token !== undefined) leases.release(key, token)
        return foreign('stored')
      },
      delete(key) {
        void leases.delete(key)
        return foreign(entries.delete(key))
      },
      async acquire(...given) {
        const acquired = await leases.acquire(...given)
        return foreign(acquired.token === undefined ? acquired : { token: acquired.token })
      },
      renew: (...given) => foreign(leases.renew(...given)),
      release: (...given) => foreign(leases.release(...given)),
      held: (key) => foreign(leases.held(key)),
    },
    'without a deadline': { ...store, timeout: Number.POSITIVE_INFINITY },
  }
  for (const [kind, spec] of Object.entries(kinds))
    it(`is awaited: ${kind}`, async () => {
      entries.clear()
      const region = makeRegion<string>({ backend: defineBackend(spec), expirationTime: '1m' })
      await region.ready()
      expect(await region.getOrCreate('a', () => 'made')).toBe('made')
      await expect(region.getOrCreate('b', () => Promise.reject(cause))).rejects.toBe(cause)
      expect(await region.getMulti(['a', 'b'])).toEqual(['made', NO_VALUE])
      await region.setMulti([['b', 'set']])
      expect(await region.keyIsLocked('b')).toBe(false)
      expect(await region.get('b')).toBe('set')
      await region.expire('b')
      expect(await region.getOrCreate('b', () => 'new')).toBe('new')
      await region.deleteMulti(['a', 'b'])
      expect(await region.get('a')).toBe(NO_VALUE)
      await region.close()
    })
})

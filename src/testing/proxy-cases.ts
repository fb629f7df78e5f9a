import assert from 'node:assert/strict'
import type { Backend } from '../backend/backend.js'
import { delegate, type Overrides } from '../backend/delegate.js'
import { isPromise, type MaybePromise } from '../base/maybe-promise.js'
import { granted, same } from './context.js'

/** The arguments of a case of a proxy. */
interface ProxyContext<Outer, Inner> {
  /** Puts the proxy around a backend. */
  readonly proxy: (next: Backend<Inner>) => Backend<Outer>
  /** A fresh backend under the proxy. */
  readonly over: () => MaybePromise<Backend<Inner>>
  /** Different values of a chain, at least two. */
  readonly values: (chain: Backend<Outer>) => MaybePromise<readonly [Outer, Outer, ...Outer[]]>
  readonly synchronous: boolean
}

interface ProxyCase {
  readonly name: string
  run<Outer, Inner>(context: ProxyContext<Outer, Inner>): Promise<void>
}

/** Counts the calls that reach the backend below a proxy. */
function counted<T>(next: Backend<T>): { readonly backend: Backend<T>; readonly calls: string[] } {
  const calls: string[] = []
  const note =
    <A extends readonly unknown[], R>(name: string, work: (...args: A) => R) =>
    (...args: A): R => {
      calls.push(name)
      return work(...args)
    }
  const overrides: Overrides<T> = {
    get: note('get', (key: string) => next.get(key)),
    set: note('set', (key: string, value: T, options) => next.set(key, value, options)),
    delete: note('delete', (key: string) => next.delete(key)),
    acquire: note('acquire', (key: string, ms: number, options) => next.acquire(key, ms, options)),
    renew: note('renew', (key: string, token: string, ms: number) => next.renew(key, token, ms)),
    release: note('release', (key: string, token: string) => next.release(key, token)),
    held: note('held', (key: string) => next.held(key)),
    close: note('close', () => next.close()),
  }
  return { backend: delegate(next, overrides), calls }
}

/** Failures of a backend, thrown or rejected. */
async function failure(work: () => unknown): Promise<unknown> {
  try {
    await work()
  } catch (error) {
    return error
  }
  return undefined
}

export const proxyCases: readonly ProxyCase[] = [
  {
    name: 'each form reads and removes the writes of the other',
    async run({ proxy, over, values }) {
      const chain = proxy(await over())
      const [one, other] = await values(chain)
      await chain.set('a', one, {})
      await chain.setMulti([['b', other, {}]])
      same(await chain.getMulti(['a', 'b']), [one, other])
      same(await chain.get('b'), other)
      await chain.deleteMulti(['a'])
      same(await chain.get('a'), undefined)
      await chain.delete('b')
      same(await chain.getMulti(['b']), [undefined])
      await chain.close()
    },
  },
  {
    name: 'an override of a single form below it governs its multi form',
    async run({ proxy, over, values }) {
      const { backend, calls } = counted(await over())
      const chain = proxy(backend)
      const [one, other] = await values(chain)
      calls.length = 0
      await chain.setMulti([
        ['a', one, {}],
        ['b', other, {}],
      ])
      await chain.getMulti(['a', 'b', 'c'])
      await chain.deleteMulti(['a', 'b'])
      assert.deepEqual(
        calls.filter((call) => call === 'get' || call === 'set' || call === 'delete'),
        ['set', 'set', 'get', 'get', 'get', 'delete', 'delete'],
      )
      await chain.close()
    },
  },
  {
    name: 'an override of a single form above it governs its multi form',
    async run({ proxy, over, values }) {
      const chain = proxy(await over())
      const [one, other] = await values(chain)
      const seen: string[] = []
      const above = delegate(chain, {
        get: (key) => {
          seen.push(`get ${key}`)
          return chain.get(key)
        },
        set: (key, value, options) => {
          seen.push(`set ${key}`)
          return chain.set(key, value, options)
        },
        delete: (key) => {
          seen.push(`delete ${key}`)
          return chain.delete(key)
        },
      })
      same(
        await above.setMulti([
          ['a', one, {}],
          ['b', other, {}],
        ]),
        ['stored', 'stored'],
      )
      same(await above.getMulti(['b', 'a']), [other, one])
      await above.deleteMulti(['a'])
      same(await above.get('a'), undefined)
      assert.deepEqual(seen, ['set a', 'set b', 'get b', 'get a', 'delete a', 'get a'])
      await chain.close()
    },
  },
  {
    name: 'a lease, its fill and its key mean the same above and below it',
    async run({ proxy, over, values }) {
      const { backend, calls } = counted(await over())
      const chain = proxy(backend)
      const [value] = await values(chain)
      const token = await granted(chain, 'key')
      assert.equal(await chain.held('key'), true)
      assert.equal(await chain.renew('key', token, 10_000), true)
      assert.equal(await chain.set('key', value, { token }), 'stored')
      assert.equal(await chain.held('key'), false)
      for (const call of ['acquire', 'held', 'renew', 'set'])
        assert.ok(calls.includes(call), `${call} went past it`)
      const next = await granted(chain, 'key')
      await chain.delete('key')
      assert.equal(await chain.release('key', next), false)
      await chain.close()
    },
  },
  {
    name: 'the ledger below it is passed on, or offered as a tracker',
    async run({ proxy, over }) {
      const inner = await over()
      const chain = proxy(inner)
      if (inner.ledger !== undefined || inner.tracker !== undefined)
        assert.ok(
          chain.ledger !== undefined || chain.tracker !== undefined,
          'Expected the ledger not to be lost: without it invalidations reach this process only.',
        )
      await chain.close()
    },
  },
  {
    name: 'the identity of the backend stays known above it',
    async run({ proxy, over }) {
      const inner = await over()
      const chain = proxy(inner)
      assert.equal(chain.actual, inner.actual)
      assert.equal(chain.reach, inner.reach)
      assert.equal(typeof chain.name, 'string')
      await chain.close()
    },
  },
  {
    name: 'closing it closes the backend below it',
    async run({ proxy, over }) {
      const { backend, calls } = counted(await over())
      await proxy(backend).close()
      assert.ok(calls.includes('close'))
    },
  },
  {
    name: 'a failure below it passes through as it is',
    async run({ proxy, over, values }) {
      const inner = await over()
      const [value] = await values(proxy(inner))
      const boom = new Error('boom')
      const throws = (): never => {
        throw boom
      }
      const rejects = () => Promise.reject(boom)
      for (const fail of [throws, rejects]) {
        const chain = proxy(
          delegate(inner, {
            get: fail,
            set: fail,
            delete: fail,
            acquire: fail,
            renew: fail,
            release: fail,
            held: fail,
          }),
        )
        const operations: Record<string, () => unknown> = {
          get: () => chain.get('key'),
          getMulti: () => chain.getMulti(['a', 'b']),
          set: () => chain.set('key', value, {}),
          setMulti: () => chain.setMulti([['a', value, {}]]),
          delete: () => chain.delete('key'),
          deleteMulti: () => chain.deleteMulti(['a', 'b']),
          acquire: () => chain.acquire('key', 1_000),
          renew: () => chain.renew('key', 'token', 1_000),
          release: () => chain.release('key', 'token'),
          held: () => chain.held('key'),
        }
        for (const [name, operation] of Object.entries(operations))
          assert.equal(await failure(operation), boom, name)
      }
      await inner.close()
    },
  },
  {
    name: 'chains that are made with it share nothing',
    async run({ proxy, over, values }) {
      const first = proxy(await over())
      const second = proxy(await over())
      const [one] = await values(first)
      await first.set('key', one, {})
      same(await second.get('key'), undefined)
      await granted(second, 'key')
      assert.equal(await first.held('key'), false)
      await first.close()
      await second.close()
    },
  },
  {
    name: 'a chain that answers at once still does with it',
    async run({ proxy, over, values, synchronous }) {
      if (!synchronous) return
      const chain = proxy(await over())
      const [value] = await values(chain)
      const acquired = chain.acquire('other', 1_000)
      const answers: Record<string, unknown> = {
        set: chain.set('key', value, {}),
        get: chain.get('key'),
        'get of a miss': chain.get('absent'),
        getMulti: chain.getMulti(['key', 'absent']),
        setMulti: chain.setMulti([['key', value, {}]]),
        acquire: acquired,
        held: chain.held('key'),
        delete: chain.delete('key'),
        deleteMulti: chain.deleteMulti(['key']),
      }
      for (const [name, answer] of Object.entries(answers))
        assert.equal(isPromise(answer), false, `Expected ${name} to answer at once, as \`synchronous\` says.`)
      await chain.close()
    },
  },
]

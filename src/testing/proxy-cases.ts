import assert from 'node:assert/strict'
import type { Backend } from '../backend/backend.js'
import { delegate, type Overrides } from '../backend/delegate.js'
import { isPromise, type MaybePromise } from '../base/maybe-promise.js'
import { failure, granted, operationsOf, same, writesOf } from './context.js'

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

/** A chain over a fresh backend, which is closed after the case, and two values for it. */
interface Opened<Outer, Inner> {
  readonly inner: Backend<Inner>
  readonly chain: Backend<Outer>
  readonly one: Outer
  readonly other: Outer
}

/** `open` puts the proxy around a fresh backend, with a layer between them if one is passed. */
type Body = <Outer, Inner>(
  open: (between?: (inner: Backend<Inner>) => Backend<Inner>) => Promise<Opened<Outer, Inner>>,
  synchronous: boolean,
) => Promise<void>

async function runBody<Outer, Inner>(body: Body, context: ProxyContext<Outer, Inner>): Promise<void> {
  const chains: Backend<Outer>[] = []
  await body<Outer, Inner>(async (between = (inner) => inner) => {
    const inner = await context.over()
    const chain = context.proxy(between(inner))
    chains.push(chain)
    const [one, other] = await context.values(chain)
    return { inner, chain, one, other }
  }, context.synchronous)
  for (const chain of chains) await chain.close()
}

/** Runs a function around every operation of a single key. Unlike with `intercept`, the multi forms follow the single ones. */
function aroundSingles<T>(
  next: Backend<T>,
  around: (proceed: () => unknown, name: string, key: string) => unknown,
): Backend<T> {
  const names = ['get', 'set', 'delete', 'acquire', 'renew', 'release', 'held'] as const
  const overrides = names.map((name) => [
    name,
    (...args: [key: string]) => around(() => Reflect.apply(next[name], next, args), name, args[0]),
  ])
  return delegate(next, Object.fromEntries(overrides) as Overrides<T>)
}

const bodies: Readonly<Record<string, Body>> = {
  async 'each form reads and removes the writes of the other'(open) {
    const { chain, one, other } = await open()
    await chain.set('a', one, {})
    await chain.setMulti([['b', other, {}]])
    same(await chain.getMulti(['a', 'b']), [one, other])
    same(await chain.get('b'), other)
    await chain.deleteMulti(['a'])
    same(await chain.get('a'), undefined)
    await chain.delete('b')
    same(await chain.getMulti(['b']), [undefined])
  },
  async 'an override of a single form below it governs its multi form'(open) {
    const calls: string[] = []
    const { chain, one, other } = await open((inner) =>
      aroundSingles(inner, (proceed, name) => {
        calls.push(name)
        return proceed()
      }),
    )
    calls.length = 0
    await chain.setMulti(writesOf({ a: one, b: other }))
    await chain.getMulti(['a', 'b', 'c'])
    await chain.deleteMulti(['a', 'b'])
    assert.deepEqual(
      calls.filter((call) => call === 'get' || call === 'set' || call === 'delete'),
      ['set', 'set', 'get', 'get', 'get', 'delete', 'delete'],
    )
  },
  async 'an override of a single form above it governs its multi form'(open) {
    const { chain, one, other } = await open()
    const calls: string[] = []
    const above = aroundSingles(chain, (proceed, name, key) => {
      calls.push(`${name} ${key}`)
      return proceed()
    })
    same(await above.setMulti(writesOf({ a: one, b: other })), ['stored', 'stored'])
    same(await above.getMulti(['b', 'a']), [other, one])
    await above.deleteMulti(['a'])
    same(await above.get('a'), undefined)
    assert.deepEqual(calls, ['set a', 'set b', 'get b', 'get a', 'delete a', 'get a'])
  },
  async 'a lease, its fill and its key mean the same above and below it'(open) {
    const calls = new Set<string>()
    const { chain, one } = await open((inner) =>
      aroundSingles(inner, (proceed, name) => {
        calls.add(name)
        return proceed()
      }),
    )
    const token = await granted(chain, 'key')
    assert.equal(await chain.held('key'), true)
    assert.equal(await chain.renew('key', token, 10_000), true)
    assert.equal(await chain.set('key', one, { token }), 'stored')
    assert.equal(await chain.held('key'), false)
    for (const call of ['acquire', 'held', 'renew', 'set'])
      assert.ok(calls.has(call), `Expected ${call} to reach the backend below the proxy.`)
    const next = await granted(chain, 'key')
    await chain.delete('key')
    assert.equal(await chain.release('key', next), false)
  },
  async 'a lease kept after a failure means the same above and below it'(open) {
    const { inner, chain, one } = await open()
    await chain.set('key', one, {})
    const token = await granted(chain, 'key')
    assert.equal(await chain.release('key', token, { failedFor: 10_000, failedAsOf: 5 }), true)
    const denied = await chain.acquire('key', 10_000)
    if (denied.token !== undefined)
      assert.fail('Expected the proxy to pass on the failure that a lease is kept after.')
    assert.deepEqual(denied.failure, { failedAsOf: 5 })
    assert.equal(chain.keepsFailures, inner.keepsFailures)
    const over = await chain.acquire('key', 10_000, { overFailed: 5 })
    assert.ok(over.token !== undefined, 'Expected the proxy to pass on `overFailed`.')
  },
  async 'an entry that comes instead of a lease means the same above and below it'(open) {
    const { chain, one } = await open()
    if (chain.ifAbsentFrom === undefined) return
    await chain.set('key', one, {})
    const brought = await chain.acquire('key', 10_000, { ifAbsent: true })
    if (brought.token !== '') assert.fail('Expected the proxy to pass on `ifAbsent`.')
    same(brought.found, one)
    assert.equal(await chain.held('key'), false)
  },
  async 'the ledger below it is passed on, or offered as a tracker'(open) {
    const { inner, chain } = await open()
    if (inner.ledger !== undefined || inner.tracker !== undefined)
      assert.ok(
        chain.ledger !== undefined || chain.tracker !== undefined,
        'Expected the ledger not to be lost: without it invalidations reach this process only.',
      )
  },
  async 'the identity of the backend stays known above it'(open) {
    const { inner, chain } = await open()
    assert.equal(chain.actual, inner.actual)
    assert.equal(chain.reach, inner.reach)
    assert.equal(typeof chain.name, 'string')
  },
  async 'closing it closes the backend below it'(open) {
    let closed = false
    const { chain } = await open((inner) =>
      delegate(inner, {
        close() {
          closed = true
          return inner.close()
        },
      }),
    )
    await chain.close()
    assert.equal(closed, true)
  },
  async 'a failure below it passes through as it is'(open) {
    const boom = new Error('boom')
    const throws = (): never => {
      throw boom
    }
    for (const fail of [throws, () => Promise.reject(boom)]) {
      let failing = false
      const { chain, one } = await open((inner) =>
        aroundSingles(inner, (proceed) => (failing ? fail() : proceed())),
      )
      failing = true
      for (const [name, operation] of Object.entries(operationsOf(chain, one)))
        assert.equal(await failure(operation), boom, name)
      failing = false
    }
  },
  async 'chains that are made with it share nothing'(open) {
    const first = await open()
    const second = await open()
    await first.chain.set('key', first.one, {})
    same(await second.chain.get('key'), undefined)
    await granted(second.chain, 'key')
    assert.equal(await first.chain.held('key'), false)
  },
  async 'a chain that answers at once still does with it'(open, synchronous) {
    if (!synchronous) return
    const { chain, one } = await open()
    for (const [name, operation] of Object.entries(operationsOf(chain, one)))
      assert.ok(!isPromise(operation()), `Expected ${name} to answer at once, as \`synchronous\` says.`)
  },
}

export const proxyCases: readonly ProxyCase[] = Object.entries(bodies).map(([name, body]) => ({
  name,
  run: (context) => runBody(body, context),
}))

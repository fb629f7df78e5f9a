import assert from 'node:assert/strict'
import type { Backend } from '../backend/backend.js'
import { CorralError } from '../base/errors.js'
import type { MaybePromise } from '../base/maybe-promise.js'
import { backendCases } from './cases.js'
import { applies, type Case, type Context, type Need } from './context.js'
import { proxyCases } from './proxy-cases.js'

export type { Case, Context, Need }
export { backendCases }

/**
 * The functions that register tests: the `describe` and `it` of vitest, jest, mocha, node:test or your own.
 * @example
 * ```ts
 * import { describe, it } from 'node:test'
 * import type { ContractRunner } from 'corral/testing'
 *
 * export const runner: ContractRunner = { describe, it }
 * ```
 */
export interface ContractRunner {
  describe(name: string, body: () => void): unknown
  it(name: string, body: () => Promise<void>): unknown
}

/**
 * A case that a backend is known not to meet, and the reason. The suite fails if the case passes.
 * @example
 * ```ts
 * import type { Skip } from 'corral/testing'
 *
 * export const skip: Skip[] = [{ case: 'a fill keeps its lifetime', reason: 'the store has no lifetimes' }]
 * ```
 */
export interface Skip {
  readonly case: string
  readonly reason: string
}

type Values<T> = readonly [T, T, ...T[]]

interface CommonOptions<T> {
  /** Two or more different values to store, or a function that creates them for a fresh chain. */
  readonly values: Values<T> | ((chain: Backend<T>) => MaybePromise<Values<T>>)
  /** @default the global `describe` and `it` */
  readonly runner?: ContractRunner
  /** How exact the expiry of the store is, in ms. @default 20 */
  readonly ttlResolution?: number
  /** Callers share the stored objects, as the backend documents: cases about copies do not apply. @default false */
  readonly shares?: boolean
  readonly skip?: readonly Skip[]
}

/**
 * The options of `backendContract`.
 * @example
 * ```ts
 * import type { CachedValue } from 'corral'
 * import type { BackendContractOptions } from 'corral/testing'
 *
 * const value = (payload: string) => ({ payload, metadata: { startedAt: 1, createdAt: 1 } })
 * export const options: BackendContractOptions<CachedValue> = { values: [value('a'), value('b')] }
 * ```
 */
export interface BackendContractOptions<T> extends CommonOptions<T> {}

/**
 * The options of `proxyContract`.
 * @example
 * ```ts
 * import type { CachedValue } from 'corral'
 * import { memory } from 'corral/backends/memory'
 * import type { ProxyContractOptions } from 'corral/testing'
 *
 * const value = (payload: string) => ({ payload, metadata: { startedAt: 1, createdAt: 1 } })
 * export const options: ProxyContractOptions<CachedValue, CachedValue> = {
 *   values: [value('a'), value('b')],
 *   over: () => memory(),
 * }
 * ```
 */
export interface ProxyContractOptions<Outer, Inner> extends CommonOptions<Outer> {
  /** Creates a fresh backend, around which the proxy is put. */
  readonly over: () => MaybePromise<Backend<Inner>>
  /** The chain returns at once if the backend below does. @default false */
  readonly synchronous?: boolean
}

/**
 * Tests that a backend keeps the contract that every region relies on. `factory` makes a fresh and empty one for each case, which is
 * closed afterwards.
 * @example
 * ```ts
 * import { memory } from 'corral/backends/memory'
 * import { backendContract } from 'corral/testing'
 *
 * const value = (payload: string) => ({ payload, metadata: { startedAt: 1, createdAt: 1 } })
 * export const test = () => backendContract('memory', () => memory(), { values: [value('a'), value('b')] })
 * ```
 * @throws CorralError `ERR_OPTION` when there is no test runner, or `skip` names a case that does not exist.
 */
export function backendContract<T>(
  name: string,
  factory: () => MaybePromise<Backend<T>>,
  options: BackendContractOptions<T>,
): void {
  const runner = runnerOf(options)
  const reasons = reasonsOf(
    options,
    backendCases.map((one) => one.name),
  )
  runner.describe(`${name} keeps the backend contract`, () => {
    registerBackendCases(runner, factory, options, reasons)
  })
}

/**
 * Tests that a proxy keeps the contract of the backend below it, and that no operation goes past it.
 * @example
 * ```ts
 * import { memory } from 'corral/backends/memory'
 * import { prefix } from 'corral/proxies/prefix'
 * import { proxyContract } from 'corral/testing'
 *
 * const value = (payload: unknown) => ({ payload, metadata: { startedAt: 1, createdAt: 1 } })
 * const values = [value('a'), value('b')] as const
 * export const test = () => proxyContract('prefix', prefix('a:'), { over: () => memory(), values })
 * ```
 * @throws CorralError `ERR_OPTION` when there is no test runner, or `skip` names a case that does not exist.
 */
export function proxyContract<Outer, Inner>(
  name: string,
  proxy: (next: Backend<Inner>) => Backend<Outer>,
  options: ProxyContractOptions<Outer, Inner>,
): void {
  const runner = runnerOf(options)
  const reasons = reasonsOf(
    options,
    [...backendCases, ...proxyCases].map((one) => one.name),
  )
  const { over, synchronous = false } = options
  const values = valuesOf(options)
  runner.describe(`${name} keeps the proxy contract`, () => {
    for (const one of proxyCases)
      register(runner, one.name, reasons, async () => {
        await one.run({ proxy, over, values, synchronous })
        return true
      })
    registerBackendCases(runner, async () => proxy(await over()), options, reasons)
  })
}

function registerBackendCases<T>(
  runner: ContractRunner,
  factory: () => MaybePromise<Backend<T>>,
  options: CommonOptions<T>,
  reasons: ReadonlyMap<string, string>,
): void {
  const { ttlResolution = 20, shares = false } = options
  const values = valuesOf(options)
  for (const one of backendCases)
    register(runner, one.name, reasons, async () => {
      const backend = await factory()
      try {
        if (!applies(one.needs, backend, shares)) return false
        await one.run({ backend, values: await values(backend), ttlResolution })
        return true
      } finally {
        await backend.close()
      }
    })
}

/** `run` returns false if the case does not apply. */
function register(
  { it }: ContractRunner,
  name: string,
  reasons: ReadonlyMap<string, string>,
  run: () => Promise<boolean>,
): void {
  const reason = reasons.get(name)
  if (reason === undefined)
    it(name, async () => {
      await run()
    })
  else
    it(`${name} (not met: ${reason})`, async () => {
      let applied = true
      try {
        applied = await run()
      } catch {
        return
      }
      assert.fail(
        `Expected the case '${name}' to fail, as \`skip\` says, but it ${applied ? 'passes' : 'does not apply'}: take it out of \`skip\`.`,
      )
    })
}

function valuesOf<T>({ values }: CommonOptions<T>): (chain: Backend<T>) => MaybePromise<Values<T>> {
  return typeof values === 'function' ? values : () => values
}

function runnerOf<T>({ runner }: CommonOptions<T>): ContractRunner {
  const found = runner ?? (globalThis as Partial<ContractRunner>)
  if (typeof found.describe === 'function' && typeof found.it === 'function') return found as ContractRunner
  throw new CorralError(
    'ERR_OPTION',
    'Expected a test runner: pass { runner: { describe, it } } from yours, such as vitest or node:test, or make them global.',
  )
}

function reasonsOf<T>(
  { skip = [] }: CommonOptions<T>,
  known: readonly string[],
): ReadonlyMap<string, string> {
  for (const { case: name, reason } of skip) {
    if (!known.includes(name))
      throw new CorralError('ERR_OPTION', `Expected \`skip\` to name a case of the contract, got '${name}'.`)
    if (typeof reason !== 'string' || reason === '')
      throw new CorralError('ERR_OPTION', `Expected \`skip\` to give a reason for '${name}'.`)
  }
  return new Map(skip.map(({ case: name, reason }) => [name, reason]))
}

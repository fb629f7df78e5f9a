import assert from 'node:assert/strict'
import type { Backend } from '../backend/backend.js'
import type { MaybePromise } from '../base/maybe-promise.js'
import { expectMethods, expectText, expectThat, ownOptions, rejectUnknownOptions } from '../base/options.js'
import type { Case, Context, Need } from './context.js'
import { entryCases } from './entry-cases.js'
import { leaseCases } from './lease-cases.js'
import { ledgerCases } from './ledger-cases.js'
import { proxyCases } from './proxy-cases.js'

export type { Case, Context, Need }

/**
 * The contract of every backend, for any store. Data: each case has a name, a need and a run.
 * @example
 * ```ts
 * import { backendCases } from 'corral/testing'
 *
 * export const names = backendCases.map(({ name }) => name)
 * ```
 */
export const backendCases: readonly Case[] = [...entryCases, ...leaseCases, ...ledgerCases]

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

const OPTIONS = ['values', 'runner', 'ttlResolution', 'shares', 'skip']

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
 * @throws CorralError `ERR_OPTION` for an unknown option, when there is no test runner, or `skip` names a case that does not exist.
 */
export function backendContract<T>(
  name: string,
  factory: () => MaybePromise<Backend<T>>,
  options: BackendContractOptions<T>,
): void {
  options = ownOptions(options)
  rejectUnknownOptions(options, OPTIONS, 'backendContract()')
  describeContract(`${name} keeps the backend contract`, backendTests(factory, options), options)
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
 * @throws CorralError `ERR_OPTION` for an unknown option, when there is no test runner, or `skip` names a case that does not exist.
 */
export function proxyContract<Outer, Inner>(
  name: string,
  proxy: (next: Backend<Inner>) => Backend<Outer>,
  options: ProxyContractOptions<Outer, Inner>,
): void {
  options = ownOptions(options)
  rejectUnknownOptions(options, [...OPTIONS, 'over', 'synchronous'], 'proxyContract()')
  const { over, synchronous = false } = options
  const context = { proxy, over, values: valuesOf(options), synchronous }
  const tests: Test[] = [
    ...proxyCases.map(({ name, run }): Test => [name, () => run(context)]),
    ...backendTests(async () => proxy(await over()), options),
  ]
  describeContract(`${name} keeps the proxy contract`, tests, options)
}

/** `run` returns false if the case does not apply. */
type Test = readonly [name: string, run: () => Promise<boolean | void>]

function backendTests<T>(factory: () => MaybePromise<Backend<T>>, options: CommonOptions<T>): Test[] {
  const { ttlResolution = 20, shares = false } = options
  const values = valuesOf(options)
  return backendCases.map(({ name, needs, run }) => [
    name,
    async () => {
      const backend = await factory()
      try {
        if (needs === 'ledger' ? backend.ledger === undefined : needs === 'copies' && shares) return false
        return await run({ backend, values: await values(backend), ttlResolution })
      } finally {
        await backend.close()
      }
    },
  ])
}

function valuesOf<T>({ values }: CommonOptions<T>): (chain: Backend<T>) => MaybePromise<Values<T>> {
  return typeof values === 'function' ? values : () => values
}

/** Registers the tests. Those in `skip` must fail. */
function describeContract<T>(title: string, tests: readonly Test[], options: CommonOptions<T>): void {
  const { runner = globalThis as Partial<ContractRunner>, skip = [] } = options
  expectMethods(
    runner,
    ['describe', 'it'],
    'a test runner with `describe` and `it`',
    'Pass { runner: { describe, it } } from yours, such as vitest or node:test, or make them global.',
  )
  for (const { case: name, reason } of skip) {
    expectThat(
      tests.some(([known]) => known === name),
      name,
      '`skip` to name a case of the contract',
    )
    expectText(reason, `the reason in \`skip\` for '${name}'`)
  }
  const { describe, it } = runner as ContractRunner
  describe(title, () => {
    for (const [name, run] of tests) {
      const skipped = skip.find((one) => one.case === name)
      if (skipped === undefined)
        it(name, async () => {
          await run()
        })
      else it(`${name} (not met: ${skipped.reason})`, () => expectFailure(name, run))
    }
  })
}

async function expectFailure(...[name, run]: Test): Promise<void> {
  let state = 'passes'
  try {
    if ((await run()) === false) state = 'does not apply'
  } catch {
    return
  }
  assert.fail(
    `Expected the case '${name}' to fail, as \`skip\` says, but it ${state}. Take it out of \`skip\`.`,
  )
}

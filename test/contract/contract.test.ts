import { spawnSync } from 'node:child_process'
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { build } from 'esbuild'
import { afterAll, describe, expect, it } from 'vitest'
import { memory } from '../../backends/memory/index.js'
import {
  type Backend,
  type BackendSpec,
  type CachedValue,
  defineBackend,
  delegate,
  type Outcome,
  type WriteOptions,
} from '../../src/index.js'
import {
  type BackendContractOptions,
  backendCases,
  backendContract,
  type ContractRunner,
  proxyContract,
} from '../../src/testing/index.js'
import { withOperations } from '../support/ledgers.js'
import { entries } from './values.js'

/** A runner that only records its jobs. */
function noting() {
  const cases = new Map<string, () => Promise<void>>()
  const runner: ContractRunner = {
    describe: (_, body) => body(),
    it: (name, body) => cases.set(name, body),
  }
  return { cases, runner }
}

/** The cases that a backend fails. */
async function failures(
  factory: () => Backend<CachedValue>,
  options: Partial<BackendContractOptions<CachedValue>> = {},
): Promise<string[]> {
  const { cases, runner } = noting()
  backendContract('a backend', factory, { values: entries(), shares: true, ...options, runner })
  const failed: string[] = []
  for (const [name, run] of cases)
    await run().catch(() => {
      failed.push(name)
    })
  return failed
}

const refusal = expect.objectContaining({ name: 'CorralError', code: 'ERR_OPTION' }) as Error

describe('the backend contract', () => {
  it('has at least 40 cases, each with a name of its own', () => {
    expect(backendCases.length).toBeGreaterThanOrEqual(40)
    expect(new Set(backendCases.map(({ name }) => name)).size).toBe(backendCases.length)
  })

  it('is met by memory', async () => {
    expect(await failures(() => memory())).toEqual([])
  })

  type Break = (good: Backend<CachedValue>) => Partial<Backend<CachedValue>>
  const broken: Record<string, readonly [Break, string]> = {
    'forgets the order of a batch': [
      (good) => ({ getMulti: (keys) => good.getMulti([...keys].sort()) }),
      'getMulti answers in the order of its keys, with holes',
    ],
    'does not compare tokens': [
      (good) => ({ set: (key, value, { token: _, ...rest }) => good.set(key, value, rest) }),
      'a fill is lost after a deletion, and leaves a miss',
    ],
    'does not revoke on deletion': [
      (good) => {
        const tokens = new Map<string, string>()
        return {
          async acquire(key, ms, options) {
            const acquired = await good.acquire(key, ms, options)
            if (acquired.token !== undefined) tokens.set(key, acquired.token)
            return acquired
          },
          set: (key, value, options) =>
            options.token !== undefined && tokens.get(key) === options.token
              ? good.set(key, value, { ttl: 1e9 })
              : good.set(key, value, options),
        }
      },
      'a fill is lost after a write, and leaves the written value',
    ],
    'grants a lease to everybody': [
      (good) => ({ acquire: (key, ms) => good.acquire(key, ms, { steal: true }) }),
      'a lease has one holder at a time',
    ],
    'grants the same token each time': [
      () => ({ acquire: () => ({ token: 'always', found: undefined }) }),
      'a token is unique for each grant',
    ],
    'keeps a lease for ever': [
      (good) => ({ acquire: (key, _, options) => good.acquire(key, 1e9, options) }),
      'a lease that nobody renews expires, and its token is worth nothing',
    ],
    'ignores lifetimes': [
      (good) => ({ set: (key, value, { ttl: _, ...rest }) => good.set(key, value, rest) }),
      'a value with a lifetime leaves at its end, and not before',
    ],
    'takes the lease when asked whether it is held': [
      (good) => ({
        async held(key) {
          const { token } = await good.acquire(key, 1_000)
          return token === undefined
        },
      }),
      'asking whether a lease is held does not take it',
    ],
    'trims its keys': [
      (good) => ({
        get: (key) => good.get(key.trim()),
        set: (key, value, of) => good.set(key.trim(), value, of),
      }),
      'keys of spaces, quotes and separators: like any other',
    ],
    'normalises its keys': [
      (good) => ({
        get: (key) => good.get(key.normalize()),
        set: (key, value, of) => good.set(key.normalize(), value, of),
      }),
      'keys in unicode, which nothing normalises: like any other',
    ],
    'does not check what a write was made from': [
      (good) => ({ set: (key, value, { ifCurrent: _, ...rest }) => good.set(key, value, rest) }),
      'a write is refused after an invalidation, hard or soft, and leaves nothing older',
    ],
    'leaves an older value behind a refused write': [
      (good) => ({
        async set(key: string, value: CachedValue, options: WriteOptions): Promise<Outcome> {
          const before = await good.get(key)
          const outcome = await good.set(key, value, options)
          if (outcome === 'refused' && before !== undefined) await good.set(key, before, {})
          return outcome
        },
      }),
      'a write is refused after an invalidation, hard or soft, and leaves nothing older',
    ],
    'lets a soft invalidation revive': [
      (good) => ({
        ledger:
          good.ledger &&
          withOperations(good.ledger, (opened) => ({
            invalidate(names, mode) {
              soft = mode === 'soft'
              return opened.invalidate(names, mode)
            },
            async read(names) {
              const { now, stamps } = await opened.read(names)
              return {
                now,
                stamps: soft ? stamps.map((stamp) => stamp && { hard: 0, soft: stamp.hard + 1 }) : stamps,
              }
            },
          })),
      }),
      'a soft invalidation never revives an entry that a hard one invalidated',
    ],
    'never wakes who waits': [
      (good) => ({
        async acquire(key, ms, options) {
          const acquired = await good.acquire(key, ms, options)
          return acquired.token === undefined
            ? { ...acquired, settled: new Promise<void>(() => {}) }
            : acquired
        },
      }),
      'a waiter is woken when its lease is released',
    ],
  }
  let soft = false

  it('finds the defects of a broken backend', async () => {
    for (const [what, [breaking, expected]] of Object.entries(broken)) {
      const one = backendCases.find(({ name }) => name === expected)
      expect(one, expected).toBeDefined()
      const good = memory()
      const backend = delegate(good, breaking(good))
      const run = one?.run({ backend, values: entries(), ttlResolution: 10 })
      await expect(run, what).rejects.toThrow()
    }
  }, 60_000)

  it('fails when a skipped case would pass, or does not apply', async () => {
    const skip = [{ case: 'a key that was never written is a miss', reason: 'no reason' }]
    expect(await failures(() => memory(), { skip })).toEqual([
      'a key that was never written is a miss (not met: no reason)',
    ])
    const spec: BackendSpec<CachedValue> = {
      name: 'n',
      get: () => undefined,
      set: () => {},
      delete: () => {},
    }
    const { cases, runner } = noting()
    const name = 'two clocks are independent'
    backendContract('a backend', () => defineBackend(spec), {
      values: entries(),
      runner,
      skip: [{ case: name, reason: 'no ledger' }],
    })
    await expect(cases.get(`${name} (not met: no ledger)`)?.()).rejects.toThrow('does not apply')
  })

  it('refuses to skip an unknown case, or without a reason', () => {
    const { runner } = noting()
    for (const skip of [
      [{ case: 'no such case', reason: 'because' }],
      [{ case: 'a key that was never written is a miss', reason: '' }],
    ]) {
      expect(() => backendContract('n', () => memory(), { values: entries(), runner, skip })).toThrow(refusal)
      expect(() =>
        proxyContract('n', (next: Backend<CachedValue>) => next, {
          over: () => memory(),
          values: entries(),
          runner,
          skip,
        }),
      ).toThrow(refusal)
    }
  })

  it('needs a runner', () => {
    expect(() => backendContract('n', () => memory(), { values: entries() })).toThrow(refusal)
  })

  it('takes the runner from the globals', () => {
    const { cases, runner } = noting()
    Object.assign(globalThis, runner)
    try {
      backendContract('n', () => memory(), { values: entries() })
      expect(cases.size).toBe(backendCases.length)
    } finally {
      Reflect.deleteProperty(globalThis, 'describe')
      Reflect.deleteProperty(globalThis, 'it')
    }
  })
})

describe('the proxy contract', () => {
  const proxyFailures = async (proxy: (next: Backend<CachedValue>) => Backend<CachedValue>) => {
    const { cases, runner } = noting()
    proxyContract('a proxy', proxy, {
      over: () => memory(),
      values: entries(),
      runner,
      shares: true,
      synchronous: true,
    })
    const failed: string[] = []
    for (const [name, run] of [...cases].slice(0, 12))
      await run().catch(() => {
        failed.push(name)
      })
    return failed
  }

  it('finds operations that go past a proxy', async () => {
    const missed = await proxyFailures((next) => {
      const prefixed = delegate(next, {
        get: (key) => next.get(`p:${key}`),
        set: (key, value, options) => next.set(`p:${key}`, value, options),
        getMulti: (keys) => next.getMulti(keys),
      })
      return prefixed
    })
    expect(missed).toContain('each form reads and removes the writes of the other')
  })

  it('finds a ledger that was lost', async () => {
    expect(await proxyFailures((next) => delegate(next, { ledger: undefined }))).toContain(
      'the ledger below it is passed on, or offered as a tracker',
    )
  })

  it('finds an answer that comes later than it says', async () => {
    expect(await proxyFailures((next) => delegate(next, { get: async (key) => next.get(key) }))).toContain(
      'a chain that answers at once still does with it',
    )
  })

  it('finds failures that are swallowed', async () => {
    expect(
      await proxyFailures((next) =>
        delegate(next, {
          get(key) {
            try {
              return next.get(key)
            } catch {
              return undefined
            }
          },
        }),
      ),
    ).toContain('a failure below it passes through as it is')
  })

  it('finds a chain that does not close', async () => {
    expect(await proxyFailures((next) => delegate(next, { close: () => {} }))).toContain(
      'closing it closes the backend below it',
    )
  })
})

describe('under node:test', () => {
  const cache = join(import.meta.dirname, '../../node_modules/.cache/contracts')
  mkdirSync(cache, { recursive: true })
  const folder = mkdtempSync(`${cache}/`)
  afterAll(() => rmSync(folder, { recursive: true, force: true }))

  const run = async (name: string, body: string) => {
    const outfile = join(folder, `${name}.test.mjs`)
    await build({
      stdin: {
        contents: `
          import { describe, it } from 'node:test'
          import { memory } from './backends/memory/index.ts'
          import { backendContract } from './src/testing/index.ts'
          const entry = (payload) => ({ payload, metadata: { startedAt: 1, createdAt: 2 } })
          const options = { runner: { describe, it }, values: [entry('one'), entry({ two: 2 })] }
          ${body}
        `,
        resolveDir: join(import.meta.dirname, '../..'),
        loader: 'js',
      },
      outfile,
      bundle: true,
      platform: 'node',
      format: 'esm',
      logLevel: 'silent',
    })
    const { NODE_OPTIONS: _, NODE_TEST_CONTEXT: __, ...env } = process.env
    return spawnSync(process.execPath, ['--test', '--test-reporter=tap', outfile], { encoding: 'utf8', env })
  }

  it('the contract runs and passes', async () => {
    const { status, stdout } = await run(
      'good',
      `backendContract('memory', () => memory({ copy: 'clone' }), options)`,
    )
    expect(stdout).toMatch(new RegExp(`# pass ${backendCases.length}\\b`))
    expect(stdout).toMatch(/# fail 0\b/)
    expect(status).toBe(0)
  })

  it('the contract fails where a backend does', async () => {
    const { status, stdout } = await run('bad', `backendContract('memory', () => memory(), options)`)
    expect(stdout).toMatch(/# fail 2\b/)
    expect(status).not.toBe(0)
  })
})

import { describe, expect, it } from 'vitest'
import { memory } from '../../backends/memory/index.js'
import { dependencies } from '../../proxies/dependencies.js'
import { bindContext } from '../../src/base/async-context.js'
import { diagnostics } from '../../src/base/diagnostics.js'
import { dependsOn, makeRegion, NO_VALUE, wrap } from '../../src/index.js'
import {
  afterCommit,
  beginTransaction,
  broker,
  insideTransaction,
  invalidateAfterCommit,
  isNotInvalidated,
} from '../../src/signals/index.js'
import { withoutMarks } from '../support/ledgers.js'

/** Work in the context of the module, which is in no transaction. */
const runOutside = bindContext((work: () => unknown) => work())

const pages = () => {
  const region = makeRegion<string>({ name: 'pages', backend: wrap(withoutMarks(memory()), dependencies()) })
  let made = 0
  const read = () =>
    region.getOrCreate('home', () => {
      dependsOn('id:page:1')
      return `made ${++made}`
    })
  const stands = async () => (await region.get('home')) !== NO_VALUE
  return {
    region,
    read,
    stands,
    users: broker<{ id: number }>('page', { regions: [region], id: ({ id }) => id }),
  }
}

describe('a transaction that is no function', () => {
  it('invalidates at its commit, not before', async () => {
    const { region, read, stands, users } = pages()
    await read()
    const transaction = beginTransaction()
    await transaction.run(() => users.apply({ id: 1 }, () => {}))
    await transaction.run(() => invalidateAfterCommit(region, 'other'))
    expect(await stands()).toBe(true)
    await transaction.commit()
    expect(await stands()).toBe(false)
  })

  it('invalidates nothing after a rollback, and what was read inside is not kept', async () => {
    const { region, read, stands } = pages()
    await read()
    const transaction = beginTransaction()
    await transaction.run(() => invalidateAfterCommit(region, 'id:page:1'))
    // A creator outside that reads inside: its value is of rows that were never committed.
    let inner: string | undefined
    const outer = region.getOrCreate('outer', async () => {
      inner = await transaction.run(() => region.getOrCreate('inner', () => 'uncommitted'))
      await transaction.rollback()
      return inner
    })
    expect(await outer).toBe('uncommitted')
    expect(await stands()).toBe(true)
    expect(await region.get('inner')).toBe(NO_VALUE)
    expect(await region.get('outer')).toBe(NO_VALUE)
  })

  it('is inside only while it runs a part', async () => {
    const { region } = pages()
    const transaction = beginTransaction()
    expect(insideTransaction()).toBe(false)
    await transaction.run(async () => {
      await null
      expect(insideTransaction()).toBe(true)
      await region.getOrCreate('inside', () => 'own')
    })
    expect(await region.get('inside')).toBe(NO_VALUE)
    await region.getOrCreate('outside', () => 'kept')
    expect(await region.get('outside')).toBe('kept')
    await transaction.commit()
    expect(insideTransaction()).toBe(false)
    expect(await afterCommit(() => insideTransaction())).toBe(true)
  })

  it('inside another invalidates at both commits, as it may be a savepoint or not, and drops what it rolled back', async () => {
    const { region, read, stands } = pages()
    await read()
    const outer = beginTransaction()
    const savepoint = outer.run(beginTransaction)
    await savepoint.run(() => invalidateAfterCommit(region, 'id:page:1'))
    expect(await stands()).toBe(true)
    await savepoint.commit()
    expect(await stands()).toBe(false)
    await read()
    const dropped = outer.run(beginTransaction)
    await dropped.run(() => invalidateAfterCommit(region, 'never'))
    await dropped.rollback()
    const names: (readonly string[] | undefined)[] = []
    region.on('invalidate', (event) => names.push((event as { names?: readonly string[] }).names))
    await outer.commit()
    expect(await stands()).toBe(false)
    expect(names).toEqual([['id:page:1']])
  })

  it('may be a savepoint of afterCommit, and that one of it', async () => {
    const { region, read, stands } = pages()
    await read()
    const outer = beginTransaction()
    await outer.run(() => afterCommit(() => invalidateAfterCommit(region, 'id:page:1')))
    await read()
    await outer.commit()
    expect(await stands()).toBe(false)
    await afterCommit(async () => {
      const savepoint = beginTransaction()
      await savepoint.run(() => invalidateAfterCommit(region, 'id:page:1'))
      await savepoint.commit()
      await runOutside(read)
      expect(await stands()).toBe(true)
    })
    expect(await stands()).toBe(false)
  })

  it('inside another that is rolled back is invalidated: it may have been of another database', async () => {
    const { region, read, stands } = pages()
    await read()
    const rollback = new Error('rollback')
    const outer = afterCommit(async () => {
      await afterCommit(() => invalidateAfterCommit(region, 'id:page:1'))
      throw rollback
    })
    await expect(outer).rejects.toBe(rollback)
    expect(await stands()).toBe(false)
  })

  it('inside another is not undone by a cache that is away: the failure is reported, and the outer commit invalidates', async () => {
    const { region, read, stands } = pages()
    await read()
    let fails = true
    const flaky = {
      name: 'flaky',
      invalidateDependencies: async (names: readonly string[]) => {
        if (fails) throw new Error('away')
        await region.invalidateDependencies(names)
      },
    }
    const failures: unknown[] = []
    const listen = (message: unknown) => void failures.push(message)
    diagnostics('failure').subscribe(listen)
    await afterCommit(async () => {
      await afterCommit(() => invalidateAfterCommit(flaky, 'id:page:1'))
      fails = false
    }).finally(() => diagnostics('failure').unsubscribe(listen))
    expect(failures).toMatchObject([{ where: 'commit inside a transaction' }])
    expect(await stands()).toBe(false)
  })

  it('says what is not invalidated, with retry; the transaction is committed all the same', async () => {
    const { region, read, stands } = pages()
    await read()
    let fails = true
    const failing = {
      name: 'failing',
      invalidateDependencies: async (names: readonly string[]) => {
        if (fails) throw new Error('away')
        await region.invalidateDependencies(names)
      },
    }
    const transaction = beginTransaction()
    await transaction.run(() => invalidateAfterCommit(failing, ['id:page:1']))
    const error = await transaction.commit().catch((reason: unknown) => reason)
    if (!isNotInvalidated(error)) return expect.unreachable()
    expect(error.names).toEqual(['id:page:1'])
    await transaction.rollback()
    fails = false
    await error.retry()
    expect(await stands()).toBe(false)
  })

  it('is over once it is committed or rolled back', async () => {
    const transaction = beginTransaction()
    await transaction.commit()
    await expect(transaction.commit()).rejects.toMatchObject({ code: 'ERR_CLOSED' })
    expect(() => transaction.run(() => 1)).toThrow(expect.objectContaining({ code: 'ERR_CLOSED' }))
    await transaction.rollback()
    const other = beginTransaction()
    void other.rollback()
    await expect(other.commit()).rejects.toMatchObject({ code: 'ERR_CLOSED' })
  })

  it('keeps code that was left behind in it from waiting for a commit that never comes', async () => {
    const { region, read, stands } = pages()
    await read()
    const transaction = beginTransaction()
    let late: () => void = () => {}
    const left = transaction.run(async () => {
      await new Promise<void>((resolve) => (late = resolve))
      await invalidateAfterCommit(region, 'id:page:1')
    })
    await transaction.commit()
    late()
    await left
    expect(await stands()).toBe(false)
  })
})

describe('names to invalidate after a commit', () => {
  it('are invalidated at once outside of every transaction, softly where it is said', async () => {
    const { region, read } = pages()
    await read()
    await invalidateAfterCommit([region], 'id:page:1', { mode: 'soft', reason: 'edited' })
    expect(await region.get('home')).toBe(NO_VALUE)
    expect(await region.get('home', { ignoreExpiration: true })).toBe('made 1')
    await invalidateAfterCommit(region, ['id:page:1'])
    expect(await region.get('home', { ignoreExpiration: true })).toBe(NO_VALUE)
  })

  it('are those of the call, also if the list changes before the commit', async () => {
    const { region, read, stands } = pages()
    await read()
    const names = ['id:page:1']
    await afterCommit(async () => {
      await invalidateAfterCommit(region, names)
      names[0] = 'other'
    })
    expect(await stands()).toBe(false)
  })

  it.each([
    ['an unknown option', [{ soft: true }], 'ERR_OPTION'],
    ['another mode', [{ mode: 'firm' }], 'ERR_OPTION'],
  ] as const)('are refused with %s', async (_, [options], code) => {
    const { region } = pages()
    await expect(invalidateAfterCommit(region, 'n', options as never)).rejects.toMatchObject({ code })
  })

  it('are refused before anything is done where a region cannot invalidate names', async () => {
    const bare = makeRegion({ name: 'bare', backend: memory() })
    await expect(
      afterCommit(async () => {
        await expect(invalidateAfterCommit(bare, 'n')).rejects.toMatchObject({ code: 'ERR_NO_LEDGER' })
        await expect(invalidateAfterCommit({} as never, 'n')).rejects.toMatchObject({ code: 'ERR_OPTION' })
        await expect(invalidateAfterCommit(makeRegion(), 'n')).rejects.toMatchObject({
          code: 'ERR_NOT_CONFIGURED',
        })
        await expect(invalidateAfterCommit(bare, [5] as never)).rejects.toMatchObject({
          code: expect.any(String),
        })
      }),
    ).resolves.toBeUndefined()
  })
})

/** The caller of a versioned function uses its arguments again as soon as the call has returned. */
import { describe, expect, it } from 'vitest'
import { diagnostics, NO_VALUE } from '../../src/index.js'
import { session, versioned } from '../../src/session/index.js'
import { held } from '../support/stage.js'
import { tracked } from './support.js'

interface Query {
  no: number
}

/** Pages with their versions, read by a versioned function. */
function pages(how: 'sync' | 'async', options: { key?: 'own' } = {}) {
  const rows: Record<number, { version: string; text: string }> = {}
  for (const no of [1, 2]) rows[no] = { version: `v${no}`, text: `page ${no}` }
  const asked: number[] = []
  const versionOf = (query: Query) => {
    asked.push(query.no)
    return rows[query.no]?.version
  }
  const later = async (query: Query) => {
    await undefined
    return versionOf(query)
  }
  const page = versioned(async (query: Query) => rows[query.no]?.text, {
    namespace: 'page',
    region: tracked(),
    version: how === 'sync' ? versionOf : later,
    ...(options.key === 'own' && {
      functionKeyGenerator: () => (query: unknown) => `page ${(query as Query).no}`,
    }),
  })
  return { rows, asked, page }
}

for (const how of ['sync', 'async'] as const)
  describe(`the arguments of a versioned function with a version that is ${how}`, () => {
    it('are those of the call', async () => {
      const { page, rows } = pages(how)
      const query = { no: 1 }
      const first = page(query)
      query.no = 2
      expect(await first).toBe('page 1')
      // Page 2 comes to the version that page 1 has.
      rows[2] = { version: 'v1', text: 'new page 2' }
      expect(await page({ no: 2 })).toBe('new page 2')
    })

    it('are those of the call for refresh, get and version, too', async () => {
      const { page } = pages(how)
      const query = { no: 1 }
      const refreshed = page.refresh(query)
      query.no = 2
      expect(await refreshed).toBe('page 1')
      query.no = 1
      const found = page.get(query)
      query.no = 2
      expect(await found).toBe('page 1')
      query.no = 1
      const version = page.version(query)
      query.no = 2
      expect(await version).toBe('v1')
      expect(await page.get(query)).toBe(NO_VALUE)
    })

    it('are those of the call in a session, which remembers their version', async () => {
      const { page, asked } = pages(how)
      await session.run(async () => {
        const query = { no: 1 }
        const first = page(query)
        query.no = 2
        expect(await first).toBe('page 1')
        expect(await page.version({ no: 1 })).toBe('v1')
        expect(asked).toEqual([1])
        query.no = 1
        const again = page(query)
        query.no = 2
        expect(await again).toBe('page 1')
      })
    })

    it('give another key by then: the value is not stored, and this is reported', async () => {
      const reasons: string[] = []
      const listener = (message: { readonly reason: string }) => void reasons.push(message.reason)
      diagnostics('unstored').subscribe(listener as never)
      const { page, rows } = pages(how, { key: 'own' })
      await session.run(async () => {
        const query = { no: 1 }
        const first = page(query)
        query.no = 2
        const joined = page({ no: 1 })
        await first
        expect(await joined).toBe('page 1')
      })
      diagnostics('unstored').unsubscribe(listener as never)
      expect(reasons).toEqual(['its arguments were changed before the function ran'])
      for (const no of [1, 2]) rows[no] = { version: no === 1 ? 'v2' : 'v1', text: `new page ${no}` }
      expect([await page({ no: 1 }), await page({ no: 2 })]).toEqual(['new page 1', 'new page 2'])
    })
  })

it('a version function that writes to its argument has a copy of its own', async () => {
  const page = versioned(async (query: Query) => `page ${query.no}`, {
    namespace: 'page',
    region: tracked(),
    version: (query) => `v${query.no++}`,
  })
  expect(await page({ no: 1 })).toBe('page 1')
  expect(await page.get({ no: 1 })).toBe('page 1')
})

it('a version function that writes to an argument of which the key does not tell all keeps it from being stored', async () => {
  const page = versioned(async (query: Query) => `page ${query.no}`, {
    namespace: 'page',
    region: tracked(),
    functionKeyGenerator: () => (query) => `page ${(query as Query).no}`,
    version: (query) => {
      if (query.no === 1) query.no = 2
      return 'v'
    },
  })
  await page({ no: 1 })
  expect(await page.get({ no: 2 })).toBe(NO_VALUE)
})

it('a version function that hangs does not keep the process running without a timeout of its own', async () => {
  const timers = () => process.getActiveResourcesInfo().filter((kind) => kind === 'Timeout').length
  const before = timers()
  const end = new AbortController()
  const version = () =>
    new Promise<string>((resolve) => end.signal.addEventListener('abort', () => resolve('v')))
  const called = versioned(async () => 'page', { namespace: 'hanging', version })()
  expect(timers()).toBe(before)
  end.abort()
  expect(await called).toBe('page')
})

describe('a call that began before its region was closed', () => {
  it('ends with its result, which is not stored', async () => {
    const region = tracked()
    const { create: version, resolve } = held<number>()
    const page = versioned(async (no: number) => `page ${no}`, { namespace: 'page', region, version })
    const calls = [page(1), page.refresh(2), page.get(3)]
    await region.close()
    const unstored: unknown[] = []
    const listen = (message: unknown) => void unstored.push((message as { reason: string }).reason)
    diagnostics('unstored').subscribe(listen)
    resolve(1)
    expect(await Promise.all(calls)).toEqual(['page 1', 'page 2', NO_VALUE])
    diagnostics('unstored').unsubscribe(listen)
    expect(unstored).toEqual(Array(2).fill('the region was closed while the version was read'))
    await expect(page(1)).rejects.toMatchObject({ code: 'ERR_CLOSED' })
  })
})

import { describe, expectTypeOf, it } from 'vitest'
import { memory } from '../../backends/memory/index.js'
import { dep, makeRegion, type NoValue } from '../../src/index.js'
import { type Session, session, type VersionedFunction, versioned } from '../../src/session/index.js'

describe('versioned()', () => {
  it('keeps arguments and result of the function', async () => {
    const cached = versioned({ namespace: 'n', version: (id: number) => id })(
      async (id: number, more?: string) => ({ id, more }),
    )
    expectTypeOf(cached).toEqualTypeOf<
      VersionedFunction<[id: number, more?: string], { id: number; more: string | undefined }>
    >()
    expectTypeOf(await cached(1)).toEqualTypeOf<{ id: number; more: string | undefined }>()
    expectTypeOf(await cached.get(1, 'x')).toEqualTypeOf<{ id: number; more: string | undefined } | NoValue>()
    expectTypeOf(cached.key('v', 1)).toEqualTypeOf<string>()
    expectTypeOf(cached.version).toEqualTypeOf<(id: number, more?: string) => Promise<string>>()
    // @ts-expect-error it takes a number
    void cached('1')
    // @ts-expect-error nothing is set by hand: it could be older than the version that is read then
    cached.set
  })

  it('keeps a readonly rest parameter', async () => {
    const cached = versioned(async (...ids: readonly number[]) => ids.length, {
      namespace: 'n',
      version: (...ids) => ids.map((id) => id.toFixed()).join(),
    })
    expectTypeOf(await cached(1, 2)).toEqualTypeOf<number>()
  })

  it('takes a version of fewer arguments, and none that cannot take those of the function', () => {
    const constant = versioned({ namespace: 'n', version: () => 'v' })
    expectTypeOf(constant((id: number) => id)).toEqualTypeOf<VersionedFunction<[id: number], number>>()
    // @ts-expect-error the version is told a string, but the function is called with a number
    versioned({ namespace: 'n', version: (id: string) => id })((id: number) => id)
    // @ts-expect-error the version needs two arguments
    versioned({ namespace: 'n', version: (one: number, two: number) => one + two })((id: number) => id)
  })

  it('takes versions that can be compared', () => {
    versioned({ namespace: 'n', version: async () => new Date() })(() => 1)
    versioned({ namespace: 'n', version: (): bigint | null => 5n })(() => 1)
    // @ts-expect-error an object is no version
    versioned({ namespace: 'n', version: () => ({}) })
    // @ts-expect-error nor is a boolean
    versioned({ namespace: 'n', version: () => true })
  })

  it('creates values of its region’s type', () => {
    const region = makeRegion<string>({ backend: memory() })
    const into = versioned({ namespace: 'n', version: () => 1, region })
    into(() => 'text')
    // @ts-expect-error the region holds texts
    into(() => 5)
  })
})

describe('dep.version()', () => {
  it('takes the parts of its check', () => {
    const schema = dep.version('types: schema', async (tenant: string, table: number) => `${tenant} ${table}`)
    expectTypeOf(schema('a', 1)).toEqualTypeOf<string>()
    expectTypeOf(schema.current('a', 1)).toEqualTypeOf<Promise<string>>()
    // @ts-expect-error a part is missing
    schema('a')
    // @ts-expect-error parts are texts and numbers, which stand in names
    dep.version('types: object', (user: { id: number }) => user.id)
    expectTypeOf(dep.version('types: none', () => 1)()).toEqualTypeOf<string>()
  })
})

describe('session', () => {
  it('passes on the result of its function', async () => {
    expectTypeOf(session.run(() => 5)).toEqualTypeOf<number>()
    expectTypeOf(await session.run(async () => 'text')).toEqualTypeOf<string>()
    expectTypeOf(session.current()).toEqualTypeOf<Session | undefined>()
  })
})

import { expect, it } from 'vitest'
import { stampKey } from '../../../backends/redis/format.js'
import type { DependencySnapshot, LedgerTime } from '../../../src/backend/cached-value.js'
import type { Ledger } from '../../../src/index.js'
import { freshnessAt, namesOf } from '../../../src/ledger/ledger.js'
import type { Deployment } from './deployments.js'
import { bytes, everywhere, freshKey, granted, text } from './suite.js'

function opened(at: Deployment) {
  const [mine, theirs] = [at.open(), at.open()]
  return {
    mine,
    theirs,
    book: mine.ledger as Ledger,
    other: theirs.ledger as Ledger,
    clock: freshKey('clock'),
    name: freshKey('name'),
    key: freshKey(),
  }
}

const snapshot = ({ epoch, at }: LedgerTime, ...names: string[]): DependencySnapshot => ({
  epoch,
  groups: [{ asOf: at, names }],
})

everywhere('the ledger of Redis', (at) => {
  it('knows nothing until somebody begins', async () => {
    const { book, clock, name } = opened(at())
    expect(await book.read(clock, [name])).toEqual({ now: undefined, stamps: [undefined] })
    expect(await book.judge(clock, { epoch: 'x', groups: [{ asOf: 1, names: [name] }] })).toBe('invalid')
  })

  it('tells what was invalidated since, hard and soft, to everybody', async () => {
    const { book, other, clock, name } = opened(at())
    const first = await book.now(clock, [name])
    expect(await other.judge(clock, snapshot(first, name))).toBe('fresh')
    await other.invalidate(clock, [name], 'soft')
    expect(await book.judge(clock, snapshot(first, name))).toBe('stale')
    const second = await book.now(clock, [name])
    expect(second.at).toBeGreaterThan(first.at)
    expect(await book.judge(clock, snapshot(second, name))).toBe('fresh')
    await other.invalidate(clock, [name], 'hard')
    expect(await book.judge(clock, snapshot(second, name))).toBe('invalid')
    expect(await book.judge(clock, snapshot(first, name))).toBe('invalid')
    // A soft stamp after a hard one revives nothing.
    await other.invalidate(clock, [name], 'soft')
    expect(await book.judge(clock, snapshot(second, name))).toBe('invalid')
  })

  it('leaves other names and other clocks alone', async () => {
    const { book, clock, name } = opened(at())
    const [one, two] = [`${name}a`, `${name}b`]
    const moment = await book.now(clock, [one, two])
    const elsewhere = await book.now(`${clock}'`, [`${one}'`])
    await book.invalidate(clock, [one], 'hard')
    expect(await book.judge(clock, snapshot(moment, two))).toBe('fresh')
    expect(await book.judge(clock, snapshot(moment, one, two))).toBe('invalid')
    expect(await book.judge(`${clock}'`, snapshot(elsewhere, `${one}'`))).toBe('fresh')
  })

  it('answers stamps in the order of the names', async () => {
    const { book, clock, name } = opened(at())
    const names = [`${name}a`, `${name}b`, `${name}c`, `${name}a`]
    await book.now(clock, names.slice(0, 2))
    await book.invalidate(clock, [`${name}b`], 'hard')
    const { now, stamps } = await book.read(clock, names)
    expect(stamps[1]?.hard).toBe(now?.at)
    expect(stamps[0]?.hard).toBeLessThan(now?.at ?? 0)
    expect(stamps[2]).toBeUndefined()
    expect(stamps[3]).toEqual(stamps[0])
  })

  it('refuses a fill of what was invalidated meanwhile, ends its lease, and leaves the older value to its own snapshot', async () => {
    const { mine, theirs, book, other, clock, name, key } = opened(at())
    await theirs.set(key, bytes('old'), {})
    const moment = await book.now(clock, [name])
    const token = await granted(mine, key)
    await other.invalidate(clock, [name], 'hard')
    expect(
      await mine.set(key, bytes('late'), { token, ifCurrent: { clock, snapshot: snapshot(moment, name) } }),
    ).toBe('refused')
    expect(await theirs.held(key)).toBe(false)
    expect(text(await theirs.get(key))).toBe('old')
    const again = await book.now(clock, [name])
    const next = await granted(mine, key)
    expect(
      await mine.set(key, bytes('new'), {
        token: next,
        ttl: 60_000,
        ifCurrent: { clock, snapshot: snapshot(again, name) },
      }),
    ).toBe('stored')
    expect(text(await theirs.get(key))).toBe('new')
  })

  it('refuses what was invalidated softly, too', async () => {
    const { mine, book, clock, name, key } = opened(at())
    const moment = await book.now(clock, [name])
    await book.invalidate(clock, [name], 'soft')
    const write = { ifCurrent: { clock, snapshot: snapshot(moment, name) } }
    expect(await mine.setMulti([[key, bytes('late'), write]])).toEqual(['refused'])
  })

  it('lets a refused write without a token leave nothing behind', async () => {
    const { mine, theirs, book, clock, name, key } = opened(at())
    await mine.set(key, bytes('old'), {})
    const moment = await book.now(clock, [name])
    const token = await granted(theirs, key)
    await book.invalidate(clock, [name], 'hard')
    expect(
      await mine.set(key, bytes('late'), { ifCurrent: { clock, snapshot: snapshot(moment, name) } }),
    ).toBe('refused')
    expect(await mine.get(key)).toBeUndefined()
    expect(await theirs.set(key, bytes('later'), { token })).toBe('lost')
  })

  it('stores what depends on names first learnt while it was made, whatever else was invalidated meanwhile', async () => {
    const { mine, book, clock, name, key } = opened(at())
    const moment = await book.now(clock, [name])
    for (let i = 0; i < 5; i++) await book.invalidate(clock, [`${name} other ${i}`], 'hard')
    const found = snapshot(moment, name, `${name} found`)
    expect(await mine.set(key, bytes('v'), { ttl: 60_000, ifCurrent: { clock, snapshot: found } })).toBe(
      'stored',
    )
    expect(await book.judge(clock, found)).toBe('fresh')
    await book.invalidate(clock, [`${name} found`], 'hard')
    expect(await book.judge(clock, found)).toBe('invalid')
  })

  it('refuses what depends on a name first learnt while it was made, and invalidated meanwhile', async () => {
    const { mine, book, clock, name, key } = opened(at())
    const moment = await book.now(clock, [name])
    await book.invalidate(clock, [`${name} found`], 'hard')
    const write = { ifCurrent: { clock, snapshot: snapshot(moment, name, `${name} found`) } }
    expect(await mine.set(key, bytes('v'), write)).toBe('refused')
  })

  it('refuses it too when more was invalidated than it remembers one by one', async () => {
    const { mine, book, clock, name, key } = opened(at())
    const moment = await book.now(clock, [name])
    await book.invalidate(clock, [`${name} found`], 'hard')
    for (let i = 0; i < 3; i++)
      await book.invalidate(
        clock,
        Array.from({ length: 500 }, (_, n) => `${name} ${i} ${n}`),
        'hard',
      )
    const write = { ifCurrent: { clock, snapshot: snapshot(moment, name, `${name} found`) } }
    expect(await mine.set(key, bytes('v'), write)).toBe('refused')
  })

  it('takes lost bookkeeping for an invalidation', async () => {
    const { book, clock, name } = opened(at())
    const { admin } = at()
    const moment = await book.now(clock, [name])
    const standing = snapshot(moment, name)
    await book.invalidate(clock, ['another'], 'hard')
    await admin.del(stampKey(clock, name))
    const reading = await book.read(clock, namesOf(standing))
    expect(freshnessAt(standing, reading)).toBe('invalid')
    // The ring proves that the name was not among what was invalidated.
    expect(await book.judge(clock, standing)).toBe('fresh')
    await admin.del(stampKey(clock, name))
    await admin.del(`~corral:ring={${clock}}`)
    expect(await book.judge(clock, standing)).toBe('invalid')
  })

  it('takes a lost clock for an invalidation of everything', async () => {
    const { book, clock, name } = opened(at())
    const moment = await book.now(clock, [name])
    await at().admin.del(`~corral:clock={${clock}}`)
    expect(await book.judge(clock, snapshot(moment, name))).toBe('invalid')
    const anew = await book.now(clock, [name])
    expect(anew.epoch).not.toBe(moment.epoch)
    expect(await book.judge(clock, snapshot(moment, name))).toBe('invalid')
    expect(await book.judge(clock, snapshot(anew, name))).toBe('fresh')
  })

  it('never sets its clock back', async () => {
    const { book, clock, name } = opened(at())
    const moment = await book.now(clock, [name])
    const ahead = moment.at + 3_600_000_000
    await at().admin.set(`~corral:clock={${clock}}`, `${moment.epoch}:${ahead}`)
    await book.invalidate(clock, [name], 'hard')
    expect((await book.now(clock, [name])).at).toBe(ahead + 1)
  })
})

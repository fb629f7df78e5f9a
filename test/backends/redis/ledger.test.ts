import { expect, it } from 'vitest'
import { stampKey } from '../../../backends/redis/format.js'
import { dependencies } from '../../../proxies/dependencies.js'
import { json } from '../../../proxies/json.js'
import { prefix } from '../../../proxies/prefix.js'
import { type Ledger, makeRegion, wrap } from '../../../src/index.js'
import { freshnessAt } from '../../../src/ledger/ledger.js'
import type { DependencySnapshot, LedgerTime } from '../../../src/ledger/snapshot.js'
import { namesOf } from '../../../src/ledger/snapshot.js'
import { judge } from '../../support/ledgers.js'
import { type Deployment, standalone } from './deployments.js'
import { bytes, everywhere, freshKey, granted, text, withRedis } from './suite.js'

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
  it('is empty until the first operation', async () => {
    const { book, clock, name } = opened(at())
    expect(await book.open(clock).read([name])).toEqual({ now: undefined, stamps: [undefined] })
    expect(await judge(book, clock, { epoch: 'x', groups: [{ asOf: 1, names: [name] }] })).toBe('invalid')
  })

  it('returns later invalidations, hard and soft, to every reader', async () => {
    const { book, other, clock, name } = opened(at())
    const first = await book.open(clock).now([name])
    expect(await judge(other, clock, snapshot(first, name))).toBe('fresh')
    await other.open(clock).invalidate([name], 'soft')
    expect(await judge(book, clock, snapshot(first, name))).toBe('stale')
    const second = await book.open(clock).now([name])
    expect(second.at).toBeGreaterThan(first.at)
    expect(await judge(book, clock, snapshot(second, name))).toBe('fresh')
    await other.open(clock).invalidate([name], 'hard')
    expect(await judge(book, clock, snapshot(second, name))).toBe('invalid')
    expect(await judge(book, clock, snapshot(first, name))).toBe('invalid')
    // A soft stamp after a hard one revives nothing.
    await other.open(clock).invalidate([name], 'soft')
    expect(await judge(book, clock, snapshot(second, name))).toBe('invalid')
  })

  it('leaves other names and other clocks alone', async () => {
    const { book, clock, name } = opened(at())
    const [one, two] = [`${name}a`, `${name}b`]
    const moment = await book.open(clock).now([one, two])
    const elsewhere = await book.open(`${clock}'`).now([`${one}'`])
    await book.open(clock).invalidate([one], 'hard')
    expect(await judge(book, clock, snapshot(moment, two))).toBe('fresh')
    expect(await judge(book, clock, snapshot(moment, one, two))).toBe('invalid')
    expect(await judge(book, `${clock}'`, snapshot(elsewhere, `${one}'`))).toBe('fresh')
  })

  it('answers stamps in the order of the names', async () => {
    const { book, clock, name } = opened(at())
    const names = [`${name}a`, `${name}b`, `${name}c`, `${name}a`]
    await book.open(clock).now(names.slice(0, 2))
    await book.open(clock).invalidate([`${name}b`], 'hard')
    const { now, stamps } = await book.open(clock).read(names)
    expect(stamps[1]?.hard).toBe((now?.at ?? 0) - 1)
    expect(stamps[0]?.hard).toBeLessThan(now?.at ?? 0)
    expect(stamps[2]).toBeUndefined()
    expect(stamps[3]).toEqual(stamps[0])
  })

  it('refuses a fill that was invalidated meanwhile, ends its lease, and leaves the older value to its own snapshot', async () => {
    const { mine, theirs, book, other, clock, name, key } = opened(at())
    await theirs.set(key, bytes('old'), {})
    const moment = await book.open(clock).now([name])
    const token = await granted(mine, key)
    await other.open(clock).invalidate([name], 'hard')
    expect(
      await mine.set(key, bytes('late'), { token, ifCurrent: { clock, snapshot: snapshot(moment, name) } }),
    ).toBe('refused')
    expect(await theirs.held(key)).toBe(false)
    expect(text(await theirs.get(key))).toBe('old')
    const again = await book.open(clock).now([name])
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

  it('refuses a fill that was invalidated softly, too', async () => {
    const { mine, book, clock, name, key } = opened(at())
    const moment = await book.open(clock).now([name])
    await book.open(clock).invalidate([name], 'soft')
    const write = { ifCurrent: { clock, snapshot: snapshot(moment, name) } }
    expect(await mine.setMulti([[key, bytes('late'), write]])).toEqual(['refused'])
  })

  it('lets a refused write without a token leave nothing behind', async () => {
    const { mine, theirs, book, clock, name, key } = opened(at())
    await mine.set(key, bytes('old'), {})
    const moment = await book.open(clock).now([name])
    const token = await granted(theirs, key)
    await book.open(clock).invalidate([name], 'hard')
    expect(
      await mine.set(key, bytes('late'), { ifCurrent: { clock, snapshot: snapshot(moment, name) } }),
    ).toBe('refused')
    expect(await mine.get(key)).toBeUndefined()
    expect(await theirs.set(key, bytes('later'), { token })).toBe('lost')
  })

  it('stores a value that depends on names first learnt during its creation, though other names were invalidated meanwhile', async () => {
    const { mine, book, clock, name, key } = opened(at())
    const moment = await book.open(clock).now([name])
    for (let i = 0; i < 5; i++) await book.open(clock).invalidate([`${name} other ${i}`], 'hard')
    const found = snapshot(moment, name, `${name} found`)
    expect(await mine.set(key, bytes('v'), { ttl: 60_000, ifCurrent: { clock, snapshot: found } })).toBe(
      'stored',
    )
    expect(await judge(book, clock, found)).toBe('fresh')
    await book.open(clock).invalidate([`${name} found`], 'hard')
    expect(await judge(book, clock, found)).toBe('invalid')
  })

  it('refuses a value that depends on a name first learnt during its creation and invalidated meanwhile', async () => {
    const { mine, book, clock, name, key } = opened(at())
    const moment = await book.open(clock).now([name])
    await book.open(clock).invalidate([`${name} found`], 'hard')
    const write = { ifCurrent: { clock, snapshot: snapshot(moment, name, `${name} found`) } }
    expect(await mine.set(key, bytes('v'), write)).toBe('refused')
  })

  it('refuses it too when more was invalidated than it remembers one by one', async () => {
    const { mine, book, clock, name, key } = opened(at())
    const moment = await book.open(clock).now([name])
    await book.open(clock).invalidate([`${name} found`], 'hard')
    for (let i = 0; i < 3; i++)
      await book.open(clock).invalidate(
        Array.from({ length: 500 }, (_, n) => `${name} ${i} ${n}`),
        'hard',
      )
    const write = { ifCurrent: { clock, snapshot: snapshot(moment, name, `${name} found`) } }
    expect(await mine.set(key, bytes('v'), write)).toBe('refused')
  })

  it('takes lost bookkeeping for an invalidation', async () => {
    const { book, clock, name } = opened(at())
    const { admin } = at()
    const moment = await book.open(clock).now([name])
    const standing = snapshot(moment, name)
    await book.open(clock).invalidate(['another'], 'hard')
    await admin.del(stampKey(clock, name))
    const reading = await book.open(clock).read(namesOf(standing))
    expect(freshnessAt(standing, reading)).toBe('invalid')
    // The ring proves that the name was not invalidated.
    expect(await judge(book, clock, standing)).toBe('fresh')
    await admin.del(stampKey(clock, name))
    await admin.del(`~corral:ring={${clock}}`)
    expect(await judge(book, clock, standing)).toBe('invalid')
  })

  it('takes a lost clock for an invalidation of everything', async () => {
    const { book, clock, name } = opened(at())
    const moment = await book.open(clock).now([name])
    await at().admin.del(`~corral:clock={${clock}}`)
    expect(await judge(book, clock, snapshot(moment, name))).toBe('invalid')
    const anew = await book.open(clock).now([name])
    expect(anew.epoch).not.toBe(moment.epoch)
    expect(await judge(book, clock, snapshot(moment, name))).toBe('invalid')
    expect(await judge(book, clock, snapshot(anew, name))).toBe('fresh')
  })

  it('never sets its clock back', async () => {
    const { book, clock, name } = opened(at())
    const moment = await book.open(clock).now([name])
    const ahead = moment.at + 3_600_000_000
    await at().admin.set(`~corral:clock={${clock}}`, `${moment.epoch}:${ahead}`)
    await book.open(clock).invalidate([name], 'hard')
    expect((await book.open(clock).now([name])).at).toBe(ahead + 2)
  })
})

withRedis('applications that share a Redis', standalone, (at) => {
  it('have a ledger for each prefix, which all regions under it share', async () => {
    const epochOf = async (text: string, name: string) => {
      const backend = wrap(at().open(), json(), prefix(text), dependencies())
      return (await makeRegion({ name, backend }).asOf()).epoch
    }
    const [users, pages, others] = [
      await epochOf('shop:', 'users'),
      await epochOf('shop:', 'pages'),
      await epochOf('blog:', 'users'),
    ]
    expect(pages).toBe(users)
    expect(others).not.toBe(users)
  })
})

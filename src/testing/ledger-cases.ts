import assert from 'node:assert/strict'
import {
  conditionOf,
  type Freshness,
  freshnessAt,
  type InvalidationMode,
  type OpenLedger,
  type WriteCondition,
} from '../ledger/ledger.js'
import type { DependencySnapshot, LedgerTime } from '../ledger/snapshot.js'
import { validate } from '../ledger/validate.js'
import { busy, type Case, type Context, granted, inTime, same } from './context.js'

/** A context with the operations of its ledger. Each opens the ledger again, so that no opened one keeps an invalidation to itself. */
interface LedgerContext<T> extends Context<T> {
  open(clock?: string): OpenLedger
  now(...names: string[]): Promise<LedgerTime>
  /** Names as they stand now. */
  snapshot(...names: string[]): Promise<DependencySnapshot>
  /** Store only while the names stand as they do now. */
  ifCurrent(...names: string[]): Promise<WriteCondition>
  invalidate(mode: InvalidationMode, ...names: string[]): Promise<void>
  /** Marks names for a transaction. Returns the end of the marks; absent if the ledger keeps no marks. */
  readonly mark:
    | ((transaction: string, mode: InvalidationMode, ...names: string[]) => Promise<() => Promise<void>>)
    | undefined
  /** Fails unless the ledger judges the snapshot so. */
  expectFreshness(snapshot: DependencySnapshot, expected: Freshness, message?: string): Promise<void>
}

function ledgerContext<T>(context: Context<T>): LedgerContext<T> {
  const open = (clock = 'clock') => {
    const { ledger } = context.backend
    if (ledger === undefined) assert.fail('Expected the backend to keep a ledger.')
    return ledger.open(clock)
  }
  const now = async (...names: string[]) => open().now(names)
  const snapshot = async (...names: string[]) => snapshotAt(await now(...names), ...names)
  return {
    ...context,
    open,
    now,
    snapshot,
    ifCurrent: async (...names) => conditionOf(open(), await snapshot(...names)),
    invalidate: async (mode, ...names) => open().invalidate(names, mode),
    get mark() {
      if (open().pending === undefined) return undefined
      return async (transaction: string, mode: InvalidationMode, ...names: string[]) => {
        const life = await open().pending?.(names, mode, transaction)
        assert.ok(life !== undefined && life > 0, `Expected the life of the mark in ms, got ${life}.`)
        return async () => open().invalidate(names, mode, transaction)
      }
    },
    async expectFreshness(of, expected, message) {
      assert.equal(await validate(open(), of), expected, message)
    },
  }
}

const snapshotAt = ({ epoch, at }: LedgerTime, ...names: string[]): DependencySnapshot => ({
  epoch,
  groups: [{ asOf: at, names }],
})

const MODES: readonly InvalidationMode[] = ['hard', 'soft']

const HARDNESS = { hard: 'invalid', soft: 'stale' } as const

const bodies: Readonly<Record<string, <T>(ledger: LedgerContext<T>) => Promise<void>>> = {
  async 'a ledger’s moments do not go back, and share an epoch'(ledger) {
    const before = await ledger.now('a')
    await ledger.invalidate('hard', 'a')
    const after = await ledger.now('a', 'b')
    assert.equal(after.epoch, before.epoch)
    assert.ok(after.at > before.at, `Expected a later moment than ${before.at}, got ${after.at}.`)
  },
  async 'a snapshot is fresh until one of its names is invalidated'(ledger) {
    const created = await ledger.snapshot('a', 'b')
    await ledger.expectFreshness(created, 'fresh')
    await ledger.invalidate('hard', 'c')
    await ledger.expectFreshness(created, 'fresh', 'another name')
    await ledger.invalidate('hard', 'b')
    await ledger.expectFreshness(created, 'invalid')
  },
  async 'a soft invalidation makes an entry stale, a hard one invalid'(ledger) {
    const created = await ledger.snapshot('a')
    await ledger.invalidate('soft', 'a')
    await ledger.expectFreshness(created, 'stale')
    await ledger.invalidate('hard', 'a')
    await ledger.expectFreshness(created, 'invalid')
  },
  async 'a soft invalidation never revives an entry that a hard one invalidated'(ledger) {
    const created = await ledger.snapshot('a', 'b')
    await ledger.invalidate('hard', 'a')
    await ledger.invalidate('soft', 'a')
    await ledger.expectFreshness(created, 'invalid')
    await ledger.invalidate('soft', 'b')
    await ledger.expectFreshness(created, 'invalid')
  },
  async 'a creation that begins after an invalidation is fresh'(ledger) {
    for (const mode of MODES) {
      await ledger.invalidate(mode, 'a')
      await ledger.expectFreshness(await ledger.snapshot('a'), 'fresh')
    }
  },
  async 'every invalidation counts, however quickly they follow'(ledger) {
    for (let round = 0; round < 50; round++) {
      const created = await ledger.snapshot('a')
      await ledger.expectFreshness(created, 'fresh')
      await ledger.invalidate('hard', 'a')
      await ledger.expectFreshness(created, 'invalid')
    }
  },
  async 'one invalidation reaches many names'(ledger) {
    const names = Array.from({ length: 1_000 }, (_, i) => `name ${i}`)
    const time = await ledger.now(...names)
    await ledger.expectFreshness(snapshotAt(time, ...names), 'fresh')
    await ledger.invalidate('hard', ...names.slice(0, 500))
    await ledger.expectFreshness(snapshotAt(time, 'name 0'), 'invalid')
    await ledger.expectFreshness(snapshotAt(time, 'name 499'), 'invalid')
    await ledger.expectFreshness(snapshotAt(time, 'name 500'), 'fresh')
    await ledger.expectFreshness(snapshotAt(time, ...names), 'invalid')
  },
  async 'two clocks are independent'({ open }) {
    const one = snapshotAt(await open('one').now(['a']), 'a')
    const other = await open('other').now(['a'])
    await open('one').invalidate(['a'], 'hard')
    assert.equal(await validate(open('one'), one), 'invalid')
    const again = await open('other').now(['b'])
    assert.equal(again.epoch, other.epoch)
    assert.equal(await validate(open('other'), snapshotAt(again, 'b')), 'fresh')
  },
  async 'each group is judged by its own moment'(ledger) {
    const before = await ledger.now('a', 'b')
    await ledger.invalidate('hard', 'a')
    const after = await ledger.now('a', 'b')
    const groups = (a: LedgerTime, b: LedgerTime): DependencySnapshot => ({
      epoch: after.epoch,
      groups: [...snapshotAt(a, 'a').groups, ...snapshotAt(b, 'b').groups],
    })
    await ledger.expectFreshness(groups(after, before), 'fresh')
    await ledger.expectFreshness(groups(before, after), 'invalid')
    await ledger.invalidate('soft', 'b')
    await ledger.expectFreshness(groups(after, before), 'stale')
  },
  async 'a moment of another epoch never counts'(ledger) {
    const { at } = await ledger.now('a')
    await ledger.expectFreshness(snapshotAt({ epoch: 'another', at: at + 1_000 }, 'a'), 'invalid')
  },
  async 'a moment ahead of the clock never counts, and what is written with it is refused'(ledger) {
    const { backend, values } = ledger
    const { epoch, at } = await ledger.now('a', 'b')
    const ahead = { epoch, at: at + 1_000_000_000 }
    await ledger.expectFreshness(snapshotAt(ahead, 'a'), 'invalid')
    const { groups } = snapshotAt({ epoch, at }, 'b')
    await ledger.expectFreshness({ epoch, groups: [...groups, ...snapshotAt(ahead, 'a').groups] }, 'invalid')
    const ifCurrent = conditionOf(ledger.open(), snapshotAt(ahead, 'a'))
    assert.equal(await backend.set('key', values[0], { ifCurrent }), 'refused')
    same(await backend.get('key'), undefined)
    await ledger.invalidate('hard', 'b')
    await ledger.expectFreshness(snapshotAt(ahead, 'a'), 'invalid', 'after an invalidation')
  },
  async 'a snapshot without names is fresh within its epoch'(ledger) {
    const { epoch } = await ledger.now('a')
    await ledger.expectFreshness({ epoch, groups: [] }, 'fresh')
  },
  async 'a reading answers in the order of its names, and leads to the same judgement'(ledger) {
    const time = await ledger.now('a', 'b', 'c', 'd')
    const expectBoth = async (expected: Freshness, ...names: string[]) => {
      const snapshot = snapshotAt(time, ...names)
      const reading = await ledger.open().read(names)
      assert.equal(reading.stamps.length, names.length)
      assert.equal(freshnessAt(snapshot, reading), expected)
      await ledger.expectFreshness(snapshot, expected)
    }
    await expectBoth('fresh', 'a', 'b', 'c', 'd')
    await ledger.invalidate('soft', 'c')
    await expectBoth('stale', 'a', 'b', 'c', 'd')
    await expectBoth('fresh', 'a', 'b', 'd')
    await expectBoth('stale', 'c')
    await ledger.invalidate('hard', 'a')
    await expectBoth('fresh', 'b', 'd')
    await expectBoth('invalid', 'd', 'c', 'b', 'a')
    await expectBoth('stale', 'd', 'c', 'b')
  },
  async 'a name that was never begun is never fresh by a moment that is older than an invalidation of it'(
    ledger,
  ) {
    const before = await ledger.now('a')
    await ledger.invalidate('hard', 'unheard of')
    await ledger.expectFreshness(snapshotAt(before, 'unheard of'), 'invalid')
    await ledger.expectFreshness(snapshotAt(before, 'a', 'unheard of'), 'invalid')
  },
  async 'odd names are names like any other'(ledger) {
    const odd = ['__proto__', 'constructor', ' ', 'a b', 'a\nb', 'a\0b', 'é', 'e\u0301', '{a}']
    const names = [...odd, 'n'.repeat(1_024)]
    const time = await ledger.now(...names)
    for (const name of names) {
      await ledger.expectFreshness(snapshotAt(time, name), 'fresh', name)
      await ledger.invalidate('hard', name)
      await ledger.expectFreshness(snapshotAt(time, name), 'invalid', name)
    }
  },
  async 'a write that is current is stored, with a token and without'(ledger) {
    const { backend, values } = ledger
    const ifCurrent = await ledger.ifCurrent('a')
    assert.equal(await backend.set('plain', values[0], { ifCurrent }), 'stored')
    const token = await granted(backend, 'filled')
    await ledger.invalidate('hard', 'another')
    assert.equal(await backend.set('filled', values[1], { token, ifCurrent }), 'stored')
    same(await backend.getMulti(['plain', 'filled']), values.slice(0, 2))
  },
  async 'a write is refused after an invalidation, hard or soft, and leaves nothing older'(ledger) {
    const { backend, values } = ledger
    for (const mode of MODES) {
      await backend.set('key', values[0], {})
      const ifCurrent = await ledger.ifCurrent('a')
      await ledger.invalidate(mode, 'a')
      assert.equal(await backend.set('key', values[1], { ifCurrent }), 'refused', mode)
      same(await backend.get('key'), undefined, mode)
    }
  },
  async 'a fill is refused after an invalidation, hard or soft, and gives its lease back'(ledger) {
    const { backend, values } = ledger
    for (const mode of MODES) {
      const token = await granted(backend, 'key')
      const { settled } = await busy(backend, 'key')
      const ifCurrent = await ledger.ifCurrent('a')
      await ledger.invalidate(mode, 'a')
      assert.equal(await backend.set('key', values[0], { token, ifCurrent }), 'refused', mode)
      same(await backend.get('key'), undefined, mode)
      assert.equal(await backend.held('key'), false, mode)
      await inTime(settled, 'waking up after a refused fill')
    }
  },
  async 'a fill whose lease was lost is lost, current or not, and leaves the lease of others'(ledger) {
    const { backend, values } = ledger
    const token = await granted(backend, 'key')
    const ifCurrent = await ledger.ifCurrent('a')
    const thief = await granted(backend, 'key', 10_000, true)
    assert.equal(await backend.set('key', values[0], { token, ifCurrent }), 'lost')
    await ledger.invalidate('hard', 'a')
    assert.notEqual(await backend.set('key', values[0], { token, ifCurrent }), 'stored')
    same(await backend.get('key'), undefined)
    assert.equal(await backend.release('key', thief), true)
  },
  async 'a write by another epoch is refused'({ backend, values, open, now }) {
    const { at } = await now('a')
    const ifCurrent = conditionOf(open(), snapshotAt({ epoch: 'another', at }, 'a'))
    assert.equal(await backend.set('key', values[0], { ifCurrent }), 'refused')
    same(await backend.get('key'), undefined)
  },
  async 'while a transaction marks a name, nothing created from it stands, before or since, and other names do'(
    ledger,
  ) {
    const { mark } = ledger
    for (const mode of mark === undefined ? [] : MODES) {
      const before = await ledger.snapshot('a')
      const other = await ledger.snapshot('b')
      const end = await mark?.(`t-${mode}`, mode, 'a')
      await ledger.expectFreshness(before, HARDNESS[mode], 'created before the mark')
      await ledger.expectFreshness(other, 'fresh', 'another name')
      const during = await ledger.snapshot('a')
      await ledger.expectFreshness(during, HARDNESS[mode], 'created under the mark')
      await ledger.expectFreshness(await ledger.snapshot('a', 'b'), HARDNESS[mode], 'with another name')
      await ledger.expectFreshness(await ledger.snapshot('b'), 'fresh', 'another name, created meanwhile')
      await ledger.invalidate('hard', 'b')
      await ledger.expectFreshness(await ledger.snapshot('b'), 'fresh', 'another name, invalidated meanwhile')
      await ledger.expectFreshness(await ledger.snapshot('a'), HARDNESS[mode], 'after another invalidation')
      await end?.()
      await ledger.expectFreshness(during, HARDNESS[mode], 'created under the mark, which has ended')
      await ledger.expectFreshness(await ledger.snapshot('a'), 'fresh', 'created after the end')
    }
  },
  async 'a write of a value created under a mark is refused, under the mark and after its end'(ledger) {
    const { backend, values, mark } = ledger
    for (const mode of mark === undefined ? [] : MODES) {
      const end = await mark?.(`t-${mode}`, mode, 'a')
      const ifCurrent = await ledger.ifCurrent('a')
      const token = await granted(backend, 'key')
      assert.equal(await backend.set('key', values[0], { token, ifCurrent }), 'refused', mode)
      assert.equal(await backend.set('key', values[0], { ifCurrent }), 'refused', mode)
      assert.equal(
        await backend.set('other', values[0], { ifCurrent: await ledger.ifCurrent('b') }),
        'stored',
        mode,
      )
      await end?.()
      assert.equal(await backend.set('key', values[0], { ifCurrent }), 'refused', mode)
      same(await backend.get('key'), undefined, mode)
      assert.equal(
        await backend.set('key', values[0], { ifCurrent: await ledger.ifCurrent('a') }),
        'stored',
        mode,
      )
    }
  },
  async 'a name is marked until every transaction has ended that marked it'(ledger) {
    const { mark } = ledger
    if (mark === undefined) return
    const endOne = await mark('one', 'hard', 'a', 'b')
    const endOther = await mark('other', 'hard', 'b', 'c')
    const again = await mark('one', 'hard', 'a', 'b')
    await ledger.invalidate('hard', 'b')
    await ledger.expectFreshness(await ledger.snapshot('b'), 'invalid', 'an invalidation by neither')
    await endOne()
    await ledger.expectFreshness(await ledger.snapshot('a'), 'fresh', 'marked by one, which has ended')
    await ledger.expectFreshness(await ledger.snapshot('b'), 'invalid', 'marked by the other')
    await again()
    await endOther()
    await ledger.expectFreshness(await ledger.snapshot('a', 'b', 'c'), 'fresh', 'both have ended')
  },
  async 'a soft mark and a hard one of the same name end each by itself'(ledger) {
    const { mark } = ledger
    if (mark === undefined) return
    const endSoft = await mark('one', 'soft', 'a')
    const endHard = await mark('one', 'hard', 'a')
    await ledger.expectFreshness(await ledger.snapshot('a'), 'invalid')
    await endHard()
    await ledger.expectFreshness(await ledger.snapshot('a'), 'stale')
    await endSoft()
    await ledger.expectFreshness(await ledger.snapshot('a'), 'fresh')
  },
  async 'a batch of writes is checked one by one'(ledger) {
    const { backend, values } = ledger
    const [one, other] = values
    await backend.set('refused', one, {})
    const token = await granted(backend, 'lost')
    await backend.delete('lost')
    const current = await ledger.ifCurrent('b')
    const outdated = await ledger.ifCurrent('a', 'b')
    await ledger.invalidate('hard', 'a')
    const outcomes = await backend.setMulti([
      ['stored', other, { ifCurrent: current }],
      ['refused', other, { ifCurrent: outdated }],
      ['lost', other, { token, ifCurrent: current }],
      ['plain', other, {}],
    ])
    same(outcomes, ['stored', 'refused', 'lost', 'stored'])
    const read = await backend.getMulti(['stored', 'refused', 'lost', 'plain'])
    same(read, [other, undefined, undefined, other])
  },
}

export const ledgerCases: readonly Case[] = Object.entries(bodies).map(([name, body]) => ({
  name,
  needs: 'ledger',
  run: (context) => body(ledgerContext(context)),
}))

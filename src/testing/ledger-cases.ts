import assert from 'node:assert/strict'
import { conditionOf, freshnessAt } from '../ledger/ledger.js'
import type { DependencySnapshot, LedgerTime } from '../ledger/snapshot.js'
import { namesOf } from '../ledger/snapshot.js'
import { validate } from '../ledger/validate.js'
import { busy, type Case, granted, inTime, ledgerOf, same } from './context.js'

const snapshot = ({ epoch, at }: LedgerTime, ...names: string[]): DependencySnapshot => ({
  epoch,
  groups: [{ asOf: at, names }],
})

const cases: readonly Case[] = [
  {
    name: 'a ledger’s moments do not go back, and share an epoch',
    async run({ backend }) {
      const ledger = ledgerOf(backend)
      const before = await ledger.open('clock').now(['a'])
      await ledger.open('clock').invalidate(['a'], 'hard')
      const after = await ledger.open('clock').now(['a', 'b'])
      assert.equal(after.epoch, before.epoch)
      assert.ok(after.at > before.at, `Expected a later moment than ${before.at}, got ${after.at}.`)
    },
  },
  {
    name: 'a snapshot is fresh until one of its names is invalidated',
    async run({ backend }) {
      const ledger = ledgerOf(backend)
      const made = snapshot(await ledger.open('clock').now(['a', 'b']), 'a', 'b')
      assert.equal(await validate(ledger.open('clock'), made), 'fresh')
      await ledger.open('clock').invalidate(['c'], 'hard')
      assert.equal(await validate(ledger.open('clock'), made), 'fresh', 'another name')
      await ledger.open('clock').invalidate(['b'], 'hard')
      assert.equal(await validate(ledger.open('clock'), made), 'invalid')
    },
  },
  {
    name: 'a soft invalidation makes an entry stale, a hard one invalid',
    async run({ backend }) {
      const ledger = ledgerOf(backend)
      const made = snapshot(await ledger.open('clock').now(['a']), 'a')
      await ledger.open('clock').invalidate(['a'], 'soft')
      assert.equal(await validate(ledger.open('clock'), made), 'stale')
      await ledger.open('clock').invalidate(['a'], 'hard')
      assert.equal(await validate(ledger.open('clock'), made), 'invalid')
    },
  },
  {
    name: 'a soft invalidation never revives an entry that a hard one invalidated',
    async run({ backend }) {
      const ledger = ledgerOf(backend)
      const made = snapshot(await ledger.open('clock').now(['a', 'b']), 'a', 'b')
      await ledger.open('clock').invalidate(['a'], 'hard')
      await ledger.open('clock').invalidate(['a'], 'soft')
      assert.equal(await validate(ledger.open('clock'), made), 'invalid')
      await ledger.open('clock').invalidate(['b'], 'soft')
      assert.equal(await validate(ledger.open('clock'), made), 'invalid')
    },
  },
  {
    name: 'a creation that begins after an invalidation is fresh',
    async run({ backend }) {
      const ledger = ledgerOf(backend)
      for (const mode of ['hard', 'soft'] as const) {
        await ledger.open('clock').invalidate(['a'], mode)
        assert.equal(
          await validate(ledger.open('clock'), snapshot(await ledger.open('clock').now(['a']), 'a')),
          'fresh',
        )
      }
    },
  },
  {
    name: 'every invalidation counts, however quickly they follow',
    async run({ backend }) {
      const ledger = ledgerOf(backend)
      for (let round = 0; round < 50; round++) {
        const made = snapshot(await ledger.open('clock').now(['a']), 'a')
        assert.equal(await validate(ledger.open('clock'), made), 'fresh')
        await ledger.open('clock').invalidate(['a'], 'hard')
        assert.equal(await validate(ledger.open('clock'), made), 'invalid')
      }
    },
  },
  {
    name: 'one invalidation reaches many names',
    async run({ backend }) {
      const ledger = ledgerOf(backend)
      const names = Array.from({ length: 1_000 }, (_, i) => `name ${i}`)
      const instant = await ledger.open('clock').now(names)
      assert.equal(await validate(ledger.open('clock'), snapshot(instant, ...names)), 'fresh')
      await ledger.open('clock').invalidate(names.slice(0, 500), 'hard')
      assert.equal(await validate(ledger.open('clock'), snapshot(instant, 'name 0')), 'invalid')
      assert.equal(await validate(ledger.open('clock'), snapshot(instant, 'name 499')), 'invalid')
      assert.equal(await validate(ledger.open('clock'), snapshot(instant, 'name 500')), 'fresh')
      assert.equal(await validate(ledger.open('clock'), snapshot(instant, ...names)), 'invalid')
    },
  },
  {
    name: 'two clocks are independent',
    async run({ backend }) {
      const ledger = ledgerOf(backend)
      const one = snapshot(await ledger.open('one').now(['a']), 'a')
      const other = snapshot(await ledger.open('other').now(['a']), 'a')
      await ledger.open('one').invalidate(['a'], 'hard')
      assert.equal(await validate(ledger.open('one'), one), 'invalid')
      const again = await ledger.open('other').now(['b'])
      assert.equal(again.epoch, other.epoch)
      assert.equal(await validate(ledger.open('other'), snapshot(again, 'b')), 'fresh')
    },
  },
  {
    name: 'each group is judged by its own moment',
    async run({ backend }) {
      const ledger = ledgerOf(backend)
      const before = await ledger.open('clock').now(['a', 'b'])
      await ledger.open('clock').invalidate(['a'], 'hard')
      const after = await ledger.open('clock').now(['a', 'b'])
      const { epoch } = after
      const groups = (a: number, b: number): DependencySnapshot => ({
        epoch,
        groups: [
          { asOf: a, names: ['a'] },
          { asOf: b, names: ['b'] },
        ],
      })
      assert.equal(await validate(ledger.open('clock'), groups(after.at, before.at)), 'fresh')
      assert.equal(await validate(ledger.open('clock'), groups(before.at, after.at)), 'invalid')
      await ledger.open('clock').invalidate(['b'], 'soft')
      assert.equal(await validate(ledger.open('clock'), groups(after.at, before.at)), 'stale')
    },
  },
  {
    name: 'a moment of another epoch never counts',
    async run({ backend }) {
      const ledger = ledgerOf(backend)
      const { at } = await ledger.open('clock').now(['a'])
      assert.equal(
        await validate(ledger.open('clock'), snapshot({ epoch: 'another', at: at + 1_000 }, 'a')),
        'invalid',
      )
    },
  },
  {
    name: 'a snapshot without names is fresh within its epoch',
    async run({ backend }) {
      const ledger = ledgerOf(backend)
      const { epoch } = await ledger.open('clock').now(['a'])
      assert.equal(await validate(ledger.open('clock'), { epoch, groups: [] }), 'fresh')
    },
  },
  {
    name: 'a reading answers in the order of its names, and leads to the same judgement',
    async run({ backend }) {
      const ledger = ledgerOf(backend)
      const names = ['a', 'b', 'c', 'd']
      const made = snapshot(await ledger.open('clock').now(names), ...names)
      const check = async (of: DependencySnapshot, expected: string) => {
        const reading = await ledger.open('clock').read(namesOf(of))
        assert.equal(reading.stamps.length, namesOf(of).length)
        assert.equal(freshnessAt(of, reading), expected)
        assert.equal(await validate(ledger.open('clock'), of), expected)
      }
      await check(made, 'fresh')
      await ledger.open('clock').invalidate(['c'], 'soft')
      await check(made, 'stale')
      const only = (...some: string[]): DependencySnapshot => ({
        ...made,
        groups: [{ asOf: made.groups[0]?.asOf ?? 0, names: some }],
      })
      await check(only('a', 'b', 'd'), 'fresh')
      await check(only('c'), 'stale')
      await ledger.open('clock').invalidate(['a'], 'hard')
      await check(only('b', 'd'), 'fresh')
      await check(only('d', 'c', 'b', 'a'), 'invalid')
      await check(only('d', 'c', 'b'), 'stale')
    },
  },
  {
    name: 'a name that was never begun is never fresh by a moment that is older than an invalidation of it',
    async run({ backend }) {
      const ledger = ledgerOf(backend)
      const before = await ledger.open('clock').now(['a'])
      await ledger.open('clock').invalidate(['unheard of'], 'hard')
      assert.equal(await validate(ledger.open('clock'), snapshot(before, 'unheard of')), 'invalid')
      assert.equal(await validate(ledger.open('clock'), snapshot(before, 'a', 'unheard of')), 'invalid')
    },
  },
  {
    name: 'odd names are names like any other',
    async run({ backend }) {
      const ledger = ledgerOf(backend)
      const names = [
        '__proto__',
        'constructor',
        ' ',
        'a b',
        'a\nb',
        'a\0b',
        'é',
        'e\u0301',
        '{a}',
        'n'.repeat(1_024),
      ]
      const instant = await ledger.open('clock').now(names)
      for (const name of names) {
        assert.equal(await validate(ledger.open('clock'), snapshot(instant, name)), 'fresh', name)
        await ledger.open('clock').invalidate([name], 'hard')
        assert.equal(await validate(ledger.open('clock'), snapshot(instant, name)), 'invalid', name)
      }
    },
  },
  {
    name: 'a write that is current is stored, with a token and without',
    async run({ backend, values: [one, other] }) {
      const ledger = ledgerOf(backend)
      const clock = ledger.open('clock')
      const ifCurrent = conditionOf(clock, snapshot(await clock.now(['a']), 'a'))
      assert.equal(await backend.set('plain', one, { ifCurrent }), 'stored')
      const token = await granted(backend, 'filled')
      await ledger.open('clock').invalidate(['another'], 'hard')
      assert.equal(await backend.set('filled', other, { token, ifCurrent }), 'stored')
      same(await backend.getMulti(['plain', 'filled']), [one, other])
    },
  },
  {
    name: 'a write is refused after an invalidation, hard or soft, and leaves nothing older',
    async run({ backend, values: [one, other] }) {
      const ledger = ledgerOf(backend)
      for (const mode of ['hard', 'soft'] as const) {
        await backend.set('key', one, {})
        const clock = ledger.open('clock')
        const ifCurrent = conditionOf(clock, snapshot(await clock.now(['a']), 'a'))
        await ledger.open('clock').invalidate(['a'], mode)
        assert.equal(await backend.set('key', other, { ifCurrent }), 'refused', mode)
        same(await backend.get('key'), undefined, mode)
      }
    },
  },
  {
    name: 'a fill is refused after an invalidation, hard or soft, and gives its lease back',
    async run({ backend, values: [value] }) {
      const ledger = ledgerOf(backend)
      for (const mode of ['hard', 'soft'] as const) {
        const token = await granted(backend, 'key')
        const { settled } = await busy(backend, 'key')
        const clock = ledger.open('clock')
        const ifCurrent = conditionOf(clock, snapshot(await clock.now(['a']), 'a'))
        await ledger.open('clock').invalidate(['a'], mode)
        assert.equal(await backend.set('key', value, { token, ifCurrent }), 'refused', mode)
        same(await backend.get('key'), undefined, mode)
        assert.equal(await backend.held('key'), false, mode)
        await inTime(settled, 'waking up after a refused fill')
      }
    },
  },
  {
    name: 'a fill whose lease was lost is lost, current or not, and leaves the lease of others',
    async run({ backend, values: [value] }) {
      const ledger = ledgerOf(backend)
      const token = await granted(backend, 'key')
      const clock = ledger.open('clock')
      const ifCurrent = conditionOf(clock, snapshot(await clock.now(['a']), 'a'))
      const thief = await granted(backend, 'key', 10_000, true)
      assert.equal(await backend.set('key', value, { token, ifCurrent }), 'lost')
      await ledger.open('clock').invalidate(['a'], 'hard')
      assert.notEqual(await backend.set('key', value, { token, ifCurrent }), 'stored')
      same(await backend.get('key'), undefined)
      assert.equal(await backend.release('key', thief), true)
    },
  },
  {
    name: 'a write by another epoch is refused',
    async run({ backend, values: [value] }) {
      const ledger = ledgerOf(backend)
      const { at } = await ledger.open('clock').now(['a'])
      const ifCurrent = conditionOf(ledger.open('clock'), snapshot({ epoch: 'another', at }, 'a'))
      assert.equal(await backend.set('key', value, { ifCurrent }), 'refused')
      same(await backend.get('key'), undefined)
    },
  },
  {
    name: 'a batch of writes is checked one by one',
    async run({ backend, values: [one, other] }) {
      const ledger = ledgerOf(backend)
      const instant = await ledger.open('clock').now(['a', 'b'])
      await backend.set('refused', one, {})
      const token = await granted(backend, 'lost')
      await backend.delete('lost')
      const current = conditionOf(ledger.open('clock'), snapshot(instant, 'b'))
      const outdated = conditionOf(ledger.open('clock'), snapshot(instant, 'a', 'b'))
      await ledger.open('clock').invalidate(['a'], 'hard')
      same(
        await backend.setMulti([
          ['stored', other, { ifCurrent: current }],
          ['refused', other, { ifCurrent: outdated }],
          ['lost', other, { token, ifCurrent: current }],
          ['plain', other, {}],
        ]),
        ['stored', 'refused', 'lost', 'stored'],
      )
      same(await backend.getMulti(['stored', 'refused', 'lost', 'plain']), [
        other,
        undefined,
        undefined,
        other,
      ])
    },
  },
]

export const ledgerCases: readonly Case[] = cases.map((one) => ({ ...one, needs: 'ledger' }))

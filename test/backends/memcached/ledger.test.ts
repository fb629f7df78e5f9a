import { expect, it } from 'vitest'
import { CLOCK, LOG, STAMP, wireName } from '../../../backends/memcached/format.js'
import { CorralError, type DependencySnapshot, type Ledger } from '../../../src/index.js'
import { faultProxy } from '../../support/faultproxy.js'
import { judge } from '../../support/ledgers.js'
import { bytes, say, text, withMemcached } from './start.js'

let serial = 0

withMemcached('the ledger of memcached', (bench) => {
  const stage = () => {
    const mine = bench().open()
    const theirs = bench().open()
    return {
      mine,
      theirs,
      ledger: mine.ledger as Ledger,
      others: theirs.ledger as Ledger,
      clock: `clock ${++serial}`,
      key: `entry ${serial}`,
    }
  }
  const snapshotOf = async (
    ledger: Ledger,
    clock: string,
    names: readonly string[],
  ): Promise<DependencySnapshot> => {
    const { epoch, at } = await ledger.open(clock).now(names)
    return { epoch, groups: [{ asOf: at, names }] }
  }

  it('is shared, and tells snapshots before an invalidation from those after it', async () => {
    const { ledger, others, clock } = stage()
    expect(ledger.shared).toBe(true)
    const before = await snapshotOf(ledger, clock, ['a', 'b'])
    expect(await judge(others, clock, before)).toBe('fresh')
    await others.open(clock).invalidate(['b'], 'hard')
    expect(await judge(ledger, clock, before)).toBe('invalid')
    expect(await judge(ledger, clock, await snapshotOf(ledger, clock, ['a', 'b']))).toBe('fresh')
    expect(
      await judge(ledger, clock, {
        ...before,
        groups: [{ asOf: before.groups[0]?.asOf ?? 0, names: ['a'] }],
      }),
    ).toBe('fresh')
  })

  it('gives clock and stamps no end, so that none is gone before an entry that depends on it', async () => {
    const { ledger, clock } = stage()
    await ledger.open(clock).now(['a', 'b'])
    await ledger.open(clock).invalidate(['b'], 'soft')
    for (const key of [wireName(CLOCK, clock), wireName(STAMP, 'a'), wireName(STAMP, 'b')])
      expect(await say(bench().server.port, `mg ${key} t`)).toBe('HD t-1')
  })

  it('keeps soft marks apart from hard ones', async () => {
    const { ledger, others, clock } = stage()
    const before = await snapshotOf(ledger, clock, ['a'])
    await others.open(clock).invalidate(['a'], 'soft')
    expect(await judge(ledger, clock, before)).toBe('stale')
    expect(await judge(ledger, clock, await snapshotOf(ledger, clock, ['a']))).toBe('fresh')
    await others.open(clock).invalidate(['a'], 'hard')
    expect(await judge(ledger, clock, before)).toBe('invalid')
    await others.open(clock).invalidate(['a'], 'soft')
    expect(await judge(ledger, clock, before)).toBe('invalid')
  })

  it('takes soft marks of many at once, all of which count', async () => {
    const { ledger, others, clock } = stage()
    const before = await snapshotOf(ledger, clock, ['a'])
    await Promise.all(
      Array.from({ length: 40 }, (_, i) => (i % 2 ? ledger : others).open(clock).invalidate(['a'], 'soft')),
    )
    expect(await judge(ledger, clock, before)).not.toBe('fresh')
    const { now, stamps } = await ledger.open(clock).read(['a'])
    const [stamp] = stamps
    // A mark that was crowded out took the stamp away, and the judgement put a new, hard one in its place.
    if (stamp !== undefined) expect(Math.max(stamp.soft, stamp.hard)).toBe(now?.at)
  })

  it('judges within its timeout, however many round trips it takes', async () => {
    const { others, clock } = stage()
    const proxy = await faultProxy({ port: bench().server.port })
    try {
      const { ledger } = bench().open({ servers: `127.0.0.1:${proxy.port}`, timeout: '1s' })
      const before = await snapshotOf(others, clock, ['a'])
      await ledger?.open(clock).read(['a'])
      proxy.set({ kind: 'latency', ms: 200 })
      const began = performance.now()
      const judged = async () =>
        judge(ledger, clock, { ...before, groups: [{ asOf: 0, names: ['learnt late'] }] })
      await expect(judged()).rejects.toSatisfy((error) => CorralError.is(error, 'ERR_TIMEOUT'))
      // Without it all of its round trips, of 400 ms each, would be waited for and none be late.
      expect(performance.now() - began).toBeLessThan(1_900)
    } finally {
      await proxy.close()
    }
  })

  it.each(['hard', 'soft'] as const)(
    'stores the first value under a name though other names are invalidated meanwhile: %s',
    async (mode) => {
      const { mine, ledger, others, clock, key } = stage()
      for (const declared of [[], ['new']]) {
        const { epoch, at } = await ledger.open(clock).now(declared)
        for (let i = 0; i < 20; i++) await others.open(clock).invalidate([`other ${i}`, 'and one more'], mode)
        const snapshot = { epoch, groups: [{ asOf: at, names: ['new', 'newer'] }] }
        expect(await mine.set(key, bytes('v'), { ifCurrent: { clock, snapshot } })).toBe('stored')
        expect(await judge(others, clock, snapshot)).toBe('fresh')
        await others.open(clock).invalidate(['newer'], mode)
        expect(await judge(ledger, clock, snapshot)).toBe(mode === 'hard' ? 'invalid' : 'stale')
      }
    },
  )

  it.each<[string, (port: number, clock: string) => unknown]>([
    ['it was invalidated itself', () => {}],
    [
      'the record of another invalidation is lost',
      (port, clock) => say(port, `delete ${wireName(LOG, `2:${clock}`)}`),
    ],
  ])('refuses the first value under a name if %s', async (_, lose) => {
    const { mine, ledger, others } = stage()
    const clock = `plain-${++serial}`
    const { epoch, at } = await ledger.open(clock).now([])
    expect(at).toBe(1)
    const names = lose.length === 0 ? ['new'] : ['other']
    await others.open(clock).invalidate(names, 'hard')
    await others.open(clock).invalidate(['another'], 'hard')
    await lose(bench().server.port, clock)
    const snapshot = { epoch, groups: [{ asOf: at, names: ['new'] }] }
    expect(await mine.set('entry', bytes('v'), { ifCurrent: { clock, snapshot } })).toBe('refused')
  })

  it('refuses the first value under a name after more invalidations than it can look up', async () => {
    const { mine, ledger, others, clock, key } = stage()
    const { epoch, at } = await ledger.open(clock).now([])
    for (let i = 0; i < 300; i++) await others.open(clock).invalidate(['other'], 'hard')
    const snapshot = { epoch, groups: [{ asOf: at, names: ['new'] }] }
    expect(await mine.set(key, bytes('v'), { ifCurrent: { clock, snapshot } })).toBe('refused')
  })

  it('takes an absent stamp and an absent clock for a miss', async () => {
    const { ledger, clock } = stage()
    const snapshot = await snapshotOf(ledger, clock, ['a', 'b'])
    const { port } = bench().server
    await ledger.open(clock).invalidate(['b'], 'hard')
    await ledger.open(clock).now(['b'])
    const only = { ...snapshot, groups: [{ asOf: snapshot.groups[0]?.asOf ?? 0, names: ['a'] }] }
    expect(await judge(ledger, clock, only)).toBe('fresh')
    expect(await say(port, 'delete %sa')).toBe('DELETED')
    // The log proves that nothing invalidated it meanwhile. Without the record it might have been.
    expect(await judge(ledger, clock, only)).toBe('fresh')
    expect(await say(port, 'delete %sa')).toBe('DELETED')
    const moved = (await ledger.open(clock).read([])).now?.at ?? 0
    expect(await say(port, `delete ${wireName(LOG, `${moved}:${clock}`)}`)).toBe('DELETED')
    expect(await judge(ledger, clock, only)).toBe('invalid')
    const again = await snapshotOf(ledger, clock, ['a', 'b'])
    expect(await judge(ledger, clock, again)).toBe('fresh')
    expect(await say(port, `delete %k${clock.replace(' ', '%20')}`)).toBe('DELETED')
    expect(await judge(ledger, clock, again)).toBe('invalid')
    // Stamps of a lost clock prove nothing, even when somebody else has started a new one; new ones take their place.
    await ledger.open(clock).invalidate(['c'], 'hard')
    const anew = await snapshotOf(ledger, clock, ['a', 'b'])
    expect(anew.epoch).not.toBe(again.epoch)
    expect(await judge(ledger, clock, again)).toBe('invalid')
    await ledger.open(clock).invalidate(['c'], 'hard')
    expect(await judge(ledger, clock, anew)).toBe('fresh')
  })

  it('finishes a stamp whose creator died over it', async () => {
    const { ledger, clock } = stage()
    await ledger.open(clock).now([])
    await say(bench().server.port, 'set %sorphan 0 0 7\r\npending')
    const snapshot = await snapshotOf(ledger, clock, ['orphan'])
    await ledger.open(clock).invalidate(['something else'], 'hard')
    expect(await judge(ledger, clock, snapshot)).toBe('fresh')
  })

  it('takes foreign bytes for absent', async () => {
    const { ledger, clock } = stage()
    const { port } = bench().server
    for (const foreign of ['', 'x', '1 2', '1 2 3 4', 'a 1 -2', '99999999999999999999999']) {
      await say(port, `set %sforeign 0 0 ${foreign.length}\r\n${foreign}`)
      expect((await ledger.open(clock).read(['foreign'])).stamps).toEqual([undefined])
    }
    await say(port, `set %k${clock.replace(' ', '%20')} 0 0 5\r\nhello`)
    expect((await ledger.open(clock).read([])).now).toBeUndefined()
  })

  it('refuses a fill that was invalidated during its creation, and drops the lease', async () => {
    const { mine, theirs, ledger, others, clock, key } = stage()
    const snapshot = await snapshotOf(ledger, clock, ['a'])
    await mine.set(key, bytes('older'), {})
    const { token } = await mine.acquire(key, 5_000)
    await others.open(clock).invalidate(['a'], 'hard')
    expect(
      await mine.set(key, bytes('late'), { token: token as string, ifCurrent: { clock, snapshot } }),
    ).toBe('refused')
    expect(await theirs.held(key)).toBe(false)
    expect(text(await theirs.get(key))).not.toBe('late')
  })

  it('leaves no older value behind when it refuses a write without a token, and voids the lease', async () => {
    const { mine, theirs, ledger, others, clock, key } = stage()
    const snapshot = await snapshotOf(ledger, clock, ['a'])
    await mine.set(key, bytes('older'), {})
    const { token } = await theirs.acquire(key, 5_000)
    await others.open(clock).invalidate(['a'], 'soft')
    expect(await mine.set(key, bytes('late'), { ifCurrent: { clock, snapshot } })).toBe('refused')
    expect(await theirs.get(key)).toBeUndefined()
    expect(await theirs.set(key, bytes('x'), { token: token as string })).toBe('lost')
  })

  it('stores a value with names learnt during its creation', async () => {
    const { mine, ledger, clock, key } = stage()
    const { epoch, at } = await ledger.open(clock).now([])
    const snapshot = { epoch, groups: [{ asOf: at, names: ['row 1', 'row 2'] }] }
    expect(await mine.set(key, bytes('value'), { ifCurrent: { clock, snapshot } })).toBe('stored')
    await ledger.open(clock).invalidate(['unrelated'], 'hard')
    expect(await judge(ledger, clock, snapshot)).toBe('fresh')
    await ledger.open(clock).invalidate(['row 2'], 'hard')
    expect(await judge(ledger, clock, snapshot)).toBe('invalid')
  })

  it('asks in one packet for entries and bookkeeping of the same tick', async () => {
    const { mine, ledger, clock } = stage()
    await ledger.open(clock).now(['a'])
    const gets = async () => Number(/cmd_get (\d+)/.exec(await say(bench().server.port, 'stats'))?.[1])
    const before = await gets()
    await Promise.all([mine.get('x'), ...Array.from({ length: 50 }, () => ledger.open(clock).read(['a']))])
    // One entry, one clock and one stamp: reads of the same key in one tick share a command.
    expect((await gets()) - before).toBe(3)
  })
})

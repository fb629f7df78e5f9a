import { expect, it } from 'vitest'
import { backendOver } from '../../../backends/memcached/backend.js'
import { type Commands, commandsOf } from '../../../backends/memcached/client/commands.js'
import { ring } from '../../../backends/memcached/client/ring.js'
import { openServer, type Server } from '../../../backends/memcached/client/server.js'
import { CLOCK, LIFE, STAMP, wireName } from '../../../backends/memcached/format.js'
import { memcached } from '../../../backends/memcached/index.js'
import { itemChanges } from '../../../backends/memcached/item-changes.js'
import { ledgerOf } from '../../../backends/memcached/ledger.js'
import { ownerOf } from '../../../backends/memcached/marks.js'
import { settingsOf } from '../../../backends/memcached/options.js'
import { invalidated } from '../../../backends/memcached/stamp-items.js'
import { CorralError, type Duration } from '../../../src/index.js'
import type { OpenLedger } from '../../../src/ledger/ledger.js'
import type { DependencySnapshot, LedgerTime } from '../../../src/ledger/snapshot.js'
import { validate } from '../../../src/ledger/validate.js'
import { faultProxy } from '../../support/faultproxy.js'
import { startMemcached } from '../../support/servers.js'
import { until } from '../../support/waiting.js'
import { bytes, say, text, withMemcached } from './start.js'

let serial = 0

const snapshot = ({ epoch, at }: LedgerTime, ...names: string[]): DependencySnapshot => ({
  epoch,
  groups: [{ asOf: at, names }],
})

withMemcached('names that a transaction marks in memcached', (bench) => {
  const stage = (pendingFor: Duration | false = '1h') => {
    const backend = bench().open({ pendingFor })
    const clock = `marks ${++serial}`
    const opened = (of = backend) => of.ledger?.open(clock) as OpenLedger
    const name = `name ${serial}`
    return { backend, clock, opened, on: opened(), name, stamp: wireName(STAMP, name) }
  }
  const port = () => bench().server.port
  /** The life of a transaction's marks passes: memcached drops the item that tells of it. */
  const expire = (clock: string, transaction: string) =>
    say(port(), `delete ${wireName(LIFE, ownerOf(clock, transaction))}`)
  const connect = () => commandsOf(settingsOf(bench().address).addresses.map((one) => openServer(one, 1_000)))

  it('are marked by option only, and the life of marks is their own', async () => {
    expect(stage(false).on.pending).toBeUndefined()
    expect(bench().open().ledger?.open('c')?.pending).toBeUndefined()
    const { on, name, clock } = stage()
    const transaction = `t-${serial}`
    expect(await on.pending?.([name], 'hard', transaction)).toBe(3_600_000)
    const [, seconds] =
      /t(\d+)/.exec(await say(port(), `mg ${wireName(LIFE, ownerOf(clock, transaction))} t`)) ?? []
    expect(Number(seconds)).toBeGreaterThanOrEqual(3_600)
    expect(Number(seconds)).toBeLessThanOrEqual(3_602)
  })

  it.each(['declared', 'learnt late'])(
    'end by themselves once their process has died, which invalidates what was created under them: %s',
    async (way) => {
      const { backend, on, clock, name } = stage()
      const transaction = `died-${serial}`
      const known = way === 'declared' ? [name] : []
      await on.pending?.([name], 'hard', transaction)
      const during = snapshot(await on.now(known), name)
      const fill = () => backend.set('key', bytes('v'), { ifCurrent: { clock, snapshot: during } })
      expect(await fill()).toBe('refused')
      await expire(clock, transaction)
      // However long the creation took: that the mark is over proves nothing about what it has read.
      expect(await fill()).toBe('refused')
      expect(text(await backend.get('key'))).toBeUndefined()
      const since = snapshot(await on.now([name]), name)
      expect(await backend.set('key', bytes('new'), { ifCurrent: { clock, snapshot: since } })).toBe('stored')
      expect(await validate(on, since)).toBe('fresh')
      expect(await validate(on, during)).toBe('invalid')
    },
  )

  it('end by the clock of the server', async () => {
    const { on, name } = stage('1s')
    const transaction = `short-${serial}`
    expect(await on.pending?.([name], 'hard', transaction)).toBe(1_000)
    const isFresh = async () => (await validate(on, snapshot(await on.now([name]), name))) === 'fresh'
    expect(await isFresh()).toBe(false)
    await until(isFresh, 20_000)
  })

  it('stay marked while others invalidate them, with marks of their own or without', async () => {
    const { on, name, clock, stamp } = stage()
    const plain = bench().open().ledger?.open(clock) as OpenLedger
    await on.pending?.([name], 'hard', `one-${serial}`)
    await on.pending?.([name], 'soft', `two-${serial}`)
    const isFresh = async () => validate(on, snapshot(await plain.now([name]), name))
    for (const mode of ['soft', 'hard', 'soft'] as const) {
      await plain.invalidate([name], mode)
      expect(await isFresh()).toBe('invalid')
    }
    await plain.invalidate([name], 'hard', `one-${serial}`)
    expect(await isFresh()).toBe('stale')
    await plain.invalidate([name], 'hard')
    expect(await isFresh()).toBe('stale')
    await plain.invalidate([name], 'soft', `two-${serial}`)
    expect(await isFresh()).toBe('fresh')
    expect(await say(port(), `get ${stamp}`)).toMatch(/\r\n\w+ \d+ \d+\r\n/)
  })

  it('let no stamp be written that is older than a hard invalidation meanwhile', async () => {
    const { on, name, clock, stamp } = stage()
    await on.pending?.([name], 'soft', `slow-${serial}`)
    const commands = connect()
    let isLate = true
    const slow = ledgerOf({
      ...commands,
      async set(key, value, seconds, guard) {
        if (key === stamp && isLate) {
          isLate = false
          await on.invalidate([name], 'hard')
        }
        return commands.set(key, value, seconds, guard)
      },
    })
    const before = snapshot(await slow.open(clock).now([name]), name)
    expect(isLate).toBe(false)
    await on.invalidate([name], 'soft', `slow-${serial}`)
    expect(await validate(on, before)).toBe('invalid')
    commands.close()
  })

  it('keep their marks when the clock is lost', async () => {
    const { on, name, clock } = stage()
    await on.now([name])
    await on.pending?.([name], 'hard', `lost-${serial}`)
    await say(port(), `delete ${wireName(CLOCK, clock)}`)
    const during = snapshot(await on.now([name]), name)
    expect(await validate(on, during)).toBe('invalid')
    await on.invalidate([name], 'hard', `lost-${serial}`)
    expect(await validate(on, during)).toBe('invalid')
    expect(await validate(on, snapshot(await on.now([name]), name))).toBe('fresh')
  })

  it('take the marks of fifty transactions at once, and lose none', async () => {
    const { on, name } = stage()
    const all = Array.from({ length: 50 }, (_, i) => `many-${serial}-${i}`)
    await Promise.all(all.map((transaction) => on.pending?.([name, 'x'], 'hard', transaction)))
    const judged = async () => validate(on, snapshot(await on.now([name]), name))
    const [last, ...others] = all as [string, ...string[]]
    await Promise.all(others.map((transaction) => on.invalidate([name, 'x'], 'hard', transaction)))
    expect(await judged()).toBe('invalid')
    await on.invalidate([name, 'x'], 'hard', last)
    expect(await judged()).toBe('fresh')
  })

  it('take more names than one step', async () => {
    const { on, name } = stage()
    const names = Array.from({ length: 1_300 }, (_, i) => `${name} ${i}`)
    expect(await on.pending?.(names, 'hard', `large-${serial}`)).toBe(3_600_000)
    const during = snapshot(await on.now([]), names[1_299] as string)
    expect(await validate(on, during)).toBe('invalid')
    await on.invalidate(names, 'hard', `large-${serial}`)
    expect(await validate(on, snapshot(await on.now(names), ...names))).toBe('fresh')
  })

  it('cannot be marked while the server is away, and lose no end with a connection', async () => {
    const { clock, name } = stage()
    const proxy = await faultProxy({ port: port() })
    const backend = bench().open({ servers: `127.0.0.1:${proxy.port}`, pendingFor: '1h', timeout: '2s' })
    const on = backend.ledger?.open(clock) as OpenLedger
    const mark = (transaction: string) => on.pending?.([name], 'hard', `${transaction}-${serial}`)
    await mark('stays')
    proxy.set({ kind: 'refuse' })
    proxy.reset()
    await expect(mark('away')).rejects.toMatchObject({ name: 'CorralError' })
    proxy.set({ kind: 'none' })
    await until(async () => {
      const [done] = await Promise.allSettled([on.invalidate([name], 'hard', `stays-${serial}`)])
      return done.status === 'fulfilled'
    }, 20_000)
    await proxy.close()
    const direct = bench().open().ledger?.open(clock) as OpenLedger
    expect(await validate(direct, snapshot(await direct.now([name]), name))).toBe('fresh')
  })

  it('do not hold a commit up longer than a timeout over a server that is frozen, and end by themselves if they come late', async () => {
    const server = await startMemcached()
    const open = () => memcached({ servers: `127.0.0.1:${server.port}`, timeout: '300ms', pendingFor: '1s' })
    const [backend, later] = [open(), open()]
    const on = backend.ledger?.open('frozen') as OpenLedger
    await on.now(['a'])
    await server.kill('SIGSTOP')
    const marking = (async () => on.pending?.(['a'], 'hard', 'frozen'))()
    await expect(marking).rejects.toMatchObject({
      code: expect.stringMatching(/ERR_TIMEOUT|ERR_UNAVAILABLE/),
    })
    await server.kill('SIGCONT')
    const again = later.ledger?.open('frozen') as OpenLedger
    await until(
      async () => (await validate(again, snapshot(await again.now(['a']), 'a'))) === 'fresh',
      20_000,
    )
    await backend.close()
    await later.close()
    await server.stop()
  })

  it('of one reading do not hide an end that came between its clock and its stamps', async () => {
    const { on, name, clock, stamp } = stage()
    const commands = connect()
    await on.pending?.([name], 'hard', `between-${serial}`)
    // It reads what stood before the commit.
    const during = snapshot(await on.now([name]), name)
    let clockRead: Promise<unknown> | undefined
    let isFirst = true
    const reader = ledgerOf({
      ...commands,
      async get(key) {
        if (key === stamp && isFirst) {
          isFirst = false
          await clockRead
          await on.invalidate([name], 'hard', `between-${serial}`)
        }
        const found = commands.get(key)
        if (key === wireName(CLOCK, clock)) clockRead = found
        return found
      },
    }).open(clock)
    expect(await validate(reader, during)).toBe('invalid')
    expect(isFirst).toBe(false)
    commands.close()
  })

  it('refuse a fill although they end between the last two reads of its check', async () => {
    const { on, name, clock, stamp } = stage()
    const commands = connect()
    await on.now([])
    await on.pending?.([name], 'hard', `last-${serial}`)
    const during = snapshot(await on.now([]), name)
    let looks = 0
    let clockRead: Promise<unknown> | undefined
    const filling = backendOver(
      {
        ...commands,
        async get(key) {
          if (key === stamp && ++looks === 2) {
            await clockRead
            await on.invalidate([name], 'hard', `last-${serial}`)
          }
          const found = commands.get(key)
          if (key === wireName(CLOCK, clock)) clockRead = found
          return found
        },
      },
      { timeout: 20_000 },
    )
    expect(await filling.set(stamp, bytes('v'), { ifCurrent: { clock, snapshot: during } })).toBe('refused')
    expect(looks).toBe(2)
    commands.close()
  })

  it.each(['hard', 'soft'] as const)(
    'or not, names on one server are invalidated though another server is away: %s',
    async (mode) => {
      const servers = [await startMemcached(), await startMemcached()] as const
      const addresses = servers.map(({ port }) => `127.0.0.1:${port}`)
      const of = ring(addresses.map((name) => ({ name }) as Server))
      const on = (at: 0 | 1, wire: (i: number) => string) => {
        let i = 0
        while (of(wire(i)).name !== addresses[at]) i++
        return i
      }
      const clock = `c${on(0, (i) => wireName(CLOCK, `c${i}`))}`
      const here = `n${on(0, (i) => wireName(STAMP, `n${i}`))}`
      const away = `n${on(1, (i) => wireName(STAMP, `n${i}`))}`
      const backend = memcached({ servers: addresses })
      const opened = backend.ledger?.open(clock) as OpenLedger
      const before = snapshot(await opened.now([here, away]), here)
      await servers[1].stop()
      await expect((async () => opened.invalidate([here, away], mode))()).rejects.toThrow()
      await until(async () => (await validate(opened, before)) === (mode === 'hard' ? 'invalid' : 'stale'))
      await backend.close()
      await servers[0].stop()
    },
  )

  it('of one name cost their process a few commands each, however many come at once', async () => {
    const { name, clock, on } = stage()
    const commands = connect()
    let count = 0
    const counted =
      <A extends unknown[], R>(command: (...given: A) => R) =>
      (...given: A): R => {
        count++
        return command(...given)
      }
    const ledger = ledgerOf(
      {
        ...commands,
        get: counted(commands.get),
        set: counted(commands.set),
        delete: counted(commands.delete),
        increment: counted(commands.increment),
      },
      3_600_000,
    ).open(clock)
    const all = Array.from({ length: 250 }, (_, i) => `crowd-${serial}-${i}`)
    await Promise.all(all.map((transaction) => ledger.pending?.([name], 'hard', transaction)))
    expect(count).toBeLessThan(250 * 6)
    expect(await validate(on, snapshot(await on.now([name]), name))).toBe('invalid')
    count = 0
    await Promise.all(all.map((transaction) => ledger.invalidate([name], 'hard', transaction)))
    expect(count).toBeLessThan(250 * 6)
    expect(await validate(on, snapshot(await on.now([name]), name))).toBe('fresh')
    // Of processes that died: a herd of readers ends them once.
    for (let i = 0; i < 5; i++) {
      await ledger.pending?.([name], 'hard', `dead-${serial}-${i}`)
      await expire(clock, `dead-${serial}-${i}`)
    }
    const at = async () => (await ledger.read([])).now?.at ?? 0
    const before = await at()
    await Promise.all(Array.from({ length: 100 }, () => ledger.read([name])))
    await until(async () => (await validate(on, snapshot(await on.now([name]), name))) === 'fresh')
    expect((await at()) - before).toBeLessThan(20)
    commands.close()
  })

  it('are not taken for absent by a change that comes while another one reads the item', async () => {
    const commands = connect()
    const { stamp } = stage()
    let isFirst = true
    let second: Promise<void> | undefined
    const changeItem = itemChanges({
      ...commands,
      async get(key) {
        const found = await commands.get(key)
        if (isFirst) {
          isFirst = false
          // Another process creates it, and this one invalidates it, before the first change has its answer.
          await commands.set(stamp, Buffer.from('e 1 0'), 0)
          second = changeItem(stamp, invalidated({ epoch: 'e', at: 2 }, 'hard', ''))
        }
        return found
      },
    })
    await changeItem(stamp, (value) => value)
    await second
    expect(await commands.get(stamp)).toBeUndefined()
    expect(isFirst).toBe(false)
    commands.close()
  })

  it('whose life cannot be asked, or whose end fails, count and keep nobody from reading', async () => {
    const { name, clock, on } = stage()
    const commands = connect()
    await on.pending?.([name], 'hard', `unknown-${serial}`)
    await expire(clock, `unknown-${serial}`)
    const away = async () => {
      throw new CorralError('ERR_UNAVAILABLE', 'away')
    }
    const troubles: readonly Partial<Commands>[] = [
      { get: (key) => (key.startsWith(LIFE) ? away() : commands.get(key)) },
      { increment: away },
    ]
    for (const trouble of troubles) {
      const troubled = ledgerOf({ ...commands, ...trouble }).open(clock)
      const { stamps } = await troubled.read([name])
      expect(stamps).toEqual([expect.objectContaining({ hard: Number.POSITIVE_INFINITY })])
      expect(await validate(troubled, snapshot(await troubled.now([]), name))).toBe('invalid')
    }
    commands.close()
  })

  it('end under the clock under which they were set', async () => {
    const { name, clock, on, backend } = stage()
    const other = backend.ledger?.open(`other ${clock}`) as OpenLedger
    await other.now([name])
    await on.pending?.([name], 'hard', `clocks-${serial}`)
    const during = snapshot(await on.now([name]), name)
    await expire(clock, `clocks-${serial}`)
    await other.read([name])
    await other.now([name])
    expect(await validate(on, during)).toBe('invalid')
  })

  it('are none of an item that this version did not write', async () => {
    const { on, name, stamp } = stage()
    for (const junk of ['pending', 'x', '', 'a b c', '- 0 0', `e 1 2${' x'.repeat(3)}`, '\u{1f600} 1 1']) {
      await say(port(), `set ${stamp} 0 0 ${Buffer.byteLength(junk)}\r\n${junk}`)
      await on.pending?.([name], 'hard', `junk-${serial}`)
      expect(await validate(on, snapshot(await on.now([name]), name)), junk).toBe('invalid')
      await on.invalidate([name], 'hard', `junk-${serial}`)
      // What looks like a mark of a transaction of which nothing is known has ended with the next creation.
      expect(await validate(on, snapshot(await on.now([name]), name)), junk).toBe('fresh')
    }
  })
})

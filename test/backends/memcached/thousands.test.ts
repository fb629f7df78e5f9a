import { expect, it, vi } from 'vitest'
import { backendOver } from '../../../backends/memcached/backend.js'
import { commandsOf } from '../../../backends/memcached/client/commands.js'
import { openServer } from '../../../backends/memcached/client/server.js'
import { memcached } from '../../../backends/memcached/index.js'
import { settingsOf } from '../../../backends/memcached/options.js'
import { dependencies } from '../../../proxies/dependencies.js'
import { json } from '../../../proxies/json.js'
import { makeRegion, NO_VALUE, wrap } from '../../../src/index.js'
import { startMemcached } from '../../support/servers.js'
import { blockFor, type Gate, gate, sleep, turn, until } from '../../support/waiting.js'
import { bytes, withMemcached } from './start.js'

// Thousands of commands take their time on a busy machine.
vi.setConfig({ testTimeout: 240_000 })

/** More operations than run at one time, and more commands than a connection sends at once. */
const MANY = 1_500

withMemcached('thousands of keys at once over memcached', (bench) => {
  const keys = Array.from({ length: MANY }, (_, i) => `k${i}`)
  const open = (maxWaiting = 100_000, ...more: [ReturnType<typeof dependencies>?]) =>
    makeRegion<number>({
      name: 'thousands',
      expirationTime: '1h',
      lease: { ms: 600_000 },
      backend: wrap(bench().open({ timeout: '30s', maxWaiting }), json(), ...(more as [])),
    })

  const openCommands = () =>
    commandsOf(settingsOf(bench().address).addresses.map((address) => openServer(address, 1_000)))

  it('single calls wait for their turn', async () => {
    const region = open()
    const all = <R>(work: (i: number) => Promise<R>) => Promise.all(keys.map((_, i) => work(i)))
    expect(await all((i) => region.getOrCreate(`k${i}`, async () => i))).toEqual([...keys.keys()])
    expect(await all((i) => region.get(`k${i}`))).toEqual([...keys.keys()])
    expect(new Set(await all((i) => region.set(`k${i}`, -i)))).toEqual(new Set(['stored']))
    await all((i) => region.delete(`k${i}`))
    expect(new Set(await all((i) => region.get(`k${i}`)))).toEqual(new Set([NO_VALUE]))
  })

  it('the time for which this process is busy counts neither for connecting, for commands, nor for operations', async () => {
    const backend = bench().open({ timeout: '1s' })
    for (const round of ['connecting', 'connected']) {
      const calls = Promise.all([
        backend.get(`${round} a`),
        backend.set(`${round} b`, bytes('v'), {}),
        backend.ledger?.open('clock').now(['name']),
        backend.delete(`${round} c`),
      ])
      await turn()
      blockFor(2_000)
      const [read, written, time] = await calls
      expect(read).toBeUndefined()
      // A plain write holds a lease for its `timeout`, which may be over by now.
      expect(['stored', 'lost']).toContain(written)
      expect(time).toMatchObject({ at: expect.any(Number) })
    }
  })

  it('the commands of an operation whose time runs have few reads before them, however many there are', async () => {
    const backend = bench().open({ timeout: '30s' })
    const clock = backend.ledger?.open('line')
    await clock?.now([])
    let read = 0
    const reading = Array.from({ length: 8_000 }, async (_, i) => {
      await (i % 2 === 0 ? backend.get(`line ${i}`) : clock?.read([`line ${i}`]))
      read++
    })
    expect(await backend.set('written', bytes('v'), {})).toBe('stored')
    expect((await backend.acquire('leased', 10_000)).token).toBeDefined()
    expect(read).toBeLessThan(4_000)
    await Promise.all(reading)
  })

  it('nor has it the reads of thousands that wait for other processes', async () => {
    const held = keys.slice(0, 600)
    const holder = bench().open({ timeout: '30s' })
    await Promise.all(held.map((key) => holder.acquire(key, 600_000)))
    const commands = openCommands()
    let inLine = 0
    let line: Gate | undefined
    const get = async (key: string) => {
      if (line !== undefined) {
        inLine++
        await line.opened
      }
      return commands.get(key)
    }
    const backend = backendOver({ ...commands, get }, { timeout: 30_000 })
    const denied = await Promise.all(held.map((key) => backend.acquire(key, 600_000)))
    expect(denied.filter(({ token }) => token !== undefined)).toEqual([])
    line = gate()
    await until(() => inLine >= 256)
    // Within it each of them would have read the lease of its key.
    await sleep(100)
    expect(inLine).toBe(256)
    line.open()
    await backend.close()
    await holder.deleteMulti(held)
  })

  it('a server that is frozen holds up no reads of another one', async () => {
    const frozen = await startMemcached()
    const servers = [bench().address, `127.0.0.1:${frozen.port}`]
    const backend = memcached({ servers, timeout: '120s' })
    await backend.ping?.()
    await frozen.kill('SIGSTOP')
    let read = 0
    const reads = keys.map((key) => Promise.resolve(backend.get(`of two ${key}`)).then(() => read++))
    const settled = Promise.allSettled(reads)
    // A half of them is on either server.
    await until(() => read > MANY / 3)
    await backend.close()
    await frozen.stop()
    await settled
  })

  it('the fill, the renewal and the release of a granted lease go before all leases that are asked for', async () => {
    const commands = openCommands()
    const began = new Set<string>()
    let line: Gate | undefined
    const inLine =
      <A extends [string, ...unknown[]], R>(command: (...given: A) => Promise<R>) =>
      async (...given: A) => {
        if (line !== undefined) began.add(given[0])
        await line?.opened
        return command(...given)
      }
    const { get, set, delete: remove } = commands
    const gated = { ...commands, get: inLine(get), set: inLine(set), delete: inLine(remove) }
    const backend = backendOver(gated, { timeout: 30_000, maxWaiting: 256 })
    const [filled = '', renewed = '', released = ''] = await Promise.all(
      ['filled', 'renewed', 'released'].map(async (key) => (await backend.acquire(key, 600_000)).token),
    )
    line = gate()
    const running = keys.slice(0, 256).map((key) => `running-${key}`)
    const waiting = keys.slice(0, 255).map((key) => `waiting-${key}`)
    const leases = [...running, ...waiting].map((key) => backend.acquire(key, 10_000))
    const written = backend.set('written', bytes('v'), {})
    // As many as may wait have come before them.
    const done = [
      backend.set('filled', bytes('v'), { token: filled }),
      backend.renew('renewed', renewed, 600_000),
      backend.release('released', released),
    ]
    const outcomes = Promise.all([...done, ...leases, written])
    line.open()
    expect((await outcomes).slice(0, 3)).toEqual(['stored', true, true])
    const expected = ['filled', 'renewed', 'released', ...waiting, 'written']
    expect([...began].slice(256)).toEqual(expected)
    await backend.close()
  })

  it('invalidations of many names do not make each other late', async () => {
    const region = open(10_000, dependencies())
    await region.set('k', 1, { dependencies: ['n7-7'], asOf: 'now' })
    const lists = Array.from({ length: 100 }, (_, j) => Array.from({ length: 500 }, (_, i) => `n${j}-${i}`))
    await Promise.all(lists.map((names) => region.invalidateDependencies(names)))
    expect(await region.get('k')).toBe(NO_VALUE)
  })

  it('one call asks for them in slices', async () => {
    const region = open()
    expect(await region.getOrCreateMulti(keys, (missing) => missing.map(() => 1))).toEqual(keys.map(() => 1))
    expect(await region.getMulti(keys)).toEqual(keys.map(() => 1))
    await region.deleteMulti(keys)
    expect(await region.getMulti(keys)).toEqual(keys.map(() => NO_VALUE))
  })

  it('one call with more keys or names than may wait takes its turns in slices', async () => {
    const region = open(1_200, dependencies())
    const many = Array.from({ length: 3_000 }, (_, i) => `s${i}`)
    expect(new Set(await region.setMulti(many.map((key) => [key, 1])))).toEqual(new Set(['stored']))
    expect(new Set(await region.getMulti(many))).toEqual(new Set([1]))
    await region.set('dependent', 1, { dependencies: 's2999', asOf: await region.asOf() })
    await region.invalidateDependencies(many)
    expect(await region.get('dependent')).toBe(NO_VALUE)
    await region.deleteMulti(many)
    expect(new Set(await region.getMulti(many))).toEqual(new Set([NO_VALUE]))
  })

  it('an entry has as much time as its names take', async () => {
    const backend = wrap(bench().open({ timeout: '250ms' }), json(), dependencies())
    const region = makeRegion<number>({ name: 'many names', expirationTime: '1h', backend })
    const names = Array.from({ length: 6_000 }, (_, i) => `name ${i}`)
    const create = () =>
      region.getOrCreate('key', (creation) => {
        creation.dependsOn('key', names)
        return 1
      })
    expect(await create()).toBe(1)
    expect(await region.get('key')).toBe(1)
    expect(await region.set('other', 2, { dependencies: names, asOf: await region.asOf(names) })).toBe(
      'stored',
    )
    await region.invalidateDependencies('name 5999')
    expect(await region.getMulti(['key', 'other'])).toEqual([NO_VALUE, NO_VALUE])
    expect(await create()).toBe(1)
  })

  it('more than may wait are refused, and the others done', async () => {
    const backend = bench().open({ timeout: '30s', maxWaiting: 10 })
    await backend.get('warm')
    const outcomes = async (work: (i: number) => unknown) => {
      const settled = await Promise.allSettled(keys.map(async (_, i) => work(i)))
      return settled.map((one) =>
        one.status === 'fulfilled' ? 'done' : (one.reason as { code: string }).code,
      )
    }
    for (const work of [
      (i: number) => backend.set(`r${i}`, bytes('v'), {}),
      (i: number) => backend.get(`r${i}`),
    ]) {
      const codes = await outcomes(work)
      expect(new Set(codes)).toEqual(new Set(['done', 'ERR_UNAVAILABLE']))
      expect(codes.indexOf('ERR_UNAVAILABLE')).toBeGreaterThanOrEqual(10)
    }
  })
})

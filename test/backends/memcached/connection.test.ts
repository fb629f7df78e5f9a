import { once } from 'node:events'
import { type AddressInfo, connect, createServer } from 'node:net'
import fc from 'fast-check'
import { afterEach, describe, expect, it, vi } from 'vitest'
import { commandsOf } from '../../../backends/memcached/client/commands.js'
import { FrameError, OP, type Reply, replyReader } from '../../../backends/memcached/client/frames.js'
import { openServer } from '../../../backends/memcached/client/server.js'
import { memcached } from '../../../backends/memcached/index.js'
import { settingsOf } from '../../../backends/memcached/options.js'
import type { Backend, Bytes, Ledger } from '../../../src/index.js'
import { type FaultProxy, faultProxy } from '../../support/faultproxy.js'
import { startMemcached } from '../../support/servers.js'
import { sleep, until } from '../../support/waiting.js'
import { bytes, say, text, withMemcached } from './start.js'

// Some tests send thousands of commands, which take their time on a busy machine.
vi.setConfig({ testTimeout: 240_000 })

const opened: { close(): unknown }[] = []
afterEach(async () => {
  for (const one of opened.splice(0)) await one.close()
})

const keys = Array.from({ length: 40 }, (_, i) => `key ${i}`)
/** Values as long as they are different, so that a reply for another key is noticed. */
const contentOf = (key: string) => `${key}:${'x'.repeat(Number(key.slice(4)) * 37)}`

/** With a long timeout: the load of the machine is not tested. */
async function fill(port: number): Promise<void> {
  const backend = memcached({ servers: `127.0.0.1:${port}`, timeout: '20s' })
  opened.push(backend)
  await backend.setMulti(keys.map((key) => [key, bytes(contentOf(key)), {}]))
}

/** Reads everything at once: every read must settle, and every value must be the key's own. */
async function readAll(
  backend: Backend<Bytes>,
  content: (key: string) => string | undefined = contentOf,
): Promise<{ readonly answered: number; readonly failed: number }> {
  const results = await Promise.allSettled(keys.map(async (key) => text(await backend.get(key))))
  let answered = 0
  results.forEach((result, i) => {
    if (result.status === 'rejected') return expect(result.reason.code).toMatch(/^ERR_(UNAVAILABLE|TIMEOUT)$/)
    answered++
    expect(result.value).toBe(content(keys[i] as string))
  })
  return { answered, failed: keys.length - answered }
}

/** Once the trouble is over everything is answered again. */
const recovers = (backend: Backend<Bytes>) => until(async () => (await readAll(backend)).failed === 0)

const works = (backend: Backend<Bytes>) => async () => {
  try {
    await backend.get('any')
    return true
  } catch {
    return false
  }
}

describe('replies', () => {
  const frame = (opaque: number, value: Buffer, key = '') => {
    const head = Buffer.alloc(24)
    head[0] = 0x81
    head.writeUInt16BE(key.length, 2)
    head.writeUInt32BE(value.length + key.length, 8)
    head.writeUInt32BE(opaque, 12)
    return Buffer.concat([head, Buffer.from(key), value])
  }
  const collect = () => {
    const replies: Reply[] = []
    return {
      replies,
      read: replyReader((reply) => replies.push({ ...reply, value: Buffer.from(reply.value) })),
    }
  }

  it('are the same wherever the network cuts the stream', () => {
    fc.assert(
      fc.property(
        fc.array(fc.uint8Array({ maxLength: 60 }), { minLength: 1 }),
        fc.array(fc.nat(40)),
        (values, cuts) => {
          const stream = Buffer.concat(
            values.map((value, i) => frame(i, Buffer.from(value), 'k'.repeat(i % 3))),
          )
          const { replies, read } = collect()
          let at = 0
          for (const cut of [...cuts, stream.length]) {
            const end = Math.min(stream.length, at + cut)
            if (end > at) read(stream.subarray(at, end))
            at = end
          }
          expect(replies.map(({ opaque, value }) => [opaque, value])).toEqual(
            values.map((value, i) => [i, Buffer.from(value)]),
          )
        },
      ),
    )
  })

  it('are refused when they are none', () => {
    for (const bad of [
      Buffer.from('HTTP/1.1 400 Bad Request\r\n\r\n'),
      Buffer.from('ERROR\r\nERROR\r\nERROR\r\nERROR\r\n'),
      Buffer.alloc(24),
      frame(0, Buffer.alloc(0)).fill(0xff, 8, 12),
      frame(0, Buffer.alloc(2)).fill(0x09, 3, 4),
    ])
      expect(() => collect().read(bad)).toThrow(FrameError)
  })
})

withMemcached('a connection to memcached', (bench) => {
  const throughProxy = async (
    options: { timeout?: number } = {},
  ): Promise<{ proxy: FaultProxy; backend: Backend<Bytes> }> => {
    const proxy = await faultProxy({ port: bench().server.port })
    const backend = memcached({
      servers: `127.0.0.1:${proxy.port}`,
      timeout: options.timeout ?? 500,
      probe: 100,
    })
    opened.push({ close: () => proxy.close() }, backend)
    await fill(bench().server.port)
    return { proxy, backend }
  }

  it.each([2 ** 31 - 20, 2 ** 32 - 20])(
    'goes on when the number of its requests passes %i',
    async (firstOpaque) => {
      const [address] = settingsOf(bench().address).addresses
      if (address === undefined) throw new Error('expected an address')
      const commands = commandsOf([openServer({ ...address, firstOpaque }, 1_000)])
      opened.push(commands)
      for (let i = 0; i < 60; i += 3) {
        await commands.set('wrap', bytes(String(i)), 0)
        const several = await Promise.all([
          commands.get('wrap'),
          commands.get('absent'),
          commands.get('wrap'),
        ])
        expect(several.map((item) => text(item?.value))).toEqual([String(i), undefined, String(i)])
      }
    },
  )

  it('attributes no reply to another key when replies are cut in the middle', async () => {
    const { proxy, backend } = await throughProxy()
    let failed = 0
    for (let afterBytes = 0; afterBytes < 3_000; afterBytes += 97) {
      proxy.set({ kind: 'cut', afterBytes })
      failed += (await readAll(backend)).failed
      proxy.set({ kind: 'none' })
      await recovers(backend)
    }
    expect(failed).toBeGreaterThan(0)
  })

  it.each(['fin', 'rst', 'blackhole', 'refuse'] as const)(
    'settles everything and recovers after: %s',
    async (kind) => {
      const { proxy, backend } = await throughProxy()
      proxy.set({ kind })
      if (kind === 'refuse') proxy.reset()
      const began = performance.now()
      await readAll(backend)
      await readAll(backend)
      expect(performance.now() - began).toBeLessThan(4_000)
      proxy.set({ kind: 'none' })
      await recovers(backend)
    },
  )

  it('takes no late reply for the answer to a later command', async () => {
    const { proxy, backend } = await throughProxy({ timeout: 60 })
    for (let i = 0; i < 5; i++) {
      proxy.set({ kind: 'latency', ms: 100, jitter: 20 })
      await readAll(backend)
      proxy.set({ kind: 'none' })
      await recovers(backend)
    }
  })

  it('repeats commands that may be repeated, and hides that the server hung up', async () => {
    const { proxy, backend } = await throughProxy()
    for (let i = 0; i < 20; i++) {
      proxy.reset()
      expect(await readAll(backend)).toEqual({ answered: keys.length, failed: 0 })
    }
  })

  it('never repeats a command that would count twice', async () => {
    let breaks = false
    // Swallows one reply together with its connection, and then lets everything through again.
    const unreliable = createServer((client) => {
      const origin = connect(bench().server.port, '127.0.0.1')
      const end = () => {
        client.destroy()
        origin.destroy()
      }
      client.on('error', end).on('close', end)
      client.on('data', (chunk) => origin.write(chunk))
      origin.on('error', end).on('data', (chunk) => {
        if (!breaks) return client.write(chunk)
        breaks = false
        return end()
      })
    }).listen(0, '127.0.0.1')
    await once(unreliable, 'listening')
    const backend = memcached({
      servers: `127.0.0.1:${(unreliable.address() as AddressInfo).port}`,
      timeout: '10s',
    })
    opened.push({ close: () => unreliable.close() }, backend)
    const ledger = backend.ledger as Ledger
    const { at } = await ledger.open('once').now([])
    for (let i = 1; i <= 10; i++) {
      breaks = true
      await expect(ledger.open('once').invalidate([], 'hard')).rejects.toMatchObject({
        code: 'ERR_UNAVAILABLE',
      })
      // The command arrived, only its answer did not.
      expect((await ledger.open('once').now([])).at).toBe(at + i)
    }
  })

  it('starts a clock once, however many connections do it at the same moment', async () => {
    const backends = Array.from({ length: 8 }, () => memcached({ servers: bench().address, timeout: '20s' }))
    opened.push(...backends)
    for (let i = 0; i < 1_000; i++) {
      const began = await Promise.all(backends.map((one) => (one.ledger as Ledger).open(`cold ${i}`).now([])))
      expect(new Set(began.map(({ epoch }) => epoch)).size).toBe(1)
      await Promise.all(
        backends.map((one) => (one.ledger as Ledger).open(`colder ${i}`).invalidate(['name'], 'hard')),
      )
    }
  })

  it('gives its open calls up when it is closed, and takes no more', async () => {
    const { proxy, backend } = await throughProxy()
    proxy.set({ kind: 'blackhole' })
    const open = backend.get('x')
    const refused = expect(open).rejects.toMatchObject({ code: 'ERR_CLOSED' })
    await backend.close()
    await refused
    await expect(backend.get('x')).rejects.toMatchObject({ code: 'ERR_CLOSED' })
  })

  it('returns copies', async () => {
    const backend = bench().open()
    await backend.set('small', bytes('small'), {})
    const [value] = await backend.getMulti(['small', ...keys])
    expect(value?.buffer.byteLength).toBeLessThanOrEqual(Buffer.poolSize)
  })
})

withMemcached('a memcached in trouble', () => {
  const start = async (timeout = 200) => {
    const server = await startMemcached()
    const backend = memcached({ servers: `127.0.0.1:${server.port}`, timeout, probe: 100 })
    const other = memcached({ servers: `127.0.0.1:${server.port}`, timeout, probe: 100 })
    opened.push({ close: () => server.stop() }, backend, other)
    await fill(server.port)
    for (const one of [backend, other]) await until(works(one))
    return { server, backend, other }
  }

  it('frozen: commands fail in time, then at once, and it is found again when it thaws', async () => {
    const { server, backend } = await start()
    await server.kill('SIGSTOP')
    await expect(backend.get('key 1')).rejects.toMatchObject({ code: 'ERR_TIMEOUT' })
    const took: number[] = []
    for (let i = 0; i < 100; i++) {
      const asked = performance.now()
      await expect(backend.set('key 1', bytes('x'), {})).rejects.toMatchObject({ code: 'ERR_UNAVAILABLE' })
      took.push(performance.now() - asked)
      await sleep(3)
    }
    // One after another in almost no time, where each would have waited for a fifth of a second.
    expect(took.sort((a, b) => a - b)[50]).toBeLessThan(20)
    await server.kill('SIGCONT')
    await recovers(backend)
  })

  it('frozen: a lease that it grants when it thaws, after the caller gave up, holds up no caller here', async () => {
    const { server, backend } = await start()
    await server.kill('SIGSTOP')
    await expect(backend.acquire('orphan', 600_000)).rejects.toMatchObject({ code: 'ERR_TIMEOUT' })
    await server.kill('SIGCONT')
    await recovers(backend)
    let token: string | undefined
    // Where it heard of the grant after all, it gives it back: that may still be on its way.
    await until(async () => (token = (await backend.acquire('orphan', 600_000)).token) !== undefined)
    expect(await backend.set('orphan', bytes('x'), { token: `${token}` })).toBe('stored')
  })

  it('killed and restarted: it is found again, empty', async () => {
    const { server, backend } = await start()
    await server.kill('SIGKILL')
    await expect(backend.set('key 1', bytes('x'), {})).rejects.toMatchObject({
      code: expect.stringMatching(/ERR_(UNAVAILABLE|TIMEOUT)/),
    })
    const again = await startMemcached({ port: server.port })
    opened.push({ close: () => again.stop() })
    await until(works(backend))
    const found = await readAll(backend, () => undefined)
    expect(found.answered).toBeGreaterThan(0)
  })

  it('restarted: versions begin again, and the one that a token remembers is another item’s', async () => {
    const server = await startMemcached()
    const backend = memcached({ servers: `127.0.0.1:${server.port}`, timeout: '5s', probe: 50 })
    opened.push({ close: () => server.stop() }, backend)
    const { token } = await backend.acquire('first', 60_000)
    await server.kill('SIGKILL')
    const again = await startMemcached({ port: server.port })
    opened.push({ close: () => again.stop() })
    await until(works(backend))
    const { token: theirs } = await backend.acquire('first', 60_000)
    const [mine, others] = [token, theirs].map((one) => one?.split('~').at(-1))
    expect(mine).toBe(others)
    expect(await backend.set('first', bytes('from before'), { token: token as string })).toBe('lost')
    expect(await backend.set('first', bytes('new'), { token: theirs as string })).toBe('stored')
  })

  it('frozen over a write that is given up: the late write undoes no deletion', async () => {
    const { server, backend, other } = await start(150)
    const patient = memcached({ servers: `127.0.0.1:${server.port}`, timeout: '20s' })
    opened.push(patient)
    for (let i = 0; i < 10; i++) {
      const key = `late ${i}`
      const { token } = await patient.acquire(key, 60_000)
      await server.kill('SIGSTOP')
      const writes = [
        backend.set(key, bytes('old'), { token: token as string }),
        backend.set(`${key} explicitly`, bytes('old'), {}),
        backend.acquire(`${key} leased`, 60_000),
      ]
      for (const write of writes) await expect(write).rejects.toMatchObject({ code: 'ERR_TIMEOUT' })
      await server.kill('SIGCONT')
      await until(works(other))
      await patient.deleteMulti([key, `${key} explicitly`])
      await sleep(20)
      expect(await patient.getMulti([key, `${key} explicitly`])).toEqual([undefined, undefined])
      await until(works(backend))
    }
  })

  it('late: a write that arrives after it was given up undoes no deletion', async () => {
    const { server, backend: other } = await start(10_000)
    let ms = 0
    // Delivers the client's bytes even after the client hung up.
    const slow = createServer((client) => {
      const origin = connect(server.port, '127.0.0.1')
      client.on('error', () => {}).on('data', (chunk) => setTimeout(() => origin.write(chunk), ms))
      origin.on('error', () => {}).on('data', (chunk) => client.destroyed || client.write(chunk))
      opened.push({ close: () => origin.destroy() })
    }).listen(0, '127.0.0.1')
    await once(slow, 'listening')
    const backend = memcached({
      servers: `127.0.0.1:${(slow.address() as AddressInfo).port}`,
      timeout: 500,
      probe: 50,
    })
    opened.push({ close: () => slow.close() }, backend)
    const { token } = await backend.acquire('leased', 60_000)
    ms = 1_200
    for (const write of [
      backend.set('explicitly', bytes('old'), {}),
      backend.set('leased', bytes('old'), { token: token as string }),
    ])
      await expect(write).rejects.toMatchObject({ code: 'ERR_TIMEOUT' })
    await other.deleteMulti(['explicitly', 'leased'])
    await sleep(2_000)
    expect(await other.getMulti(['explicitly', 'leased'])).toEqual([undefined, undefined])
  })

  it.each([
    ['another number', (reply: Buffer) => reply.writeUInt32BE((reply.readUInt32BE(12) + 1) >>> 0, 12)],
    ['another command', (reply: Buffer) => reply.writeUInt8(OP.add, 1)],
  ])('answering under %s: is not believed', async (_, spoil) => {
    const liar = createServer((socket) => {
      socket
        .on('error', () => {})
        .on('data', (request) => {
          const value = request[1] === OP.get ? Buffer.from('something') : Buffer.alloc(0)
          const reply = Buffer.concat([Buffer.from(request.subarray(0, 24)), value])
          reply[0] = 0x81
          reply.fill(0, 2, 12).writeUInt32BE(value.length, 8)
          if (request[1] === OP.get) spoil(reply)
          socket.write(reply)
        })
    }).listen(0, '127.0.0.1')
    await once(liar, 'listening')
    const backend = memcached({ servers: `127.0.0.1:${(liar.address() as AddressInfo).port}`, timeout: 500 })
    opened.push(backend, { close: () => liar.close() })
    await expect(backend.get('key')).rejects.toMatchObject({
      code: 'ERR_UNAVAILABLE',
      message: expect.stringMatching(/a reply to another command/),
    })
  })

  it('never there: fails at once with the error of the system', async () => {
    const { server, backend } = await start()
    await server.kill('SIGKILL')
    const fresh = memcached(`127.0.0.1:${server.port}`)
    opened.push(fresh)
    await expect(fresh.get('x')).rejects.toMatchObject({
      code: 'ERR_UNAVAILABLE',
      message: expect.stringMatching(/ECONNREFUSED/),
    })
    await expect(fresh.get('x')).rejects.toMatchObject({ message: expect.stringMatching(/being probed/) })
    await until(async () => !(await works(backend)()))
  })

  it('speaking text only: the error names the expected protocol', async () => {
    const server = await startMemcached({ args: ['-B', 'ascii'] })
    const backend = memcached({ servers: `127.0.0.1:${server.port}`, timeout: 300 })
    opened.push({ close: () => server.stop() }, backend)
    await expect(backend.get('x')).rejects.toMatchObject({
      code: expect.stringMatching(/ERR_(UNAVAILABLE|TIMEOUT)/),
    })
  })

  it('without versions: is not trusted with a lease', async () => {
    const server = await startMemcached({ args: ['-C'] })
    const backend = memcached(`127.0.0.1:${server.port}`)
    opened.push({ close: () => server.stop() }, backend)
    for (const work of [backend.acquire('key', 1_000), backend.set('key', bytes('value'), {})])
      await expect(work).rejects.toMatchObject({
        code: 'ERR_UNSUPPORTED',
        message: expect.stringMatching(/without `-C`/),
      })
    expect(await backend.get('key')).toBeUndefined()
  })

  it('being something else: the error names the expected protocol', async () => {
    const web = createServer((socket) => {
      socket.on('error', () => {})
      socket.end('HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n')
    }).listen(0, '127.0.0.1')
    await once(web, 'listening')
    const backend = memcached(`127.0.0.1:${(web.address() as AddressInfo).port}`)
    opened.push(backend, { close: () => web.close() })
    await expect(backend.get('x')).rejects.toMatchObject({
      code: 'ERR_UNAVAILABLE',
      message: expect.stringMatching(/binary protocol/),
    })
  })

  it('short of memory: evicted leases and entries are misses, the lost lease refuses the fill', async () => {
    const server = await startMemcached({ args: ['-m', '2'] })
    const backend = memcached(`127.0.0.1:${server.port}`)
    opened.push({ close: () => server.stop() }, backend)
    const { token } = await backend.acquire('evicted', 60_000)
    for (let i = 0; i < 40_000; i += 500)
      await Promise.all(
        Array.from({ length: 500 }, (_, j) => backend.acquire(`filler ${i + j}`, 60_000)),
      ).catch((error: unknown) => expect(error).toMatchObject({ code: 'ERR_BACKEND' }))
    expect(await say(server.port, 'mg evicted')).toBe('EN')
    expect(await backend.set('evicted', bytes('late'), { token: token as string })).toBe('lost')
    expect(await backend.get('evicted')).toBeUndefined()
  })
})

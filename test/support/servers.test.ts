import { once } from 'node:events'
import { existsSync } from 'node:fs'
import { connect } from 'node:net'
import { afterEach, describe, expect, inject, it } from 'vitest'
import { type FaultProxy, faultProxy } from './faultproxy.js'
import { type Server, type ServerOptions, startMemcached, startRedis } from './servers.js'

const servers = inject('servers')

describe.skipIf(servers.redis === null)('the servers that the tests stand on', () => {
  const open: { stop(): Promise<void> }[] = []
  afterEach(async () => {
    await Promise.all(open.splice(0).map((server) => server.stop()))
  })

  const redis = async (options?: ServerOptions): Promise<Server> => {
    const server = await startRedis(options)
    open.push(server)
    return server
  }

  it('start apart from each other, and answer', async () => {
    const [first, second, third] = await Promise.all([redis(), redis(), startMemcached()])
    open.push(third)
    expect(new Set([first.port, second.port, third.port]).size).toBe(3)
    expect(await ask(first.port, 'PING\r\n')).toBe('+PONG\r\n')
    expect(await ask(third.port, 'version\r\n')).toMatch(/^VERSION /)
  })

  it('freeze, go on, die, and come back where they were', async () => {
    const server = await redis()
    await server.kill('SIGSTOP')
    expect(await ask(server.port, 'PING\r\n', 100)).toBe('silence')
    await server.kill('SIGCONT')
    expect(await ask(server.port, 'PING\r\n')).toBe('+PONG\r\n')
    await server.kill('SIGKILL')
    expect(await ask(server.port, 'PING\r\n')).toBe('ECONNREFUSED')
    const back = await redis({ port: server.port })
    expect(await ask(back.port, 'PING\r\n')).toBe('+PONG\r\n')
  })

  it('stop even when frozen, and leave no process behind', async () => {
    const server = await redis()
    await server.kill('SIGSTOP')
    await server.stop()
    await server.stop()
    expect(existsSync(`/proc/${server.pid}`)).toBe(false)
  })

  it('say why they do not start', async () => {
    await expect(startRedis({ args: ['--no-such-setting', 'x'] })).rejects.toThrow(/no-such-setting/)
  })

  describe('behind a faulty network', () => {
    const behind = async (): Promise<FaultProxy> => {
      const proxy = await faultProxy(await redis())
      open.push({ stop: () => proxy.close() })
      return proxy
    }

    it('answer through it', async () => {
      expect(await ask((await behind()).port, 'PING\r\n')).toBe('+PONG\r\n')
    })

    it.each([
      [{ kind: 'blackhole' }, 'silence'],
      [{ kind: 'cut', afterBytes: 3 }, '+PO then ECONNRESET'],
      [{ kind: 'fin' }, 'end'],
      [{ kind: 'rst' }, 'ECONNRESET'],
      [{ kind: 'refuse' }, 'ECONNRESET'],
    ] as const)('%o', async (fault, outcome) => {
      const proxy = await behind()
      proxy.set(fault)
      expect(await ask(proxy.port, 'PING\r\n', 200)).toBe(outcome)
      proxy.set({ kind: 'none' })
      expect(await ask(proxy.port, 'PING\r\n')).toBe('+PONG\r\n')
    })

    it('answer late', async () => {
      const proxy = await behind()
      proxy.set({ kind: 'latency', ms: 50 })
      const start = performance.now()
      expect(await ask(proxy.port, 'PING\r\n')).toBe('+PONG\r\n')
      expect(performance.now() - start).toBeGreaterThan(95)
    })
  })
})

/** The first reply, and how the connection ended if it ended. */
async function ask(port: number, question: string, patience = 1_000): Promise<string> {
  const socket = connect(port, '127.0.0.1').setTimeout(patience)
  let reply = ''
  socket.on('data', (chunk) => {
    reply += chunk.toString('latin1')
    if (reply.endsWith('\r\n')) socket.destroy()
  })
  let end = 'end'
  socket.once('error', (error: NodeJS.ErrnoException) => (end = error.code ?? error.message))
  socket.once('timeout', () => {
    end = 'silence'
    socket.destroy()
  })
  socket.write(question)
  await once(socket, 'close').catch(() => undefined)
  if (reply.endsWith('\r\n')) return reply
  return reply === '' ? end : `${reply} then ${end}`
}

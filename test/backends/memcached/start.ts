import { once } from 'node:events'
import { connect } from 'node:net'
import { afterAll, beforeAll, describe, inject } from 'vitest'
import { memcached } from '../../../backends/memcached/index.js'
import type { MemcachedOptions } from '../../../backends/memcached/options.js'
import type { Backend, Bytes } from '../../../src/index.js'
import { type Server, startMemcached } from '../../support/servers.js'

export interface Bench {
  readonly server: Server
  readonly address: string
  /** Another backend over the same server, closed at the end. */
  open(options?: Partial<MemcachedOptions>): Backend<Bytes>
}

/** Tests against a real memcached of their own; reported as skipped when servers were opted out of. */
export function withMemcached(subject: string, tests: (bench: () => Bench) => void): void {
  describe.skipIf(inject('servers').memcached === null)(subject, () => {
    let bench: Bench
    const opened: Backend<Bytes>[] = []
    beforeAll(async () => {
      const server = await startMemcached()
      const address = `127.0.0.1:${server.port}`
      bench = {
        server,
        address,
        open(options = {}) {
          // Longer than by default: a test that is not about time must not fail on a busy machine.
          const backend = memcached({ servers: address, timeout: '20s', ...options })
          opened.push(backend)
          return backend
        },
      }
    })
    afterAll(async () => {
      for (const backend of opened) await backend.close()
      await bench.server.stop()
    })
    tests(() => bench)
  })
}

/** Says something to memcached in its text protocol and answers the first reply. */
export async function say(port: number, command: string): Promise<string> {
  const socket = connect(port, '127.0.0.1')
  socket.write(`${command}\r\n`)
  const [reply] = (await once(socket, 'data')) as [Buffer]
  socket.destroy()
  return reply.toString('latin1').trim()
}

export const bytes = (text: string): Bytes => Buffer.from(text)
export const text = (value: Bytes | undefined): string | undefined => value && Buffer.from(value).toString()

/** A TCP proxy between a client and a real server, which breaks the connection in the ways that networks do. */
import { once } from 'node:events'
import { type AddressInfo, connect, createServer, type Socket } from 'node:net'
import { sleep } from './waiting.js'

export type Fault =
  | { readonly kind: 'none' }
  /** Every chunk is late by `ms`, plus up to `jitter`; the order is kept. */
  | { readonly kind: 'latency'; readonly ms: number; readonly jitter?: number }
  /** Nothing passes until another fault is set; then all of it does, in order. */
  | { readonly kind: 'hold' }
  /** Requests pass up to the first one with a text, and none after it. Replies pass. */
  | { readonly kind: 'last request'; readonly text: string }
  /** Connections stand, nothing passes. */
  | { readonly kind: 'blackhole' }
  /** The connection is reset after so many more bytes of replies. */
  | { readonly kind: 'cut'; readonly afterBytes: number }
  /** The connection is closed in good order instead of a reply. */
  | { readonly kind: 'fin' }
  /** The connection is reset instead of a reply. */
  | { readonly kind: 'rst' }
  /** New connections are reset; those that stand are left alone. */
  | { readonly kind: 'refuse' }

export interface FaultProxy {
  readonly port: number
  /** The number of connections that `refuse` reset. */
  readonly refused: number
  /** From now on, for connections that stand and for new ones. */
  set(fault: Fault): void
  /** Resets every connection. */
  reset(): void
  close(): Promise<void>
}

/** `resetAndDestroy` says goodbye (FIN) before it resets, and clients may see only that: this is the reset alone. */
const abort = (socket: Socket): void => {
  Object.assign(socket, { resetAndClosing: true }).destroy()
}

export async function faultProxy(upstream: {
  readonly port: number
  readonly host?: string
}): Promise<FaultProxy> {
  let fault: Fault = { kind: 'none' }
  let replied = 0
  let refused = 0
  let isPast = false
  let release = () => {}
  let released = Promise.resolve()
  const clients = new Set<Socket>()
  /** Cut, and about to be reset: a stream that went on after the gap would be one that TCP never delivers. */
  const severed = new WeakSet<Socket>()

  const server = createServer({ pauseOnConnect: true }, (client) => {
    if (fault.kind === 'refuse') {
      refused++
      return abort(client)
    }
    const origin = connect(upstream.port, upstream.host ?? '127.0.0.1')
    clients.add(client)
    const end = () => {
      clients.delete(client)
      client.destroy()
      origin.destroy()
    }
    for (const socket of [client, origin]) socket.once('error', end).once('close', end)
    pump(client, (chunk) => request(origin, chunk))
    pump(origin, (chunk) => reply(client, chunk))
    client.resume()
  })

  const pump = (from: Socket, deliver: (chunk: Buffer) => void) => {
    let last = Promise.resolve()
    from.on('data', (chunk: Buffer) => {
      if (fault.kind === 'blackhole') return
      const late = fault.kind === 'latency' ? fault.ms + Math.random() * (fault.jitter ?? 0) : 0
      last = last.then(async () => {
        if (late > 0) await sleep(late)
        await released
        if (!from.destroyed && fault.kind !== 'blackhole') deliver(chunk)
      })
    })
  }

  const request = (origin: Socket, chunk: Buffer) => {
    if (fault.kind === 'last request') {
      if (isPast) return
      isPast = chunk.includes(fault.text)
    }
    origin.write(chunk)
  }

  const reply = (client: Socket, chunk: Buffer) => {
    if (severed.has(client)) return undefined
    if (fault.kind === 'fin') return client.end()
    if (fault.kind === 'rst') return abort(client)
    if (fault.kind !== 'cut') return client.write(chunk)
    const left = Math.max(0, fault.afterBytes - replied)
    replied += chunk.length
    client.write(chunk.subarray(0, left))
    // A reader that finds the last bytes and the reset together takes it for an orderly end.
    if (chunk.length > left) {
      severed.add(client)
      setTimeout(() => abort(client), 2)
    }
    return undefined
  }

  const reset = () => {
    for (const client of clients) abort(client)
  }

  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  return {
    get refused() {
      return refused
    },
    port: (server.address() as AddressInfo).port,
    set(next) {
      // Bytes swallowed by the blackhole are lost for good, which TCP never does to a connection that lives on.
      if (fault.kind === 'blackhole' && next.kind !== 'blackhole') reset()
      release()
      if (next.kind === 'hold')
        released = new Promise((resolve) => {
          release = resolve
        })
      fault = next
      replied = 0
      isPast = false
    },
    reset,
    async close() {
      reset()
      server.close()
      await once(server, 'close')
    },
  }
}

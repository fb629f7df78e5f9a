import { randomBytes } from 'node:crypto'
import { connect as connectPlain, type Socket } from 'node:net'
import { type ConnectionOptions, connect as connectTls } from 'node:tls'
import { CorralError } from '../../../src/base/errors.js'
import {
  type Command,
  FrameError,
  headLength,
  OP,
  type Reply,
  replyReader,
  STATUS,
  writeHead,
} from './frames.js'

export interface Credentials {
  readonly username: string
  readonly password: string
}

/** A server's place, and how to connect to it. */
export interface Address {
  /** As it was given: names the server in errors and decides which keys it has. */
  readonly name: string
  readonly host: string
  readonly port: number
  /** A Unix socket, instead of host and port. */
  readonly path?: string | undefined
  readonly tls: ConnectionOptions | undefined
  readonly credentials: Credentials | undefined
  /** ms within which every command has its reply, counted from the caller's request. */
  readonly timeout: number
  /** Where the numbering of commands starts; it wraps at 2³². @default random */
  readonly firstOpaque?: number | undefined
}

/** A command on its way, and the caller's promise of its replies. */
export interface Call {
  readonly command: Command
  /** `performance.now()` of the caller's request. */
  readonly at: number
  /** Whether it may be sent again after its connection broke: executing it twice does no harm. */
  repeatable: boolean
  opaque?: number
  resolve(replies: readonly Reply[], connection: string): void
  reject(error: unknown): void
}

export interface Connection {
  /** Different for every connection of every process. */
  readonly id: string
  send(call: Call): void
  close(): void
}

export interface ConnectionEvents {
  ready(): void
  /** Called once, with the error that ended the connection and the calls without a reply. */
  ended(error: CorralError, unanswered: readonly Call[], wasReady: boolean): void
}

/**
 * One connection. Replies come in the order of the commands and carry their number: any other reply ends it, and so does
 * a command without a reply in time, since its late reply could be taken for another command's.
 */
export function openConnection(address: Address, events: ConnectionEvents): Connection {
  return new ServerConnection(address, events)
}

class ServerConnection implements Connection {
  readonly id = randomBytes(8).toString('hex')
  readonly #address: Address
  readonly #events: ConnectionEvents
  readonly #socket: Socket
  readonly #openedAt = performance.now()
  /** In the order in which their replies are due. */
  readonly #sent = fifo()
  /** Given in this turn of the event loop, or before the handshake. */
  #waiting: Call[] = []
  /** The number of the next command. */
  #opaque: number
  #ready = false
  #over = false
  #flushing = false
  /** Runs while a call is open. */
  #watch: NodeJS.Timeout | undefined
  /** Replies so far to the command that is due. */
  #partial: Reply[] = []

  constructor(address: Address, events: ConnectionEvents) {
    this.#address = address
    this.#events = events
    this.#opaque = (address.firstOpaque ?? randomBytes(4).readUInt32BE()) >>> 0
    const socket = openSocket(address)
    this.#socket = socket
    socket.on(address.tls === undefined ? 'connect' : 'secureConnect', () => this.#greet())
    socket.on('data', this.#reader())
    socket.on('error', (error) => this.#fail(error.message || 'connecting failed', error))
    socket.on('close', () => this.#fail('the connection was closed'))
    // Connecting and the handshake have the same time as a command.
    const unreached = setTimeout(() => setImmediate(() => this.#endIfUnreached()), address.timeout).unref()
    socket.once('close', () => clearTimeout(unreached))
  }

  send(call: Call): void {
    this.#waiting.push(call)
    if (this.#watch === undefined) this.#watchOldest()
    if (this.#flushing || !this.#ready) return
    this.#flushing = true
    // After the microtasks of this turn: their commands travel in the same packet.
    process.nextTick(() => this.#flush())
  }

  close(): void {
    this.#end(new CorralError('ERR_CLOSED', 'The memcached backend was closed.'))
  }

  #flush(): void {
    this.#flushing = false
    if (this.#over || !this.#ready || this.#waiting.length === 0) return
    const calls = this.#waiting
    this.#waiting = []
    this.#write(calls)
  }

  #write(calls: readonly Call[]): void {
    const socket = this.#socket
    const batch = Buffer.allocUnsafe(batchLength(calls))
    let from = 0
    let at = 0
    socket.cork()
    for (const call of calls) {
      call.opaque = this.#opaque
      at = writeHead(batch, at, call.command, this.#opaque)
      this.#opaque = (this.#opaque + 1) >>> 0
      this.#sent.push(call)
      const { value } = call.command
      if (value === undefined) continue
      if (isCopied(value)) {
        batch.set(value, at)
        at += value.length
      } else {
        socket.write(batch.subarray(from, at))
        socket.write(value)
        from = at
      }
    }
    if (from < at) socket.write(batch.subarray(from, at))
    socket.uncork()
    if (this.#watch === undefined) this.#watchOldest()
  }

  #greet(): void {
    const { credentials } = this.#address
    const resolve = ([reply]: readonly Reply[]): void => {
      if (reply?.status !== STATUS.ok) {
        this.#fail(refusal(reply?.status, credentials !== undefined))
        return
      }
      this.#ready = true
      this.#events.ready()
      this.#flush()
    }
    const command = handshake(credentials)
    this.#write([{ command, at: this.#openedAt, repeatable: false, resolve, reject() {} }])
  }

  #reader(): (chunk: Buffer) => void {
    const read = replyReader((reply) => this.#receive(reply))
    return (chunk) => {
      try {
        read(chunk)
      } catch (error) {
        if (!(error instanceof FrameError)) throw error
        this.#fail(
          `${error.message}. Expected a memcached with the binary protocol, so without \`-B ascii\` and without \`-Y\`.`,
        )
      }
    }
  }

  #receive(reply: Reply): void {
    if (this.#over) return
    const call = this.#sent.peek()
    if (call === undefined || reply.opaque !== call.opaque || reply.op !== call.command.op)
      throw new FrameError('the server sent a reply to another command')
    this.#partial.push(reply)
    // Statistics come in many replies, the last of which is empty.
    if (reply.op === OP.stat && reply.status === STATUS.ok && reply.key !== '') return
    const replies = this.#partial
    this.#partial = []
    this.#sent.shift()
    call.resolve(replies, this.id)
  }

  /** One timer for all calls: it fires when the oldest could be late. */
  #watchOldest(): void {
    this.#watch = undefined
    const left = this.#timeLeft()
    if (left === Number.POSITIVE_INFINITY || this.#over) return
    // If this process was busy for so long, the reply may be here unread: one turn of the network first.
    if (left > 0) this.#watch = setTimeout(() => this.#watchOldest(), Math.ceil(left)).unref()
    else setImmediate(() => this.#endIfLate())
  }

  #endIfLate(): void {
    if (this.#timeLeft() > 0) this.#watchOldest()
    else this.#timeOut('did not reply', 'Check the server, or raise `timeout` of memcached().')
  }

  #endIfUnreached(): void {
    if (this.#ready) return
    this.#timeOut(
      'could not be reached',
      'Is it up, and does it take the binary protocol (no `-B ascii`, no `-Y`)?',
    )
  }

  #timeLeft(): number {
    const oldest = Math.min(this.#sent.peek()?.at ?? Infinity, this.#waiting[0]?.at ?? Infinity)
    return oldest + this.#address.timeout - performance.now()
  }

  #timeOut(problem: string, remedy: string): void {
    const { name, timeout } = this.#address
    this.#end(
      new CorralError('ERR_TIMEOUT', `memcached at ${name} ${problem} within ${timeout} ms. ${remedy}`),
    )
  }

  #fail(message: string, cause?: unknown): void {
    this.#end(new CorralError('ERR_UNAVAILABLE', `memcached at ${this.#address.name}: ${message}`, { cause }))
  }

  #end(error: CorralError): void {
    if (this.#over) return
    this.#over = true
    clearTimeout(this.#watch)
    this.#socket.destroy()
    this.#events.ended(error, [...this.#sent.drain(), ...this.#waiting], this.#ready)
  }
}

function openSocket({ host, port, path, tls }: Address): Socket {
  const where = path === undefined ? { host, port } : { path }
  if (tls === undefined) return connectPlain({ ...where, noDelay: true, keepAlive: true })
  // The name is sent and checked against the certificate; an address cannot be sent.
  return connectTls({ ...(/^[\d.]+$|:/.test(host) ? {} : { servername: host }), ...where, ...tls })
}

/** Larger values are not copied into the batch. */
const MAX_COPIED = 16 * 1024

function isCopied(value: Uint8Array): boolean {
  return value.length <= MAX_COPIED
}

function batchLength(calls: readonly Call[]): number {
  return calls.reduce((length, { command }) => {
    const { value } = command
    return length + headLength(command) + (value !== undefined && isCopied(value) ? value.length : 0)
  }, 0)
}

function handshake(credentials: Credentials | undefined): Command {
  if (credentials === undefined) return { op: OP.noop, key: '' }
  const { username, password } = credentials
  return { op: OP.saslAuth, key: 'PLAIN', value: Buffer.from(`\0${username}\0${password}`) }
}

function refusal(status: number | undefined, authenticated: boolean): string {
  if (!authenticated)
    return status === STATUS.authRequired
      ? 'the server asks for credentials. Give memcached() `username` and `password`.'
      : `the server refused the first command with status ${status}.`
  return status === STATUS.authRequired
    ? 'the server refused `username` and `password`.'
    : `the server does not take credentials (status ${status}). Start it with \`-S\`, or leave them out.`
}

/** A queue without the cost of `Array.shift`. */
function fifo() {
  let calls: (Call | undefined)[] = []
  let first = 0
  return {
    push: (call: Call) => void calls.push(call),
    peek: () => calls[first],
    shift() {
      calls[first++] = undefined
      if (first === calls.length) {
        calls = []
        first = 0
      } else if (first > 4096) {
        calls = calls.slice(first)
        first = 0
      }
    },
    drain(): Call[] {
      const rest = calls.slice(first) as Call[]
      calls = []
      first = 0
      return rest
    },
  }
}

import { randomBytes } from 'node:crypto'
import { connect as connectPlain, type Socket } from 'node:net'
import { type ConnectionOptions, connect as connectTls } from 'node:tls'
import { CorralError } from '../../../src/base/errors.js'
import { Fifo } from '../../../src/base/fifo.js'
import {
  clearTimeout,
  DEADLINE_PARTS,
  nextTick,
  performance,
  setImmediate,
  setTimeout,
} from '../../../src/base/timers.js'
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

/** The replies to a command: several for statistics, one for all others. */
export interface Replies {
  readonly reply: Reply
  readonly replies: readonly Reply[]
  /** The `id` of the connection that they came over. */
  readonly connection: string
}

/** A command on its way, and the caller's promise of its replies. */
export interface Call {
  readonly command: Command
  /** `performance.now()` of the caller's request, and then of its sending. */
  at: number
  /** Whether it may be sent again after its connection broke: executing it twice does no harm. */
  repeatable: boolean
  opaque?: number
  resolve(replies: Replies): void
  reject(error: unknown): void
}

interface ConnectionEvents {
  ready(): void
  /** Called once, with the error that ended the connection and the calls without a reply. */
  ended(error: CorralError, unanswered: readonly Call[], wasReady: boolean): void
}

/** Commands without a reply at one time; later ones wait for their turn. */
const MAX_SENT = 1_000

/** ms by which a timer may be late in a process that is not busy. */
const BUSY = 10

/** Larger values are not copied into the batch. */
const MAX_COPIED = 16 * 1024

/**
 * One connection. Replies come in the order of the commands and carry their number: any other reply ends it, and so does
 * a command without a reply in time, since its late reply could be taken for another command's.
 */
export class Connection {
  /** Different for every connection of every process. */
  readonly id = randomBytes(8).toString('hex')
  readonly #address: Address
  readonly #events: ConnectionEvents
  readonly #socket: Socket
  #openedAt = performance.now()
  /** In the order in which their replies are due; those before `#due` have theirs. */
  #sent: Call[] = []
  #due = 0
  /** Given in this turn of the event loop or before the handshake, or beyond the most that may be sent. */
  readonly #waiting = new Fifo<Call>()
  /** The number of the next command. */
  #opaque: number
  #ready = false
  #over = false
  /** Runs while the handshake or a call is open. */
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
    const read = replyReader((reply) => this.#receive(reply))
    socket.on('data', (chunk) => {
      try {
        read(chunk)
      } catch (error) {
        if (!(error instanceof FrameError)) throw error
        this.#fail(
          `${error.message}. Expected a memcached with the binary protocol, so without \`-B ascii\` and without \`-Y\`.`,
        )
      }
    })
    socket.on('error', (error) => this.#fail(error.message || 'connecting failed', error))
    socket.on('close', () => this.#fail('the connection was closed'))
    this.#watchOldest()
  }

  /** How many commands wait for their turn. */
  get waiting(): number {
    return this.#waiting.size
  }

  send(call: Call): void {
    // After the microtasks of this turn: their commands travel in the same packet.
    this.#waiting.push(call)
    if (this.#waiting.size === 1 && this.#ready) nextTick(() => this.#flush())
    if (this.#watch === undefined) this.#watchOldest()
  }

  close(): void {
    this.#end(new CorralError('ERR_CLOSED', 'The memcached backend was closed.'))
  }

  #flush(): void {
    if (this.#over) return
    const calls: Call[] = []
    const now = performance.now()
    for (let room = MAX_SENT - (this.#sent.length - this.#due); room > 0; room--) {
      const call = this.#waiting.shift()
      if (call === undefined) break
      call.at = now
      calls.push(call)
    }
    if (calls.length === 0) return
    this.#write(calls)
    if (this.#watch === undefined) this.#watchOldest()
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
      if (value.length <= MAX_COPIED) {
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
  }

  #greet(): void {
    const { credentials } = this.#address
    const resolve = ({ reply }: Replies): void => {
      if (reply.status !== STATUS.ok) return void this.#fail(refusal(reply.status, credentials !== undefined))
      this.#ready = true
      this.#events.ready()
      this.#flush()
    }
    const command = handshake(credentials)
    this.#write([{ command, at: this.#openedAt, repeatable: false, resolve, reject() {} }])
  }

  #receive(reply: Reply): void {
    if (this.#over) return
    const call = this.#sent[this.#due]
    if (call === undefined || reply.opaque !== call.opaque || reply.op !== call.command.op)
      throw new FrameError('the server sent a reply to another command')
    this.#partial.push(reply)
    // Statistics come in many replies, the last of which is empty.
    if (reply.op === OP.stat && reply.status === STATUS.ok && reply.key !== '') return
    const replies = this.#partial
    this.#partial = []
    // Half of the list at a time, which costs less than `shift` for each call.
    if (++this.#due * 2 >= this.#sent.length) {
      this.#sent = this.#sent.slice(this.#due)
      this.#due = 0
    }
    call.resolve({ reply: replies[0] ?? reply, replies, connection: this.id })
    // Half of the room at a time, so that they still travel together.
    const isHalfEmpty = (this.#sent.length - this.#due) * 2 < MAX_SENT
    if (isHalfEmpty && this.#waiting.size > 0 && this.#ready) this.#flush()
  }

  /** One timer for all calls: it fires when the oldest could be late. */
  #watchOldest(): void {
    this.#watch = undefined
    const left = this.#timeLeft()
    if (left === Number.POSITIVE_INFINITY || this.#over) return
    // If this process was busy for so long, the reply may be here unread: one turn of the network first.
    const part = Math.ceil(Math.min(left, this.#address.timeout / DEADLINE_PARTS))
    const due = performance.now() + part
    if (left > 0)
      this.#watch = setTimeout(() => {
        this.#forgive(performance.now() - due)
        this.#watchOldest()
      }, part).unref()
    else setImmediate(() => this.#endIfLate())
  }

  /** The timer was late by the time for which this process did other work, and sent and received nothing. */
  #forgive(busy: number): void {
    if (busy <= BUSY) return
    this.#openedAt += busy
    for (const call of this.#sent) call.at += busy
  }

  /** Connecting and the handshake have the same time as a command. */
  #timeLeft(): number {
    const opened = this.#ready ? Infinity : this.#openedAt
    // Those that wait have the replies of the others to wait for, or are sent in this turn.
    const oldest = Math.min(opened, this.#sent[this.#due]?.at ?? Infinity)
    return oldest + this.#address.timeout - performance.now()
  }

  #endIfLate(): void {
    if (this.#timeLeft() > 0) return void this.#watchOldest()
    const { name, timeout } = this.#address
    const [problem, remedy] = this.#ready
      ? ['did not reply', 'Check the server, or raise `timeout` of memcached().']
      : ['could not be reached', 'Is it up, and does it take the binary protocol (no `-B ascii`, no `-Y`)?']
    const message = `memcached at ${name} ${problem} within ${timeout} ms. ${remedy}`
    this.#end(new CorralError('ERR_TIMEOUT', message))
  }

  #fail(message: string, cause?: unknown): void {
    this.#end(new CorralError('ERR_UNAVAILABLE', `memcached at ${this.#address.name}: ${message}`, { cause }))
  }

  #end(error: CorralError): void {
    if (this.#over) return
    this.#over = true
    clearTimeout(this.#watch)
    this.#socket.destroy()
    this.#events.ended(error, [...this.#sent.slice(this.#due), ...this.#waiting.all()], this.#ready)
  }
}

function openSocket({ host, port, path, tls }: Address): Socket {
  const where = path === undefined ? { host, port } : { path }
  if (tls === undefined) return connectPlain({ ...where, noDelay: true, keepAlive: true })
  // The name is sent and checked against the certificate; an address cannot be sent.
  return connectTls({ ...(/^[\d.]+$|:/.test(host) ? {} : { servername: host }), ...where, ...tls })
}

function batchLength(calls: readonly Call[]): number {
  return calls.reduce((length, { command }) => {
    const size = command.value?.length ?? 0
    return length + headLength(command) + (size <= MAX_COPIED ? size : 0)
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

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

/** Where a server is and how it is talked to. */
export interface Address {
  /** As it was given: names the server in errors and decides which keys are its. */
  readonly name: string
  readonly host: string
  readonly port: number
  /** A Unix socket, instead of host and port. */
  readonly path?: string | undefined
  readonly tls: ConnectionOptions | undefined
  readonly credentials: Credentials | undefined
  /** ms within which every command is answered, counted from when it was given. */
  readonly timeout: number
  /** Where the numbering of commands starts; it wraps at 2³². @default random */
  readonly firstOpaque?: number | undefined
}

/** A command on its way, and who waits for its answer. */
export interface Call {
  readonly command: Command
  /** `performance.now()` when it was given. */
  readonly at: number
  /** Whether it may be sent again when its connection broke: doing it twice does no harm. */
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

/** Told once: what ended the connection, and the calls that got no answer. */
export type Ended = (error: CorralError, unanswered: readonly Call[], wasReady: boolean) => void

/** Larger values are not copied into the batch that is written. */
const COPIED = 16 * 1024

/**
 * One connection. Replies come in the order of the commands and carry their number: anything else ends it, and so does
 * a command that is not answered in time, since its reply could only be taken for another one's.
 */
export function openConnection(address: Address, ready: () => void, ended: Ended): Connection {
  const id = randomBytes(8).toString('hex')
  const { name, timeout } = address
  const socket = dial(address)
  const sent = fifo()
  let waiting: Call[] = []
  let opaque = (address.firstOpaque ?? randomBytes(4).readUInt32BE()) >>> 0
  let isReady = false
  let over = false
  let flushing = false
  let watch: NodeJS.Timeout | undefined
  let partial: Reply[] = []

  const end = (error: CorralError) => {
    if (over) return
    over = true
    clearTimeout(watch)
    socket.destroy()
    ended(error, [...sent.drain(), ...waiting], isReady)
  }
  const broken = (message: string, cause?: unknown) =>
    end(new CorralError('ERR_UNAVAILABLE', `memcached at ${name}: ${message}`, { cause }))

  const oldest = () => Math.min(sent.peek()?.at ?? Infinity, waiting[0]?.at ?? Infinity)
  /** One timer for all: it looks at the oldest command, and comes again when that could be late. */
  const watchOldest = () => {
    watch = undefined
    if (oldest() === Infinity || over) return
    const left = oldest() + timeout - performance.now()
    // If this process itself was busy for so long, the answer may lie here unread: one look at the network first.
    if (left > 0) watch = setTimeout(watchOldest, Math.ceil(left)).unref()
    else setImmediate(endIfLate)
  }
  const endIfLate = () => {
    if (oldest() + timeout > performance.now()) return watchOldest()
    end(
      new CorralError(
        'ERR_TIMEOUT',
        `memcached at ${name} did not answer within ${timeout} ms. Check the server, or raise \`timeout\` of memcached().`,
      ),
    )
  }
  const flush = () => {
    flushing = false
    if (over || !isReady || waiting.length === 0) return
    const calls = waiting
    waiting = []
    write(calls)
  }
  const write = (calls: readonly Call[]) => {
    let length = 0
    for (const { command } of calls) length += headLength(command) + copied(command)
    const batch = Buffer.allocUnsafe(length)
    let from = 0
    let at = 0
    socket.cork()
    for (const call of calls) {
      const { command } = call
      call.opaque = opaque
      at = writeHead(batch, at, command, opaque)
      opaque = (opaque + 1) >>> 0
      sent.push(call)
      const { value } = command
      if (value === undefined) continue
      if (value.length <= COPIED) {
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
    if (watch === undefined) watchOldest()
  }
  const take = (reply: Reply) => {
    if (over) return
    const call = sent.peek()
    if (call === undefined || reply.opaque !== call.opaque || reply.op !== call.command.op)
      throw new FrameError('the server answered what was not asked')
    partial.push(reply)
    // Statistics come in many replies, the last of which is empty.
    if (reply.op === OP.stat && reply.status === STATUS.ok && reply.key !== '') return
    const replies = partial
    partial = []
    sent.shift()
    call.resolve(replies, id)
  }
  const greet = () => {
    const { credentials } = address
    const command: Command =
      credentials === undefined
        ? { op: OP.noop, key: '' }
        : {
            op: OP.saslAuth,
            key: 'PLAIN',
            value: Buffer.from(`\0${credentials.username}\0${credentials.password}`),
          }
    write([
      {
        command,
        at: started,
        repeatable: false,
        resolve([reply]) {
          if (reply?.status !== STATUS.ok) return broken(refusal(reply?.status, credentials !== undefined))
          isReady = true
          ready()
          flush()
        },
        reject() {},
      },
    ])
  }

  const started = performance.now()
  const read = replyReader(take)
  socket.on(address.tls === undefined ? 'connect' : 'secureConnect', greet)
  socket.on('data', (chunk: Buffer) => {
    try {
      read(chunk)
    } catch (error) {
      if (!(error instanceof FrameError)) throw error
      broken(
        `${error.message}. Expected a memcached with the binary protocol, so without \`-B ascii\` and without \`-Y\`.`,
      )
    }
  })
  socket.on('error', (error) => broken(error.message || 'connecting failed', error))
  socket.on('close', () => broken('the connection was closed'))
  // Connecting and greeting have the same time as a command.
  const unreached = () => {
    if (!isReady)
      end(
        new CorralError(
          'ERR_TIMEOUT',
          `memcached at ${name} could not be reached within ${timeout} ms. Is it up, and does it take the binary protocol (no \`-B ascii\`, no \`-Y\`)?`,
        ),
      )
  }
  const impatient = setTimeout(() => setImmediate(unreached), timeout).unref()
  socket.once('close', () => clearTimeout(impatient))

  return {
    id,
    send(call) {
      waiting.push(call)
      if (watch === undefined) watchOldest()
      if (flushing || !isReady) return
      flushing = true
      // After the microtasks of this turn: what they ask for travels in the same packet.
      process.nextTick(flush)
    },
    close: () => end(new CorralError('ERR_CLOSED', 'The memcached backend was closed.')),
  }
}

function dial({ host, port, path, tls }: Address): Socket {
  const where = path === undefined ? { host, port } : { path }
  if (tls === undefined) return connectPlain({ ...where, noDelay: true, keepAlive: true })
  // The name is checked against the certificate; an address has none to send along.
  return connectTls({ ...(/^[\d.]+$|:/.test(host) ? {} : { servername: host }), ...where, ...tls })
}

function copied({ value }: Command): number {
  return value === undefined || value.length > COPIED ? 0 : value.length
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

/** A queue whose every step costs the same. */
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

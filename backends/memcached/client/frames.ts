/** The frames of memcached's binary protocol, which need no connection. */

/** The commands in use. */
export const OP = {
  get: 0x00,
  set: 0x01,
  add: 0x02,
  delete: 0x04,
  increment: 0x05,
  noop: 0x0a,
  stat: 0x10,
  saslAuth: 0x21,
} as const

/** The statuses that are handled; any other one is an error of the server. */
export const STATUS = {
  ok: 0x0000,
  notFound: 0x0001,
  exists: 0x0002,
  tooLarge: 0x0003,
  notStored: 0x0005,
  authRequired: 0x0020,
} as const

const HEADER = 24
const REQUEST = 0x80
const RESPONSE = 0x81

/** No item of memcached can be larger (`-I` takes at most 1 GiB): a longer frame is not one. */
const LONGEST = 2 ** 30 + 2 ** 16

export interface Command {
  readonly op: number
  /** In its encoded form: at most 250 bytes of printable ASCII. */
  readonly key: string
  readonly extras?: Buffer
  readonly value?: Uint8Array
  readonly cas?: bigint
}

export interface Reply {
  readonly op: number
  readonly status: number
  readonly opaque: number
  readonly cas: bigint
  readonly key: string
  readonly value: Buffer
}

/** How many bytes the command takes in front of its value. */
export function headLength({ key, extras }: Command): number {
  return HEADER + (extras?.length ?? 0) + key.length
}

/** Writes the command without its value at `at`; returns the position after it. */
export function writeHead(into: Buffer, at: number, command: Command, opaque: number): number {
  const { op, key, extras, value, cas = 0n } = command
  const extra = extras?.length ?? 0
  into.fill(0, at, at + HEADER)
  into[at] = REQUEST
  into[at + 1] = op
  into.writeUInt16BE(key.length, at + 2)
  into[at + 4] = extra
  into.writeUInt32BE(extra + key.length + (value?.length ?? 0), at + 8)
  into.writeUInt32BE(opaque, at + 12)
  if (cas !== 0n) into.writeBigUInt64BE(cas, at + 16)
  if (extras !== undefined) into.set(extras, at + HEADER)
  return at + HEADER + extra + into.write(key, at + HEADER + extra, 'latin1')
}

/** The stream is not memcached's, or has lost its place. */
export class FrameError extends Error {}

/**
 * Cuts a stream into replies. One for each connection: its remaining bytes are dropped with it, so that no reply of a later
 * connection is ever read from them.
 * @throws FrameError on bytes that are no reply; the connection is of no use then.
 */
export function replyReader(take: (reply: Reply) => void): (chunk: Buffer) => void {
  let parts: Buffer[] = []
  let have = 0
  let need = HEADER
  return (chunk) => {
    parts.push(chunk)
    have += chunk.length
    if (have < need) return
    const bytes = parts.length === 1 ? chunk : Buffer.concat(parts, have)
    let at = 0
    need = HEADER
    while (bytes.length - at >= HEADER) {
      const body = checkHead(bytes, at)
      if (bytes.length - at < HEADER + body) {
        need = HEADER + body
        break
      }
      take(readReply(bytes, at, body))
      at += HEADER + body
    }
    have = bytes.length - at
    parts = have === 0 ? [] : [bytes.subarray(at)]
  }
}

function checkHead(bytes: Buffer, at: number): number {
  const body = bytes.readUInt32BE(at + 8)
  const inner = bytes.readUInt16BE(at + 2) + (bytes[at + 4] as number)
  if (bytes[at] !== RESPONSE || bytes[at + 5] !== 0 || body > LONGEST || inner > body)
    throw new FrameError(
      `the server's reply is not of memcached's binary protocol (its first bytes: ${bytes.subarray(at, at + 8).toString('hex')})`,
    )
  return body
}

function readReply(bytes: Buffer, at: number, body: number): Reply {
  const keyAt = at + HEADER + (bytes[at + 4] as number)
  const keyLength = bytes.readUInt16BE(at + 2)
  const valueAt = keyAt + keyLength
  return {
    op: bytes[at + 1] as number,
    status: bytes.readUInt16BE(at + 6),
    opaque: bytes.readUInt32BE(at + 12),
    cas: bytes.readBigUInt64BE(at + 16),
    key: keyLength === 0 ? '' : bytes.toString('latin1', keyAt, valueAt),
    // A view of the chunk: copy it to keep it.
    value: bytes.subarray(valueAt, at + HEADER + body),
  }
}

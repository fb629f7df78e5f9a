import { CorralError } from '../../../src/base/errors.js'
import { OP, type Reply, STATUS } from './frames.js'
import { ring } from './ring.js'
import type { Server } from './server.js'

/**
 * The version of an item. memcached counts versions from the beginning after a restart, so one is compared only over the
 * connection that it was read from: while that stands, the server has not restarted.
 */
export interface Version {
  readonly connection: string
  readonly cas: bigint
}

export interface Item {
  /** A view of the received bytes: copy it to keep it. */
  readonly value: Buffer
  readonly version: Version
}

/** The condition of a write: the item is still of this version, or there is none. */
export type Guard = Version | 'absent'

/** The commands in use. Keys are in their encoded form; `seconds` as memcached takes them, 0 for ever. */
export interface Commands {
  get(key: string): Promise<Item | undefined>
  /** Returns the new version; `undefined` if the guard did not hold. */
  set(key: string, value: Uint8Array, seconds: number, guard?: Guard): Promise<Version | undefined>
  /** False: the guard did not hold. */
  delete(key: string, guard?: Version): Promise<boolean>
  /** Adds to a counter, or starts it; returns the sum. @param by - default 1 */
  increment(key: string, start: bigint, by?: bigint): Promise<bigint>
  /** Rejects unless every server replies. */
  ping(): Promise<void>
  close(): void
  /** The server of a key. Absent: there is one. */
  placeOf?(key: string): object
}

/** A key that no entry has: theirs are encoded. */
const PROBE = '~ping'

/** So often a counter may be started, and lost again, under a command that starts it too. */
const STARTS = 8

/** The statuses of a write whose guard did not hold. */
const UNGUARDED: readonly number[] = [STATUS.exists, STATUS.notFound, STATUS.notStored]

/** Sends commands to the servers that have their keys. */
export function commandsOf(servers: readonly Server[]): Commands {
  const serverOf = ring(servers)
  return {
    placeOf: serverOf,
    async get(key) {
      const { reply, connection } = await serverOf(key).call({ op: OP.get, key }, true)
      if (reply.status === STATUS.notFound) return undefined
      if (reply.status !== STATUS.ok) throw unexpected('get', reply)
      return { value: reply.value, version: { connection, cas: reply.cas } }
    },
    async set(key, value, seconds, guard) {
      const server = serverOf(key)
      if (isOutdated(server, guard)) return undefined
      const op = guard === 'absent' ? OP.add : OP.set
      const extras = Buffer.alloc(8)
      extras.writeUInt32BE(seconds, 4)
      const command = { op, key, extras, value, cas: casOf(server, guard) }
      // Never repeated: whether it was executed cannot be known, and it must not undo a later write.
      const { reply, connection } = await server.call(command, false)
      if (UNGUARDED.includes(reply.status)) return undefined
      if (reply.status === STATUS.tooLarge) throw await tooLarge(server, value.length)
      if (reply.status !== STATUS.ok) throw unexpected('set', reply)
      if (reply.cas === 0n) throw uncounted(server)
      return { connection, cas: reply.cas }
    },
    async delete(key, guard) {
      const server = serverOf(key)
      if (isOutdated(server, guard)) return false
      const command = { op: OP.delete, key, cas: casOf(server, guard) }
      const { reply } = await server.call(command, guard === undefined)
      if (reply.status === STATUS.ok) return true
      if (UNGUARDED.includes(reply.status)) return guard === undefined
      throw unexpected('delete', reply)
    },
    async increment(key, start, by = 1n) {
      const extras = Buffer.alloc(20)
      extras.writeBigUInt64BE(by, 0)
      extras.writeBigUInt64BE(start, 8)
      for (let left = STARTS; ; left--) {
        const { reply } = await serverOf(key).call({ op: OP.increment, key, extras }, false)
        // Another connection started it between memcached's read and its own start: nothing was added, and now it exists.
        if (reply.status === STATUS.notStored && left > 0) continue
        if (reply.status !== STATUS.ok || reply.value.length !== 8) throw unexpected('increment', reply)
        return reply.value.readBigUInt64BE()
      }
    },
    async ping() {
      const replies = servers.map((server) => server.call({ op: OP.get, key: PROBE }, true))
      for (const { reply } of await Promise.all(replies))
        if (reply.status !== STATUS.notFound && reply.status !== STATUS.ok) throw unexpected('get', reply)
    },
    close() {
      for (const server of servers) server.close()
    },
  }
}

/** A guard of an earlier connection proves nothing any more. Sent commands stay on the connection that they chose. */
function isOutdated(server: Server, guard: Guard | undefined): boolean {
  return typeof guard === 'object' && !server.isOn(guard.connection)
}

/** The version to send. Zero compares nothing, so a server without versions would let every write through. */
function casOf(server: Server, guard: Guard | undefined): bigint {
  if (guard === undefined || guard === 'absent') return 0n
  if (guard.cas === 0n) throw uncounted(server)
  return guard.cas
}

function uncounted({ name }: Server): CorralError {
  return new CorralError(
    'ERR_UNSUPPORTED',
    `Expected memcached at ${name} to count the versions of its items, by which leases and fills are fenced, got none. Start it without \`-C\`.`,
  )
}

/** The message names the server's limit if the server returns it. */
async function tooLarge(server: Server, bytes: number): Promise<CorralError> {
  const statistics = await server.call({ op: OP.stat, key: 'settings' }, true).catch(() => undefined)
  const size = statistics?.replies.find(({ key }) => key === 'item_size_max')?.value
  const limit = size ? `${size} bytes` : 'unknown (1 MiB unless the server was started with `-I`)'
  return new CorralError(
    'ERR_VALUE_TOO_LARGE',
    `Expected a value that fits into an item of memcached at ${server.name}, whose limit is ${limit} for key, value and memcached's own header together, ` +
      `got ${bytes} bytes. Compress values, cache smaller ones, or start memcached with a larger \`-I\`.`,
  )
}

function unexpected(command: string, { status, value }: Reply): CorralError {
  return new CorralError(
    'ERR_BACKEND',
    `memcached refused a ${command} with status 0x${status.toString(16).padStart(4, '0')}: ${value.toString('latin1') || 'no reason given'}`,
  )
}

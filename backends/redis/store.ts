import type { RedisConnection } from './client/connection.js'
import type { ScriptRunner } from './client/script-runner.js'
import type { NearJournal } from './near/journal.js'
import type { Reads } from './reads/read-batcher.js'

/** The way to the server, and the settings, that entries, leases and the ledger share. */
export interface RedisStore {
  readonly connection: RedisConnection
  readonly reads: Reads
  readonly runner: ScriptRunner
  /** The channel on which waiters of this database are woken. */
  readonly channel: string
  /** The prefix that the client puts before every key. */
  readonly prefix: string
  /** Whether the keys of an entry and of a ledger may lie on different nodes. */
  readonly clustered: boolean
  /** ms that a stamp lives after it was last needed. */
  readonly stampLifetime: number
  /** ms for which a transaction marks names that it is about to change; 0: it does not. */
  readonly pendingFor: number
  readonly maxValueBytes: number
  /** The record of changes for near caches. */
  readonly journal: NearJournal
}

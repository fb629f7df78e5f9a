import type { Database } from 'lmdb'
import { report } from '../../../src/base/diagnostics.js'
import { CorralError } from '../../../src/base/errors.js'
import { isBookkeeping, type TreeKey } from '../format.js'
import { failure, named } from './errors.js'

/** One of our two trees: entries with their leases and orders, or the bookkeeping of invalidations. */
export type Tree = Database<Buffer, TreeKey>

/** A record as a snapshot showed it; a write can be made to depend on its still being so. */
export interface Seen {
  readonly key: TreeKey
  /** `undefined`: there was no record. */
  readonly version: number | undefined
}

/** One change of the tree: a record to put, or none to remove it. */
export type Change = readonly [key: TreeKey, record?: Buffer]

/** What a record looked like; `bytes` is lmdb's own memory and good until the next read only, `size` its true length. */
export type Look = (bytes: Buffer, size: number) => void

export interface Store {
  /** Whether the backend was closed. */
  readonly closed: boolean
  /**
   * Reads what is committed now, by whichever process. All of `reads` sees one snapshot, which is gone afterwards: a
   * process that is frozen later must not keep old pages alive.
   */
  snapshot<R>(reads: (look: (key: TreeKey, found?: Look) => Seen) => R): R
  /** `snapshot` in pieces, without its closures, for the one read that is worth it. */
  beginRead(): void
  /** An entry's record in lmdb's own memory: copy what is needed before the next read. Its `length` alone tells its true size. */
  lend(key: TreeKey): Buffer | undefined
  endRead(): void
  /** At most `limit` records of a range, copied. */
  range(start: Buffer, end: Buffer, limit: number): readonly Row[]
  /** Bytes that the pages of both trees hold; pages that are free again count for nothing. */
  size(): { readonly entries: number; readonly bookkeeping: number }
  /**
   * Applies changes if everything is still as it was seen, in one transaction and on a thread that needs nothing from
   * this event loop: LMDB's writer lock is never held across JavaScript. False: something had changed, nothing was done.
   * `durably`: resolves only when the file system has it.
   */
  commit(seen: readonly Seen[], changes: readonly Change[], durably?: boolean): Promise<boolean>
  /** Runs the writes of one subject one after another; each has `timeout` ms from the call on, waiting included. */
  inTurn<R>(subject: string, work: (attempt: Attempt) => Promise<R>): Promise<R>
  /**
   * Ends reading and writing and waits for `release`, but not for ever: after a failed commit, or behind a frozen
   * process, lmdb's own closing never ends.
   */
  close(release: () => Promise<void>): Promise<void>
}

export interface Row {
  readonly key: Buffer
  readonly record: Buffer
}

/** To be called before each try: throws when the operation's time is over, so that nothing is done behind its caller. */
export type Attempt = () => void

/** Reads and conditional writes over our trees in one file. */
export function openStore(entries: Tree, bookkeeping: Tree, timeout: number): Store {
  const treeOf = (key: TreeKey): Tree => (isBookkeeping(key) ? bookkeeping : entries)
  let closed = false
  let pending = 0
  let failed = false
  let lastProgress = 0
  const tails = new Map<string, Promise<unknown>>()

  const open = () => {
    if (closed) throw new CorralError('ERR_CLOSED', 'The lmdb backend was closed.')
  }
  const lend = (key: TreeKey, tree = entries): Buffer | undefined => {
    let bytes: Uint8Array | undefined
    try {
      bytes = tree.getBinaryFast(key)
    } catch (error) {
      throw named(error)
    }
    // A large record comes as a plain view of the mapped file.
    return bytes === undefined || bytes instanceof Buffer
      ? bytes
      : Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length)
  }
  const look = (key: TreeKey, found?: Look): Seen => {
    const bytes = lend(key, treeOf(key))
    if (bytes === undefined) return { key, version: undefined }
    // First of all: `found` may read on, and the bytes change under it.
    const version = bytes.readDoubleLE(0)
    found?.(bytes, bytes.length)
    return { key, version }
  }
  /** A read that somebody else began in this turn of the event loop is older than what we promise. */
  const beginRead = () => {
    open()
    entries.resetReadTxn()
  }
  const endRead = () => {
    if (!closed) entries.resetReadTxn()
  }
  /** A database of the caller's may not tell it commit by commit, and then only now: later it would be another one's. */
  const whenFlushed = (commit: unknown): Promise<unknown> => {
    const { flushed } = commit as { readonly flushed?: Promise<unknown> }
    const done = (flushed ?? entries.flushed).then(nothing)
    // A commit that fails says so itself.
    done.catch(nothing)
    return done
  }
  const send = async (
    seen: readonly Seen[],
    changes: readonly Change[],
    durably: boolean,
  ): Promise<boolean> => {
    const conditions: Promise<boolean>[] = []
    const apply = (): void => {
      // Inside a block lmdb answers for the block, not for each write.
      for (const [key, record] of changes) {
        const tree = treeOf(key)
        void (record === undefined ? tree.remove(key) : tree.put(key, record, version(record)))
      }
    }
    const nest = (depth: number): void => {
      const one = seen[depth]
      if (one === undefined) {
        apply()
        return
      }
      // One condition in another: a failed one voids all below it, and each reports for itself.
      const tree = treeOf(one.key)
      const inner = () => nest(depth + 1)
      conditions.push(
        one.version === undefined
          ? tree.ifNoExists(one.key, inner)
          : tree.ifVersion(one.key, one.version, inner),
      )
    }
    if (seen.length === 0) conditions.push(entries.batch(apply))
    else nest(0)
    const flushed = durably ? whenFlushed(conditions[0]) : undefined
    // lmdb makes one more promise for the turn's batch, which is nobody's, and rejects it when the commit fails.
    setImmediate(() => void entries.committed.then(nothing, nothing))
    const results = await Promise.all(conditions)
    if (!results.every(Boolean)) return false
    await flushed
    return true
  }

  return {
    get closed() {
      return closed
    },
    beginRead,
    lend,
    endRead,
    snapshot(reads) {
      beginRead()
      try {
        return reads(look)
      } finally {
        endRead()
      }
    },
    range(start, end, limit) {
      beginRead()
      try {
        const rows = treeOf(start).getRange({ start, end, limit })
        return [...rows].map(({ key, value }) => ({ key: key as Buffer, record: Buffer.from(value) }))
      } finally {
        endRead()
      }
    },
    size() {
      beginRead()
      try {
        return { entries: treeBytes(entries), bookkeeping: treeBytes(bookkeeping) }
      } finally {
        endRead()
      }
    },
    async commit(seen, changes, durably = false) {
      open()
      if (pending === 0) lastProgress = Date.now()
      // What waits for the lock cannot be called back, so nothing more joins it once its time is over.
      else if (Date.now() - lastProgress > timeout) throw stuck(timeout)
      pending++
      try {
        const done = await send(seen, changes, durably)
        failed = false
        return done
      } catch (error) {
        failed = true
        throw await failure(error)
      } finally {
        pending--
        lastProgress = Date.now()
      }
    },
    inTurn(subject, work) {
      const deadline = Date.now() + timeout
      const attempt = () => {
        if (Date.now() > deadline) throw stuck(timeout)
      }
      const before = tails.get(subject)
      const result = before === undefined ? work(attempt) : before.then(() => work(attempt))
      const tail = result.then(nothing, nothing).then(() => {
        if (tails.get(subject) === tail) tails.delete(subject)
      })
      tails.set(subject, tail)
      return result
    },
    async close(release) {
      closed = true
      try {
        await within(failed ? Math.min(timeout, LAST_WORDS_MS) : timeout, release())
      } catch (error) {
        report('notice', () => ({
          where: 'lmdb',
          message: `the file stays open until the process ends: ${String(error)}`,
        }))
      }
    },
  }
}

function nothing(): void {}

function version(record: Buffer): number {
  // The orders' records have none, and nothing depends on them.
  return record.length < 8 ? 0 : record.readDoubleLE(0)
}

/** ms; a longer delay fires at once. */
const LONGEST_TIMER = 2 ** 31 - 1
/** How long lmdb may take to close what it failed to write. */
const LAST_WORDS_MS = 200

async function within<R>(ms: number, work: Promise<R>): Promise<R> {
  if (ms > LONGEST_TIMER) return work
  let timer: NodeJS.Timeout | undefined
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(stuck(ms)), ms)
  })
  try {
    return await Promise.race([work, late])
  } finally {
    clearTimeout(timer)
  }
}

interface TreeStats {
  readonly pageSize: number
  readonly treeBranchPageCount: number
  readonly treeLeafPageCount: number
  readonly overflowPages: number
}

function treeBytes(tree: Tree): number {
  const { pageSize, treeBranchPageCount, treeLeafPageCount, overflowPages } = tree.getStats() as TreeStats
  return (treeBranchPageCount + treeLeafPageCount + overflowPages) * pageSize
}

function stuck(timeout: number): CorralError {
  return new CorralError(
    'ERR_TIMEOUT',
    `The write lock of the LMDB file was not free within ${timeout} ms. Look for a process that is frozen while it writes; reads go on meanwhile.`,
  )
}

import type { Database } from 'lmdb'
import { report } from '../../../src/base/diagnostics.js'
import { CorralError } from '../../../src/base/errors.js'
import { keyedQueue } from '../../../src/base/keyed-queue.js'
import { performance, setImmediate, withTimeout } from '../../../src/base/timers.js'
import { isBookkeeping, type TreeKey } from '../format.js'
import { commitError, lmdbError } from './errors.js'
import { type FileGate, openGate } from './file-gate.js'

/** One of our two trees: entries with their leases and orders, or the bookkeeping of invalidations. */
export type Tree = Database<Buffer, TreeKey>

/** The version of a record in a snapshot; a commit can depend on it. */
export interface RecordVersion {
  readonly key: TreeKey
  /** `undefined`: there was no record. */
  readonly version: number | undefined
}

/** One change of a tree: a record to put, or none to remove it. */
export type Change = readonly [key: TreeKey, record?: Buffer]

/** Receives a record in lmdb's own memory, valid until the next read. Its `length` alone is its true size. */
export type OnRecord = (bytes: Buffer) => void

/** Reads one record inside a snapshot. */
export type ReadRecord = (key: TreeKey, onRecord?: OnRecord) => RecordVersion

/** The result of a transaction, and the changes that it commits if every condition still holds. */
export interface Plan<R> {
  readonly result: R
  readonly conditions?: readonly RecordVersion[]
  /** Absent: nothing is written. */
  readonly changes?: readonly Change[]
  /** Whether the transaction ends only when the file system has it. @default false */
  readonly durably?: boolean
}

export interface Row {
  readonly key: Buffer
  readonly record: Buffer
}

/** Reads of the two trees. Each sees the commits of every process up to now. */
interface Reader {
  /**
   * Runs `reads` over one snapshot, which is gone afterwards: a process that is frozen later must not keep old pages
   * alive.
   */
  snapshot<R>(reads: (read: ReadRecord) => R): R
  /** `snapshot` in pieces, without its closures, for the one read that is worth it. */
  beginRead(): void
  /** An entry's record in lmdb's own memory: copy it before the next read. Its `length` alone is its true size. */
  readInPlace(key: TreeKey): Buffer | undefined
  endRead(): void
  /** At most `limit` records of a range, copied. */
  range(start: Buffer, end: Buffer, limit: number): readonly Row[]
  /** Bytes of the pages in use by each tree; free pages do not count. */
  size(): { readonly entries: number; readonly bookkeeping: number }
}

export interface Store extends Reader {
  /** Whether the backend was closed. */
  readonly closed: boolean
  /**
   * Applies changes if all conditions hold, in one transaction, on a thread that needs nothing from this event loop:
   * LMDB's writer lock is never held across JavaScript. False: a condition failed, so nothing was done.
   */
  commit(
    conditions: readonly RecordVersion[],
    changes: readonly Change[],
    durably?: boolean,
  ): Promise<boolean>
  /**
   * Plans over a snapshot, commits, and starts over if another writer changed a condition meanwhile. Transactions of one
   * subject run one after another; each has the store's timeout from the call on, waiting included.
   */
  transact<R>(subject: string, plan: (read: ReadRecord) => Plan<R>): Promise<R>
  /**
   * Ends reading and writing and waits for `release` with a deadline: after a failed commit, or behind a frozen process,
   * lmdb's own closing never ends.
   */
  close(release: () => Promise<void>): Promise<void>
}

interface Trees {
  readonly entries: Tree
  readonly bookkeeping: Tree
  closed: boolean
}

/** How long lmdb may take to close a file after a failed commit, in ms. */
const CLOSE_AFTER_FAILURE_MS = 200

/** Reads and conditional writes over our trees in one file. */
export function openStore(
  entries: Tree,
  bookkeeping: Tree,
  timeout: number,
  gate: FileGate = openGate,
): Store {
  const trees: Trees = { entries, bookkeeping, closed: false }
  const inTurn = keyedQueue()
  let pending = 0
  let failed = false
  let lastProgress = 0
  const commitInTurn: Store['commit'] = async (conditions, changes, durably = false) => {
    pending++
    try {
      const done = await send(trees, conditions, changes, durably)
      failed = false
      return done
    } catch (error) {
      failed = true
      throw await commitError(error)
    } finally {
      pending--
      lastProgress = performance.now()
    }
  }
  const store: Store = {
    ...openReader(trees),
    get closed() {
      return trees.closed
    },
    async commit(conditions, changes, durably) {
      expectOpen(trees)
      try {
        const opened = gate.enter()
        if (opened !== undefined) await opened
      } catch (error) {
        throw await commitError(error)
      }
      try {
        expectOpen(trees)
        if (pending === 0) lastProgress = performance.now()
        // A commit behind the lock cannot be called back, so nothing more joins the queue once its time is over.
        else if (performance.now() - lastProgress > timeout) throw lockTimeout(timeout)
        return await commitInTurn(conditions, changes, durably)
      } finally {
        gate.leave()
      }
    },
    async transact(subject, plan) {
      const deadline = performance.now() + timeout
      return inTurn(subject, async () => {
        for (;;) {
          // The caller saw a failure by now, so nothing may be written any more.
          if (performance.now() > deadline) throw lockTimeout(timeout)
          const { result, conditions = [], changes, durably } = store.snapshot(plan)
          if (changes === undefined || (await store.commit(conditions, changes, durably))) return result
        }
      })
    },
    async close(release) {
      trees.closed = true
      const patience = failed ? Math.min(timeout, CLOSE_AFTER_FAILURE_MS) : timeout
      try {
        await withTimeout(release(), patience, () => lockTimeout(patience))
      } catch (error) {
        report('notice', () => ({
          where: 'lmdb',
          message: `the file stays open until the process ends: ${String(error)}`,
        }))
      }
    },
  }
  return store
}

function openReader(trees: Trees): Reader {
  const { entries, bookkeeping } = trees
  const readInPlace = (key: TreeKey, tree = entries): Buffer | undefined => {
    let bytes: Uint8Array | undefined
    try {
      bytes = tree.getBinaryFast(key)
    } catch (error) {
      throw lmdbError(error)
    }
    // A large record comes as a plain view of the mapped file.
    return bytes === undefined || bytes instanceof Buffer
      ? bytes
      : Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length)
  }
  const readRecord: ReadRecord = (key, onRecord) => {
    const bytes = readInPlace(key, treeOf(trees, key))
    if (bytes === undefined) return { key, version: undefined }
    // First of all: `onRecord` may read on, and the bytes change under it.
    const version = bytes.readDoubleLE(0)
    onRecord?.(bytes)
    return { key, version }
  }
  const beginRead = () => {
    expectOpen(trees)
    // A snapshot that the database's owner took earlier in this turn is older than we promise.
    entries.resetReadTxn()
  }
  const endRead = () => {
    if (!trees.closed) entries.resetReadTxn()
  }
  const reading = <R>(work: () => R): R => {
    beginRead()
    try {
      return work()
    } finally {
      endRead()
    }
  }
  return {
    beginRead,
    readInPlace,
    endRead,
    snapshot: (reads) => reading(() => reads(readRecord)),
    range: (start, end, limit) =>
      reading(() => {
        const rows = treeOf(trees, start).getRange({ start, end, limit })
        return [...rows].map(({ key, value }) => ({ key: key as Buffer, record: Buffer.from(value) }))
      }),
    size: () => reading(() => ({ entries: treeBytes(entries), bookkeeping: treeBytes(bookkeeping) })),
  }
}

/** Hands a transaction to lmdb's writer thread. False: a condition failed. */
async function send(
  trees: Trees,
  conditions: readonly RecordVersion[],
  changes: readonly Change[],
  durably: boolean,
): Promise<boolean> {
  const { entries } = trees
  const blocks: Promise<boolean>[] = []
  const apply = (): void => {
    // Inside a block lmdb reports on the block, not on each write.
    for (const [key, record] of changes) {
      const tree = treeOf(trees, key)
      void (record === undefined ? tree.remove(key) : tree.put(key, record, versionOf(record)))
    }
  }
  // One condition inside another: a failed one voids all below it, and each has a promise.
  const nest =
    (inner: () => void, { key, version }: RecordVersion) =>
    () => {
      const tree = treeOf(trees, key)
      blocks.push(version === undefined ? tree.ifNoExists(key, inner) : tree.ifVersion(key, version, inner))
    }
  if (conditions.length === 0) blocks.push(entries.batch(apply))
  else conditions.reduceRight(nest, apply)()
  const flushed = durably ? whenFlushed(entries, blocks[0]) : undefined
  // lmdb has one more promise for the turn's batch and rejects it when the commit fails.
  setImmediate(() => void entries.committed.then(nothing, nothing))
  const results = await Promise.all(blocks)
  if (!results.every(Boolean)) return false
  await flushed
  return true
}

/** A database of the caller's may not report each flush; then `flushed` has to be taken now, or it is a later commit's. */
function whenFlushed(entries: Tree, commit: unknown): Promise<unknown> {
  const { flushed } = commit as { readonly flushed?: Promise<unknown> }
  const done = (flushed ?? entries.flushed).then(nothing)
  // A commit that fails rejects by itself.
  done.catch(nothing)
  return done
}

function treeOf({ entries, bookkeeping }: Trees, key: TreeKey): Tree {
  return isBookkeeping(key) ? bookkeeping : entries
}

function versionOf(record: Buffer): number {
  // Records of the orders have no version, and nothing depends on them.
  return record.length < 8 ? 0 : record.readDoubleLE(0)
}

type TreeStats = Record<'pageSize' | 'treeBranchPageCount' | 'treeLeafPageCount' | 'overflowPages', number>

function treeBytes(tree: Tree): number {
  const { pageSize, treeBranchPageCount, treeLeafPageCount, overflowPages } = tree.getStats() as TreeStats
  return (treeBranchPageCount + treeLeafPageCount + overflowPages) * pageSize
}

function expectOpen({ closed }: Trees): void {
  if (closed) throw new CorralError('ERR_CLOSED', 'The lmdb backend was closed.')
}

function lockTimeout(timeout: number): CorralError {
  return new CorralError(
    'ERR_TIMEOUT',
    `Expected the write lock of the LMDB file within ${timeout} ms, got none. Look for a process that is frozen while it writes; reads go on meanwhile.`,
  )
}

function nothing(): void {}

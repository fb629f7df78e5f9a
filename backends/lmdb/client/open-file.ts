import { closeSync, existsSync, openSync, readSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { dirname, extname, join } from 'node:path'
import { open, type RootDatabase } from 'lmdb'
import { CorralError, formatValue } from '../../../src/base/errors.js'
import { expectThat } from '../../../src/base/options.js'
import { encodeNumbers, keyEncoder } from '../format.js'
import type { LmdbOptions, LmdbSettings } from '../options.js'
import { hasAdvice, lmdbError } from './errors.js'
import { type FileGate, fileGate, openGate } from './file-gate.js'
import { makeFolder } from './make-folder.js'
import type { Tree } from './store.js'

/** The format of our records. A file of a later format is refused. */
const FORMAT = 1

const FORMAT_KEY = Buffer.from([0])
/** LMDB's first page after 16 or 24 bytes of page header. */
const MAGIC = Buffer.from([0xde, 0xc0, 0xef, 0xbe])
/** More than LMDB's lock file takes. */
const LOCK_BYTES = 65_536

export interface OpenFile {
  readonly entries: Tree
  readonly bookkeeping: Tree
  /** lmdb writes every commit to it. */
  readonly dataFile: string
  readonly gate: FileGate
  close(): Promise<void>
}

type FileOptions = Pick<LmdbOptions, 'mapSize' | 'maxReaders'> & Pick<LmdbSettings, 'timeout'>

/**
 * Opens the trees in a file, or in a database that is open already.
 * @throws CorralError `ERR_OPTION`, `ERR_UNAVAILABLE` or `ERR_UNSUPPORTED`
 */
export function openTarget(target: unknown, options: FileOptions): OpenFile {
  if (typeof target === 'string' && target !== '') return openPath(target, options)
  expectThat(
    typeof (target as { openDB?: unknown } | null)?.openDB === 'function',
    target,
    "lmdb() to receive a path, or a database that lmdb's open() returned",
  )
  return openDatabase(target as RootDatabase)
}

/** Opens or creates the file at a path. */
export function openPath(path: string, { mapSize, maxReaders, timeout }: FileOptions): OpenFile {
  const inFolder = extname(path) === ''
  const dataFile = inFolder ? join(path, 'data.mdb') : path
  checkFile(dataFile, inFolder ? join(path, 'lock.mdb') : `${path}-lock`)
  try {
    const gate = fileGate(dataFile, timeout)
    const { root, trees } = gate.whileQuiet(() => {
      const root = open<Buffer, string>(path, {
        encoding: 'binary',
        // Commits are acknowledged when they are visible; a durable one waits for the disk.
        separateFlushed: true,
        // With it, LMDB has a second lock. A process that inherits this lock from a killed one sets back the number of the
        // last commit without holding the first lock, and undoes a commit that ends meanwhile (`mdb_mutex_failed`).
        overlappingSync: false,
        ...(mapSize !== undefined && { mapSize }),
        ...(maxReaders !== undefined && { maxReaders }),
      })
      try {
        return { root, trees: openTrees(root, path) }
      } catch (error) {
        void root.close()
        throw error
      }
    })
    return {
      ...trees,
      dataFile,
      gate,
      async close() {
        gate.close()
        await root.close()
      },
    }
  } catch (error) {
    throw unavailable(path, error)
  }
}

/** Keeps our trees beside the owner's in a database. */
export function openDatabase(root: RootDatabase): OpenFile {
  const { path = '' } = root as RootDatabase & { readonly path?: string }
  const dataFile = existsSync(join(path, 'data.mdb')) ? join(path, 'data.mdb') : path
  return { ...openTrees(root, path), dataFile, gate: openGate, close: async () => {} }
}

function openTrees(root: RootDatabase, path: string): Pick<OpenFile, 'entries' | 'bookkeeping'> {
  const settings = { encoding: 'binary', useVersions: true, compression: false, keyEncoder } as const
  const tree = (name: string): Tree => root.openDB<Buffer, string | Buffer>({ name, ...settings })
  try {
    const trees = { entries: tree('corral'), bookkeeping: tree('corral-ledger') }
    const record = trees.entries.getBinary(FORMAT_KEY)
    if (record === undefined) {
      trees.entries.putSync(FORMAT_KEY, encodeNumbers(1, FORMAT), 1)
      return trees
    }
    const format = record.length >= 16 ? record.readDoubleLE(8) : Number.NaN
    if (format === FORMAT) return trees
    throw new CorralError(
      'ERR_UNSUPPORTED',
      `Expected ${formatValue(path)} to be a cache file of format ${FORMAT}, got format ${format}, which a newer version of corral wrote. Upgrade corral here too, or use another file.`,
    )
  } catch (error) {
    throw unavailable(path, error)
  }
}

/** lmdb crashes on a foreign file, and on a disk without room for its lock file. */
function checkFile(dataFile: string, lockFile: string): void {
  try {
    makeFolder(dirname(dataFile))
    // A pipe would wait for a writer, and a device has no end.
    const isThere = statSync(dataFile, { throwIfNoEntry: false })?.isFile()
    if (isThere === false)
      throw new CorralError(
        'ERR_UNAVAILABLE',
        `Expected ${formatValue(dataFile)} to be a file, got a folder, a pipe or a device. Choose another path.`,
      )
    const file = isThere ? openSync(dataFile, 'r+') : undefined
    if (file !== undefined)
      try {
        checkMagic(dataFile, file)
      } finally {
        closeSync(file)
      }
    if (existsSync(lockFile)) return
    const probe = `${lockFile}-${process.pid}`
    try {
      writeFileSync(probe, Buffer.alloc(LOCK_BYTES))
    } finally {
      rmSync(probe, { force: true })
    }
  } catch (error) {
    throw unavailable(dataFile, error)
  }
}

function checkMagic(dataFile: string, file: number): void {
  const head = Buffer.alloc(32)
  const size = readSync(file, head, 0, head.length, 0)
  if (size === 0 && statSync(dataFile).size === 0) return
  if (head.subarray(16, 20).equals(MAGIC) || head.subarray(24, 28).equals(MAGIC)) return
  throw new CorralError(
    'ERR_UNSUPPORTED',
    `Expected ${formatValue(dataFile)} to be an LMDB file, got something else. Choose another path, or remove the file.`,
  )
}

const UNWRITABLE = new Set(['EROFS', 'EACCES', 'EPERM'])

function unavailable(path: string, error: unknown): CorralError {
  if (CorralError.is(error)) return error
  const { code, message } = error as { readonly code?: unknown; readonly message?: unknown }
  if ((typeof code === 'string' && UNWRITABLE.has(code)) || code === 30 || code === 13)
    return new CorralError(
      'ERR_UNAVAILABLE',
      `Expected to write to ${formatValue(path)}, got ${String(message)}. Every process writes to its cache file: mount it writable, or choose another path.`,
      { cause: error },
    )
  if (hasAdvice(error)) return lmdbError(error)
  return new CorralError(
    'ERR_UNAVAILABLE',
    `Could not open ${formatValue(path)}: ${String(message)}. Check the path, or choose another.`,
    { cause: error },
  )
}

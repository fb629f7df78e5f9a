import {
  closeSync,
  existsSync,
  fstatSync,
  openSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  realpathSync,
  statSync,
  unlinkSync,
  writeFileSync,
  writeSync,
} from 'node:fs'
import { basename, dirname, join } from 'node:path'
import { CorralError } from '../../../src/base/errors.js'
import { epochNow, performance, setTimeout } from '../../../src/base/timers.js'
import { makeFolder } from './make-folder.js'

/**
 * Keeps the opening of an LMDB file and the writes to it apart, across processes. While a process opens the file, LMDB
 * reads the number of the last commit from the file and then sets it in the memory that all processes share
 * (`mdb_env_open2`). A commit of another process in between is undone: it was acknowledged, and the next one overwrites it.
 *
 * An opening process puts up a mark and then waits for the end of all writes. A writing process puts up its own mark and then
 * waits for the end of all openings. At least one of two such processes sees the other's mark.
 */
export interface FileGate {
  /** Runs `open` while no other process writes to the file or opens it. Blocks the thread meanwhile. */
  whileQuiet<T>(open: () => T): T
  /** Announces a write. With a promise, the write has to wait for it: another process opens the file. */
  enter(): Promise<void> | undefined
  /** The write is over. */
  leave(): void
  close(): void
}

/** For databases that the caller has opened: their other writers know of no gate. */
export const openGate: FileGate = {
  whileQuiet: (open) => open(),
  enter: () => undefined,
  leave() {},
  close() {},
}

const IDLE = Buffer.from('0')
const WRITING = Buffer.from('1')

/** ms between two looks at the marks of others. */
const LOOK_EVERY = 2
/** ms for which writes of this process rely on one look, while others of them are under way. */
const LOOK_IS_NEWS = 1
/** ms after which the mark of a process in another container, whose death cannot be seen, no longer counts. */
const UNSEEN_LIFE = 10_000

/** @param timeout ms, for either side */
export function fileGate(dataFile: string, timeout: number): FileGate {
  const folder = `${realPath(dataFile)}-gate`
  const [opening, writing] = [join(folder, 'opening'), join(folder, 'writing')]
  const self = thisProcess()
  const mark = markOf(self)
  let slot: number | undefined
  let lookedAt = Number.NEGATIVE_INFINITY
  let underWay = 0
  let closed = false

  /** The number of a closed file may be that of another file soon: nothing may write to it any more. */
  const closeSlot = (): void => {
    const at = slot
    slot = undefined
    if (at !== undefined) closeSync(at)
  }
  const end = (): void => {
    closeSlot()
    removeFile(join(writing, mark))
  }
  const makeSlot = (): number => {
    closeSlot()
    for (const one of [folder, writing, opening]) makeFolder(one)
    slot = openSync(join(writing, mark), 'w')
    writeSync(slot, IDLE, 0, 1, 0)
    return slot
  }
  /** False: another process opens the file. The mark comes before the look, else both could miss each other. */
  const announce = (): boolean => {
    let at = slot ?? makeSlot()
    writeSync(at, WRITING, 0, 1, 0)
    // The mark is gone: another process took this one for dead, or the folder was emptied.
    if (fstatSync(at).nlink === 0 || !existsSync(opening)) {
      at = makeSlot()
      writeSync(at, WRITING, 0, 1, 0)
    }
    if (openers(opening, self).length === 0) {
      lookedAt = performance.now()
      return true
    }
    if (underWay === 0) writeSync(at, IDLE, 0, 1, 0)
    return false
  }
  const enterLater = async (deadline: number): Promise<void> => {
    do {
      if (closed) throw new CorralError('ERR_CLOSED', 'The lmdb backend was closed.')
      if (performance.now() > deadline)
        throw new CorralError(
          'ERR_TIMEOUT',
          `Expected no process to open the LMDB file for ${timeout} ms, got one that does. Look for a process that is frozen while it starts; reads go on meanwhile.`,
        )
      await new Promise<void>((resolve) => setTimeout(resolve, LOOK_EVERY))
    } while (closed || !announce())
    underWay++
  }

  return {
    whileQuiet(open) {
      makeSlot()
      try {
        return whileQuiet({ opening, writing, self, timeout, own: `${mark}-opening` }, open)
      } catch (error) {
        end()
        throw error
      }
    },
    enter() {
      if (underWay > 0 && performance.now() - lookedAt < LOOK_IS_NEWS) return void underWay++
      if (!announce()) return enterLater(performance.now() + timeout)
      underWay++
    },
    leave() {
      if (--underWay > 0 || slot === undefined) return
      if (closed) end()
      else writeSync(slot, IDLE, 0, 1, 0)
    },
    close() {
      closed = true
      if (underWay === 0) end()
    },
  }
}

interface Opening {
  readonly opening: string
  readonly writing: string
  readonly self: ProcessIdentity
  /** ms */
  readonly timeout: number
  /** The mark of this opening. */
  readonly own: string
}

function whileQuiet<T>({ opening, writing, self, timeout, own }: Opening, open: () => T): T {
  const deadline = performance.now() + timeout
  const path = join(opening, own)
  const pause = () => {
    if (performance.now() > deadline)
      throw new CorralError(
        'ERR_TIMEOUT',
        `Expected the LMDB file to be without a write for a moment within ${timeout} ms, got none. Look for a process that is frozen while it writes or starts.`,
      )
    sleepSync(LOOK_EVERY)
  }
  try {
    for (;;) {
      writeFileSync(path, '')
      // A write that looked before this mark stood has put up its own by the end of the pause.
      pause()
      const rivals = openers(opening, self).filter((other) => other !== own)
      if (rivals.length === 0) break
      // The first by name stays and the others withdraw, else they would wait for each other.
      if (rivals.every((rival) => rival > own)) continue
      unlinkSync(path)
      while (openers(opening, self).length > 0) pause()
    }
    while (isWriting(writing, self)) pause()
    return open()
  } finally {
    removeFile(path)
  }
}

/** The marks of the processes that open the file. */
function openers(folder: string, self: ProcessIdentity): readonly string[] {
  return readdirSync(folder).filter((other) => stands(join(folder, other), other, self))
}

/** Whether another process has a write under way. Within this process lmdb opens a file once only. */
function isWriting(folder: string, self: ProcessIdentity): boolean {
  return readdirSync(folder).some((other) => {
    const path = join(folder, other)
    const { space, pid } = identityIn(other)
    if (space === self.space && pid === self.pid) return false
    return stands(path, other, self) && isMarked(path)
  })
}

function isMarked(path: string): boolean {
  try {
    return readFileSync(path, 'latin1') === '1'
  } catch {
    return false
  }
}

/** Whether a mark still counts. Marks of dead processes are removed. */
function stands(path: string, mark: string, self: ProcessIdentity): boolean {
  const alive = isAlive(identityIn(mark), self)
  if (alive === false) removeFile(path)
  if (alive !== undefined) return alive
  try {
    return epochNow() - statSync(path).mtimeMs < UNSEEN_LIFE
  } catch {
    return false
  }
}

/** A process of a machine. A pid alone is used again, by other processes and in other containers. */
interface ProcessIdentity {
  /** The number of the kernel's pid namespace; empty where there is no such thing. */
  readonly space: string
  readonly pid: number
  /** In the kernel's ticks since the machine's start; empty where it cannot be read. */
  readonly startedAt: string
}

function thisProcess(): ProcessIdentity {
  return { space: pidSpace(), pid: process.pid, startedAt: startOf(process.pid) }
}

let marks = 0

function markOf({ space, pid, startedAt }: ProcessIdentity): string {
  const unique = `${epochNow().toString(36)}${(marks++).toString(36)}${Math.random().toString(36).slice(2, 8)}`
  return [space, pid, startedAt, unique].join('-')
}

function identityIn(mark: string): ProcessIdentity {
  const [space = '', pid = '', startedAt = ''] = mark.split('-')
  return { space, pid: Number(pid), startedAt }
}

/** `undefined`: it cannot be known from here. */
function isAlive({ space, pid, startedAt }: ProcessIdentity, self: ProcessIdentity): boolean | undefined {
  if (space !== self.space || !Number.isInteger(pid) || pid <= 0) return undefined
  try {
    process.kill(pid, 0)
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ESRCH') return false
  }
  const started = startOf(pid)
  return started === '' || startedAt === '' ? undefined : started === startedAt
}

function pidSpace(): string {
  try {
    return /\d+/.exec(readlinkSync('/proc/self/ns/pid'))?.[0] ?? ''
  } catch {
    return ''
  }
}

/**
 * Fields 3 and 22 of /proc/<pid>/stat, after the command's name, which may hold anything. A killed process that its
 * parent has not asked about is a zombie: it holds no lock any more.
 */
function startOf(pid: number): string {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'latin1')
    const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ')
    return fields[0] === 'Z' || fields[0] === 'X' ? 'ended' : (fields[19] ?? '')
  } catch {
    return ''
  }
}

/** Processes that reach one file by several links have to meet at one gate. */
function realPath(file: string): string {
  if (existsSync(file)) return realpathSync(file)
  return join(realpathSync(dirname(file)), basename(file))
}

function removeFile(path: string): void {
  try {
    unlinkSync(path)
  } catch {
    // Another process was quicker.
  }
}

function sleepSync(ms: number): void {
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, ms)
}

import { type ChildProcess, fork } from 'node:child_process'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll } from 'vitest'
import { bundleProgram } from '../../support/programs.js'
import type { Peer, Reply, Task } from './peer-protocol.js'

/** A folder that is gone after the file's tests. */
export function temporaryFolder(): string {
  const folder = mkdtempSync(join(tmpdir(), 'corral-lmdb-'))
  afterAll(() => rmSync(folder, { recursive: true, force: true }))
  return folder
}

/** Bundles the program of a peer. */
export async function bundlePeer(source = 'peer.ts'): Promise<string> {
  const program = await bundleProgram(`test/backends/lmdb/${source}`)
  afterAll(program.end)
  return program.path
}

const alive = new Set<ChildProcess>()

/** Starts a process that works on the file and reports in messages. */
export async function startPeer(program: string, peer: Peer): Promise<RunningPeer> {
  const child = fork(program, [JSON.stringify(peer)], { stdio: ['ignore', 'inherit', 'inherit', 'ipc'] })
  alive.add(child)
  const exited = new Promise<void>((resolve) => child.once('exit', () => resolve()))
  void exited.then(() => alive.delete(child))
  const listeners = new Set<(reply: Reply) => void>()
  child.on('message', (reply: Reply) => {
    for (const listener of listeners) listener(reply)
  })
  const running: RunningPeer = {
    pid: child.pid as number,
    exited,
    next: (kind) =>
      new Promise((resolve, reject) => {
        const settle = () => {
          listeners.delete(listener)
          child.off('exit', gone)
        }
        const gone = () => {
          settle()
          reject(new Error(`The peer ended before it said '${kind}'.`))
        }
        const listener = (reply: Reply) => {
          if (reply.kind !== kind) return
          settle()
          resolve(reply as never)
        }
        listeners.add(listener)
        child.once('exit', gone)
      }),
    tell: (task) => void child.send(task),
    signal: (name) => void child.kill(name),
  }
  await running.next('ready')
  return running
}

export interface RunningPeer {
  readonly pid: number
  readonly exited: Promise<void>
  next<K extends Reply['kind']>(kind: K): Promise<Extract<Reply, { kind: K }>>
  tell(task: Task): void
  signal(name: NodeJS.Signals): void
}

/** Ends the processes that a failed test may have left, frozen ones included. */
export function endPeers(): void {
  for (const child of alive) child.kill('SIGKILL')
}

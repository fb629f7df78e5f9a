/** Starts private, throw-away instances of real servers on free loopback ports; tests kill, freeze and restart them. */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import { type AddressInfo, connect, createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { type Binary, locate, type ServerKind } from './binaries.js'
import { sleep } from './waiting.js'

export interface ServerOptions {
  /** Appended to our arguments, so that they win where the server lets the last one win. */
  readonly args?: readonly string[]
  /** Where it keeps its files. Default: a temporary folder, removed by `stop`. */
  readonly dir?: string
  /** To come back where another instance was. Default: a free one. */
  readonly port?: number
  readonly binary?: Binary
  /** `connection` for instances that do not answer plain text (TLS, SASL). Default: `reply`. */
  readonly ready?: 'reply' | 'connection'
}

export interface Server {
  readonly port: number
  readonly pid: number
  /** Ends it and removes its files; safe to call twice, and on a frozen or a dead one. */
  stop(): Promise<void>
  /** Sends a signal to the server itself: `SIGKILL`, `SIGSTOP`, `SIGCONT`… Resolves when it has taken effect. */
  kill(signal: NodeJS.Signals): Promise<void>
}

export const startRedis = (options: ServerOptions = {}): Promise<Server> =>
  start('redis', options, (port, dir) => [
    ...['--port', `${port}`, '--bind', '127.0.0.1', '--dir', dir, '--save', '', '--appendonly', 'no'],
    // Without it a replica is not synchronised for five seconds.
    ...['--repl-diskless-sync-delay', '0'],
  ])

export const startMemcached = (options: ServerOptions = {}): Promise<Server> =>
  start('memcached', options, (port) => [
    ...['-l', '127.0.0.1', '-p', `${port}`, '-U', '0', '-m', '64'],
    // memcached refuses to run as root unless told to.
    ...(process.getuid?.() === 0 ? ['-u', 'root'] : []),
  ])

export async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo
  server.close()
  await once(server, 'close')
  return port
}

/** Folders of instances that were not stopped, such as those that a test killed. */
const temporary = new Set<string>()
process.once('exit', () => temporary.forEach(remove))

function remove(dir: string): void {
  if (temporary.delete(dir)) rmSync(dir, { recursive: true, force: true })
}

async function start(
  kind: ServerKind,
  options: ServerOptions,
  argumentsFor: (port: number, dir: string) => string[],
): Promise<Server> {
  const binary = options.binary ?? locate(kind)
  if (binary === undefined) throw new Error(`Expected a ${kind} binary: run the tests once, or install it`)
  const dir = options.dir ?? mkdtempSync(join(tmpdir(), `corral-${kind}-`))
  if (options.dir === undefined) temporary.add(dir)
  const cleanUp = () => remove(dir)
  let log = ''
  // Another program may take a free port before the server does.
  for (let attempt = 0; attempt < (options.port === undefined ? 5 : 1); attempt++) {
    const port = options.port ?? (await freePort())
    const server = await launch(
      binary,
      [...argumentsFor(port, dir), ...(options.args ?? [])],
      join(dir, 'log'),
    )
    const deadline = Date.now() + 10_000
    while (server.alive() && Date.now() < deadline) {
      if (await answers(kind, port, options.ready ?? 'reply')) {
        const stop = async () => {
          await server.end()
          cleanUp()
        }
        return { port, pid: server.pid, stop, kill: server.kill }
      }
      await sleep(10)
    }
    await server.end()
    log = readFileSync(join(dir, 'log'), 'utf8')
  }
  cleanUp()
  throw new Error(`Expected ${binary.path} to start, got:\n${log.trim().split('\n').slice(-10).join('\n')}`)
}

/**
 * The shell around the server lives on a pipe from us: when this process dies, however it dies, the pipe ends and
 * the server with it. It answers the server's own pid first, since signals are for the server.
 */
const leash = `
log=$1; shift; exec 3<&0
"$@" 3<&- >"$log" 2>&1 & server=$!; echo $server
{ read -r _ <&3; kill -9 $server; } >/dev/null 2>&1 & watch=$!
wait $server; kill $watch 2>/dev/null`

async function launch(binary: Binary, args: readonly string[], log: string) {
  const shell = spawn('sh', ['-c', leash, 'sh', log, binary.path, ...args], {
    env: { ...process.env, ...binary.env },
    stdio: ['pipe', 'pipe', 'ignore'],
  })
  let alive = true
  const exited = once(shell, 'exit').then(() => {
    alive = false
    shell.stdin.destroy()
  })
  const [line] = (await once(createInterface(shell.stdout), 'line')) as [string]
  const pid = Number(line)
  const signal = (name: NodeJS.Signals) => alive && process.kill(pid, name)

  const kill = async (name: NodeJS.Signals) => {
    signal(name)
    if (name === 'SIGKILL' || name === 'SIGTERM') await exited
    else if (name === 'SIGSTOP') await stopped(pid)
  }
  const end = () => kill('SIGKILL')
  return { pid, alive: () => alive, kill, end }
}

/** The kernel stops the threads of a process one by one, each when its turn on a processor comes. */
async function stopped(pid: number): Promise<void> {
  const tasks = `/proc/${pid}/task`
  // Without such files, a moment has to do.
  if (!existsSync(tasks)) return sleep(20)
  const isStopped = (task: string) => /\) [Tt] /.test(readFileSync(`${tasks}/${task}/stat`, 'latin1'))
  while (existsSync(tasks) && !readdirSync(tasks).every(isStopped)) await sleep(1)
}

function answers(kind: ServerKind, port: number, ready: 'reply' | 'connection'): Promise<boolean> {
  const [question, answer] =
    kind === 'redis' ? ['PING\r\n', /^(\+PONG|-NOAUTH)/] : ['version\r\n', /^VERSION/]
  return new Promise((resolve) => {
    const socket = connect(port, '127.0.0.1')
    const settle = (outcome: boolean) => {
      socket.destroy()
      resolve(outcome)
    }
    socket.once('connect', () => (ready === 'connection' ? settle(true) : socket.write(question)))
    socket.once('data', (reply) => settle(answer.test(reply.toString('latin1'))))
    socket.once('error', () => settle(false)).once('close', () => settle(false))
    socket.setTimeout(250, () => settle(false))
  })
}

/** A library in a process of its own, with a Redis server of its own. */
import { fork } from 'node:child_process'
import { once } from 'node:events'
import { join } from 'node:path'
import { build } from 'esbuild'
import { Redis } from 'ioredis'
import { startRedis } from '../../test/support/servers.js'
import type { Reply, Request } from './child.js'

export interface Contender {
  readonly name: string
  /** `trips`: how often the server had input during the round, for each operation. */
  measure(key: string, round: number): Promise<Reply & { readonly trips?: number }>
  stop(): Promise<void>
}

export async function openContender(name: string, folder: string): Promise<Contender> {
  const program = join(folder, `node_modules/.cache/${name}.mjs`)
  await bundle(name, folder, program)
  const server = await startRedis()
  const child = fork(program, { execArgv: ['--expose-gc'], serialization: 'advanced' })
  const failed = new Promise<never>((_, reject) => {
    child.once('exit', (code) => reject(new Error(`The process of ${name} ended with code ${code}.`)))
  })
  failed.catch(() => undefined)
  const admin = new Redis({ port: server.port })
  const inputs = async () => Number(/^total_reads_processed:(\d+)/m.exec(await admin.info('stats'))?.[1])
  return {
    name,
    measure: async (measure, round) => {
      const before = await inputs()
      const replied = once(child, 'message') as Promise<[Reply]>
      child.send({ measure, round, port: server.port } satisfies Request)
      const [reply] = await Promise.race([replied, failed])
      if (reply.error !== undefined) throw new Error(`${name} failed in ${measure}: ${reply.error}`)
      const { operations } = reply
      // One input is the question itself.
      return operations === undefined
        ? reply
        : { ...reply, trips: ((await inputs()) - before - 1) / operations }
    },
    stop: async () => {
      admin.disconnect()
      child.kill('SIGKILL')
      await server.stop()
    },
  }
}

/** Beside the installed libraries, so that node finds them as it does for a user. */
async function bundle(name: string, folder: string, outfile: string): Promise<void> {
  const contents = `import { serve } from './child.ts'
import { subject } from './subjects/${name}.ts'
serve(subject)`
  await build({
    stdin: { contents, loader: 'ts', resolveDir: folder },
    outfile,
    bundle: true,
    format: 'esm',
    platform: 'node',
    target: 'node20.19',
    packages: 'external',
    // The project's own settings lead `corral` to its sources.
    tsconfigRaw: {},
    logLevel: 'warning',
  })
}

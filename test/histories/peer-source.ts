/** A process whose source fails, hangs and recovers at random. Started by `failing-source.test.ts`, which tells it to stop. */
import { appendFileSync } from 'node:fs'
import { Redis } from 'ioredis'
import { redis } from '../../backends/redis/index.js'
import { dependencies } from '../../proxies/dependencies.js'
import { json } from '../../proxies/json.js'
import { makeRegion, type RegionOptions, wrap } from '../../src/index.js'
import { seeded } from '../support/seeded.js'
import { sharedNow, sleep } from '../support/waiting.js'

export interface SourcePart {
  readonly port: number
  readonly log: string
  readonly seed: number
  readonly keys: number
  readonly callers: number
  readonly options: Omit<RegionOptions, 'backend' | 'clock'>
  /** The shares of creations that fail, hang and are slow; a source that always fails is only read from. */
  readonly source: { readonly fails: number; readonly hangs: number; readonly slow: number }
  /** Share of operations that invalidate. */
  readonly invalidates: number
}

/** One operation, on the clock that all processes of the machine share. */
export type SourceEvent =
  | { kind: 'read'; key: string; start: number; end: number; version?: number; error?: string }
  | {
      kind: 'hard' | 'soft'
      key: string
      start: number
      end: number
      version: number
    }
  | { kind: 'creation'; key: string; start: number; ends: 'well' | 'fails' | 'hangs' }
  | { kind: 'wrong'; text: string }

const part = JSON.parse(process.argv[2] ?? '') as SourcePart
const random = seeded(part.seed)
const log = (event: SourceEvent) => appendFileSync(part.log, `${JSON.stringify(event)}\n`)
process.on('unhandledRejection', (error) => log({ kind: 'wrong', text: `unhandled: ${String(error)}` }))

let over = false
process.once('message', () => {
  over = true
})
const truth = new Redis(part.port)
const region = makeRegion<number>({
  ...part.options,
  backend: wrap(redis({ url: `redis://127.0.0.1:${part.port}`, timeout: '20s' }), json(), dependencies()),
})
const versionOf = async (key: string) => Number((await truth.get(`truth:${key}`)) ?? 0)

const load = region.cacheOnArguments(
  async (key: string): Promise<number> => {
    const { fails, hangs, slow } = part.source
    const drawn = random()
    const ends = drawn < fails ? 'fails' : drawn < fails + hangs ? 'hangs' : 'well'
    log({ kind: 'creation', key, start: sharedNow(), ends })
    const version = await versionOf(key)
    if (ends === 'hangs') return new Promise(() => {})
    if (random() < slow) await sleep(random() * 60)
    if (ends === 'fails') throw new Error('away')
    return version
  },
  { namespace: 'load', dependencies: (key) => `key:${key}` },
)

async function read(key: string): Promise<void> {
  const start = sharedNow()
  try {
    const version = await load(key)
    log({ kind: 'read', key, start, end: sharedNow(), version })
  } catch (error) {
    const { code, message } = error as Error & { code?: string }
    log({ kind: 'read', key, start, end: sharedNow(), error: code ?? message })
  }
}

async function change(key: string): Promise<void> {
  const start = sharedNow()
  const version = await truth.incr(`truth:${key}`)
  const way = Math.floor(random() * 4)
  if (way === 0) await load.invalidate(key)
  else if (way === 1) await region.invalidateDependencies(`key:${key}`)
  else if (way === 2) await load.invalidate.soft(key)
  else await region.invalidateDependencies(`key:${key}`, 'soft')
  log({ kind: way < 2 ? 'hard' : 'soft', key, start, end: sharedNow(), version })
}

async function call(): Promise<void> {
  while (!over) {
    const key = `${Math.floor(random() * part.keys)}`
    await (random() < part.invalidates ? change(key) : read(key))
    await sleep(random() * 10)
  }
}

for (let key = 0; key < part.keys; key++) await read(`${key}`)
process.send?.('ready')
await Promise.all(Array.from({ length: part.callers }, call))
// Creations that hang are called off.
await region.close()
truth.disconnect()
process.disconnect()

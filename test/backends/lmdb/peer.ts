import { open } from 'lmdb'
import { fileGate } from '../../../backends/lmdb/client/file-gate.js'
import { lmdb } from '../../../backends/lmdb/index.js'
import type { Bytes, CachedValue } from '../../../src/backend/cached-value.js'
import { mapValues } from '../../../src/chain/map-values.js'
import { wrap } from '../../../src/chain/wrap.js'
import { makeRegion } from '../../../src/region/region.js'
import { sharedNow as now, sleep } from '../../support/waiting.js'
import type { Peer, Reply, Task } from './peer-protocol.js'
import { writer } from './peer-writer.js'

const say = (reply: Reply): void => void process.send?.(reply)

/** Takes LMDB's write lock and never lets go of it. */
function hold(file: string): never {
  return open(file, {}).transactionSync(() => {
    say({ kind: 'ready' })
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0)
  }) as never
}

/** Stands still in the middle of opening the file, or of a write to it. */
function standStill({ file, role }: Peer): never {
  const gate = fileGate(file, 5000)
  const stop = () => {
    say({ kind: 'ready' })
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0)
  }
  if (role === 'writing') void gate.enter()
  return (role === 'writing' ? stop() : gate.whileQuiet(stop)) as never
}

/** Opens the file when told to, and reports when it was let in. It never closes the file: lmdb's own closing may hang. */
async function openOnce(file: string): Promise<never> {
  const told = new Promise((resolve) => process.once('message', resolve))
  say({ kind: 'ready' })
  await told
  const span = fileGate(file, 60_000).whileQuiet((): [number, number] => {
    const from = now()
    open(file, { overlappingSync: false })
    return [from, now()]
  })
  say({ kind: 'opened', span })
  return sleep(60_000) as never
}

const text = mapValues<CachedValue, Bytes>({
  name: 'text',
  inner: 'bytes',
  outer: 'values',
  encode: (value) => Buffer.from(JSON.stringify(value)),
  decode: (stored) => JSON.parse(Buffer.from(stored).toString()),
})

const peer = JSON.parse(process.argv[2] ?? '{}') as Peer
if (peer.role === 'holder') hold(peer.file)
if (peer.role === 'starting' || peer.role === 'writing') standStill(peer)
if (peer.role === 'opener') await openOnce(peer.file)
const store = lmdb(peer.file, { timeout: '5s' })

if (peer.role === 'writer') writer(peer, store)
else {
  const region = makeRegion<unknown>({
    name: 'peers',
    backend: wrap(store, text),
    expirationTime: '10m',
    lease: { ms: peer.lease ?? 10_000 },
  })
  process.on('message', async (task: Task) => {
    if (task.kind !== 'create') return
    let runs = 0
    let madeAt: number | undefined
    const creator = async (): Promise<string> => {
      runs++
      say({ kind: 'creating' })
      await sleep(task.ms)
      if (task.freezes) process.kill(process.pid, 'SIGSTOP')
      madeAt = now()
      return `by ${process.pid}`
    }
    const ends: number[] = []
    const settled = await Promise.allSettled(
      Array.from({ length: task.callers }, async () => {
        const value = await region.getOrCreate(task.key, creator)
        ends.push(now())
        return value as string
      }),
    )
    say({
      kind: 'created',
      runs,
      madeAt,
      first: Math.min(...ends),
      last: Math.max(...ends),
      values: [...new Set(settled.flatMap((one) => (one.status === 'fulfilled' ? [one.value] : [])))],
      errors: [...new Set(settled.flatMap((one) => (one.status === 'rejected' ? [String(one.reason)] : [])))],
    })
  })
}
process.on('message', async (task: Task) => {
  if (task.kind !== 'stop') return
  if (peer.role === 'region') {
    await store.close()
    say({ kind: 'stopped' })
    process.disconnect()
  }
})
say({ kind: 'ready' })

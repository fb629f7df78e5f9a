/** A process that leaves a creation behind; see closing.test.ts. */
import { lmdb } from '../../backends/lmdb/index.js'
import { memory } from '../../backends/memory/index.js'
import { json } from '../../proxies/json.js'
import { makeRegion, wrap } from '../../src/index.js'
import { idle } from '../support/waiting.js'

const [kind, file = ''] = process.argv.slice(2)
const send = (message: string) => process.send?.(message)
const hang = () => new Promise<string>(() => {})
const lease = { ms: '3s', wait: '1h' } as const

if (kind === 'another process') {
  const store = lmdb(file)
  // A process that died leaves such a lease.
  await store.acquire('key', 1_000)
  const region = makeRegion<string>({ name: 'r', backend: wrap(store, json()) })
  send('ready')
  void region.getOrCreate('key', () => 'created after the lease').then((value) => send(value))
} else {
  const backend = memory()
  const open = () => makeRegion<string>({ name: 'r', backend, lease })
  const [one, other] = [open(), open()]
  const leave = new AbortController()
  one.getOrCreate('key', hang, { signal: leave.signal }).catch(() => {})
  if (kind === 'joined') one.getOrCreate('key', hang).catch(() => {})
  if (kind === 'two regions') other.getOrCreate('key', hang).catch(() => {})
  await idle(3)
  if (kind === 'abandoned') leave.abort()
  send('ready')
}
process.channel?.unref()

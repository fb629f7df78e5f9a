/** Another process with a store of its own, joined by a real bus. Reads all the time, and reports the messages that it receives. */

import { memory } from '../../backends/memory/index.js'
import { redisBus } from '../../backends/redis/index.js'
import { broadcast } from '../../proxies/broadcast.js'
import { dependencies } from '../../proxies/dependencies.js'
import { dep, dependsOn, makeRegion, wrap } from '../../src/index.js'
import { relay } from '../../src/signals/index.js'
import { sharedNow as now, sleep } from '../support/waiting.js'

const [port = '', maxDelay = ''] = process.argv.slice(2)
const bus = redisBus(`redis://127.0.0.1:${port}`, { channel: 'peers', maxDelay: Number(maxDelay) })
const region = makeRegion<number>({
  name: 'peers',
  backend: wrap(memory(), broadcast(bus, { name: 'peers' }), dependencies()),
})
const relayed = relay(bus, [region])
region.on('invalidate', (event) => process.send?.({ heard: event }))

/** The row of the database, which the other process sends. */
let truth = 0
process.on(
  'message',
  async ({ set, invalidate }: { set?: number; invalidate?: 'key' | 'name' | 'region' }) => {
    if (set !== undefined) truth = set
    if (invalidate === 'key')
      await region.delete('key', { reason: 'from the peer', meta: { pid: process.pid } })
    if (invalidate === 'name') await region.invalidateDependencies(dep.id('row', 1))
    if (invalidate === 'region') await region.invalidate()
    process.send?.({ done: true })
  },
)
while (!relayed.live) await sleep(5)
process.send?.({ ready: true })
for (;;) {
  const began = now()
  let made = false
  const value = await region.getOrCreate('key', () => {
    made = true
    dependsOn(dep.id('row', 1))
    return truth
  })
  process.send?.({ began, value, made })
  await sleep(5)
}

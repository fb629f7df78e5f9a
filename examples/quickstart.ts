import { mkdirSync } from 'node:fs'
import { setTimeout as pause } from 'node:timers/promises'
import { type CachedValue, dependsOn, inBackground, makeRegion, NO_VALUE, wrap } from 'corral'
import { lmdb } from 'corral/backends/lmdb'
import { memory } from 'corral/backends/memory'
import { dependencies } from 'corral/proxies/dependencies'
import { json } from 'corral/proxies/json'
import { msgpack } from 'corral/proxies/msgpack'
import { type Usable, usableIn } from './quickstart/compat.js'
import { screen, timed, took } from './quickstart/screen.js'

const { title, note, step } = screen()

const runner = inBackground()

// One file, shared by all processes of the machine; its entries survive them.
mkdirSync('node_modules/.cache', { recursive: true })
const region = makeRegion<readonly Usable[]>({
  name: 'compat',
  expirationTime: '1d',
  asyncCreationRunner: runner,
  backend: wrap(lmdb('node_modules/.cache/quickstart.lmdb'), msgpack(), dependencies()),
})

let runs = 0
const usable = region.cacheOnArguments({ namespace: 'usable' })(async (...browsers: string[]) => {
  runs++
  for (const browser of browsers) dependsOn(`browser:${browser}`)
  return usableIn(browsers)
})

const MODERN = ['chrome', 'firefox', 'safari']
const OLD = ['chrome', 'ie']

title('A region over one file (LMDB), encoded with msgpack, tracking dependencies')
note(
  '  The query: which of 20,000 web features work in all of these browsers? (MDN’s data, 20 MB read and walked each time)',
)

const found = region.peek(usable.key(...MODERN))
if (found !== NO_VALUE) {
  await step('warm start', async () => {
    const [kept, ms] = await timed(() => usable(...MODERN))
    return { time: took(ms), result: `an earlier run left ${kept.length} features; the query did not run` }
  })
  await step('invalidate the region', async () => {
    const [, ms] = await timed(() => region.invalidate())
    return { time: took(ms), result: 'everything in it, by one small write' }
  })
}
await step('cold', async () => {
  const [found, ms] = await timed(() => usable(...MODERN))
  return {
    time: took(ms),
    result: `${found.length} features, newest ${found[0]?.feature} (${found[0]?.since})`,
  }
})
await step('warm', async () => {
  const times: number[] = []
  for (let i = 0; i < 20; i++) times.push((await timed(() => usable(...MODERN)))[1])
  return { time: took(median(times)), result: 'median of 20 reads, decoded each time; the query did not run' }
})
await step('1,000 callers, one cold key', async () => {
  const before = runs
  const [all, ms] = await timed(() => Promise.all(Array.from({ length: 1_000 }, () => usable(...OLD))))
  return { time: took(ms), result: `${runs - before} run of the query served ${all.length} callers` }
})
await step('stale, served while one renews', async () => {
  // As if its day were over.
  await region.expire(usable.key(...OLD))
  const before = runs
  const [, ms] = await timed(() => usable(...OLD))
  await runner.drain()
  return { time: took(ms), result: `the caller did not wait; ${runs - before} renewal in the background` }
})

title('An invalidation that lands while the value is being made')
let truth = 'old data'
const slow = region.cacheOnArguments({ namespace: 'slow' })(async () => {
  const seen = truth
  await pause(50)
  return [{ feature: seen, since: '' }]
})
await step('made from old data', async () => {
  const [[, ms], [later]] = await Promise.all([
    timed(() => slow()),
    (async () => {
      await pause(20)
      truth = 'new data'
      await slow.invalidate()
      return slow()
    })(),
  ])
  const [kept] = await slow()
  return { time: took(ms), result: `read after the invalidation: ${later?.feature}; kept: ${kept?.feature}` }
})

title('A group: everything that was made from Firefox')
await step('invalidate one name', async () => {
  await Promise.all([usable(...MODERN), usable(...OLD), usable('firefox')])
  const [, ms] = await timed(() => region.invalidateDependencies('browser:firefox'))
  return { time: took(ms), result: 'one small write, however many entries depend on it' }
})
await step('who has to be made again', async () => {
  const [answers, ms] = await timed(() =>
    Promise.all(
      [MODERN, OLD, ['firefox']].map(async (browsers) => [browsers, await usable.get(...browsers)] as const),
    ),
  )
  return {
    time: took(ms),
    result: answers
      .map(([browsers, value]) => `${browsers.join('+')}: ${typeof value === 'symbol' ? 'yes' : 'no'}`)
      .join(', '),
  }
})

title('What the encodings weigh')
const value = await usable(...MODERN)
const entry: CachedValue = { payload: value, metadata: { startedAt: Date.now(), createdAt: Date.now() } }
for (const [name, encoding] of [
  ['json', json()],
  ['msgpack', msgpack()],
] as const)
  await step(name, async () => {
    const store = memory({ stores: 'bytes' })
    const chain = wrap(store, encoding)
    const [, writing] = await timed(async () => chain.set('key', entry, {}))
    const [, reading] = await timed(async () => chain.get('key'))
    const bytes = (await store.get('key'))?.byteLength ?? 0
    return {
      time: took(reading),
      result: `${(bytes / 1024).toFixed(0)} KiB to read; written in ${took(writing)}`,
    }
  })

await region.close()
note('\n  Measured in this run, on this machine. More: docs/, examples/, npm run bench:layers')

function median(values: readonly number[]): number {
  return [...values].sort((one, other) => one - other)[values.length >> 1] ?? 0
}

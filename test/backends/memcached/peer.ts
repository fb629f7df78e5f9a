import { commandsOf } from '../../../backends/memcached/client/commands.js'
import { openServer } from '../../../backends/memcached/client/server.js'
import { memcached } from '../../../backends/memcached/index.js'
import { settingsOf } from '../../../backends/memcached/options.js'
import { dependencies } from '../../../proxies/dependencies.js'
import { json } from '../../../proxies/json.js'
import { dep, dependsOn, makeRegion, NO_VALUE, wrap } from '../../../src/index.js'
import { sleep, turn } from '../../support/waiting.js'
import type { Event, History, HistoryTask, StampedeReport, StampedeTask, Task } from './peers.js'

/** Milliseconds of a clock that all processes of a machine share. */
const now = (): number => Number(process.hrtime.bigint()) / 1e6
const below = (limit: number): number => Math.floor(Math.random() * limit)

async function stampede({ servers, key, callers, ms }: StampedeTask): Promise<StampedeReport> {
  const region = makeRegion<string>({ name: 'stampede', backend: wrap(memcached(servers), json()) })
  let runs = 0
  let madeAt: number | undefined
  const served: number[] = []
  const values = await Promise.all(
    Array.from({ length: callers }, async () => {
      const value = await region.getOrCreate(key, async () => {
        runs++
        await sleep(ms)
        madeAt = now()
        return `made by ${process.pid}`
      })
      served.push(now())
      return value
    }),
  )
  await region.close()
  return { runs, madeAt, served, values: [...new Set(values)] }
}

async function history({ servers, truth, index, processes, keys, ms }: HistoryTask): Promise<History> {
  const source = commandsOf(settingsOf(truth).addresses.map((address) => openServer(address, 1_000)))
  const region = makeRegion<{ readonly v: number; readonly key: number }>({
    name: 'history',
    expirationTime: '1h',
    lease: { ms: 1_000, wait: '3s' },
    backend: wrap(memcached({ servers, timeout: 250, probe: 100 }), json(), dependencies()),
  })
  const reads: Event[] = []
  const fresh: Event[] = []
  const hard: Event[] = []
  const soft: Event[] = []
  const creations: Event[] = []
  const failures: Record<string, number> = {}
  const wrong: string[] = []
  const end = now() + ms
  const version = async (key: number) => Number((await source.get(`v${key}`))?.value.toString().trim() ?? 0)

  const create = (key: number) => async () => {
    const began = now()
    const v = await version(key)
    // What it is made from becomes known only now.
    dependsOn(dep.id('row', key))
    if (Math.random() < 0.8) await sleep(below(15))
    creations.push([key, began, now(), v])
    return { v, key }
  }
  const read = async () => {
    const key = below(keys)
    const began = now()
    const took = (into: Event[], at: number, found: { readonly v: number; readonly key: number }) => {
      if (found.key !== at) wrong.push(`read ${found.key} for ${at}`)
      into.push([at, began, now(), found.v])
    }
    const dice = below(10)
    if (dice < 6) return took(reads, key, await region.getOrCreate(`k${key}`, create(key)))
    if (dice < 8) {
      const found = await region.get(`k${key}`)
      if (found === NO_VALUE) return
      took(reads, key, found)
      return took(fresh, key, found)
    }
    const batch = [...new Set([key, below(keys), below(keys)])]
    const found = await region.getOrCreateMulti(
      batch.map((one) => `k${one}`),
      async (missing) => Promise.all(missing.map((name) => create(Number(name.slice(1)))())),
    )
    found.forEach((one, i) => {
      if (one !== NO_VALUE) took(reads, batch[i] as number, one)
    })
  }
  const write = async (key: number) => {
    const dice = below(100)
    if (dice < 2) {
      const began = now()
      const versions = await Promise.all(Array.from({ length: keys }, (_, one) => version(one)))
      await region.invalidate(dice === 0 ? 'soft' : 'hard')
      const ended = now()
      versions.forEach((v, one) => (dice === 0 ? soft : hard).push([one, began, ended, v]))
      return
    }
    const asOf = await region.asOf()
    const v = Number(await source.increment(`v${key}`, 1n))
    const began = now()
    if (dice < 40) await region.delete(`k${key}`)
    else if (dice < 75) await region.invalidateDependencies(dep.id('row', key))
    else if (dice < 85) {
      const outcome = await region.set(`k${key}`, { v, key }, { dependencies: [dep.id('row', key)], asOf })
      if (outcome === 'lost') return
    } else {
      await (dice < 93 ? region.expire(`k${key}`) : region.invalidateDependencies(dep.id('row', key), 'soft'))
      soft.push([key, began, now(), v])
      return
    }
    hard.push([key, began, now(), v])
  }
  const loop = async (work: () => Promise<unknown>, pause: number) => {
    while (now() < end) {
      try {
        await work()
      } catch (error) {
        const code = String((error as { code?: unknown }).code ?? error)
        failures[code] = (failures[code] ?? 0) + 1
        await sleep(below(20))
      }
      await (pause === 0 ? turn() : sleep(below(pause)))
    }
  }
  // Each key is written by one loop, so that its invalidations come one after another.
  const mine = Array.from({ length: keys }, (_, key) => key).filter((key) => key % processes === index)
  await Promise.all([
    ...Array.from({ length: 6 }, () => loop(read, 0)),
    ...mine.map((key) => loop(() => write(key), 60)),
  ])
  await region.close()
  source.close()
  return { reads, fresh, hard, soft, creations, failures, wrong }
}

process.on('message', async (task: Task) => {
  process.send?.(task.kind === 'stampede' ? await stampede(task) : await history(task))
})
process.send?.('ready')

/**
 * One process's part in a history of reads and invalidations by dependencies: rows, lists that are made from rows by
 * cached functions inside one another, and writers that change the truth and invalidate nothing but names.
 */
import { Redis } from 'ioredis'
import { lmdb } from '../../backends/lmdb/index.js'
import { memcached } from '../../backends/memcached/index.js'
import { type RedisBackendOptions, redis } from '../../backends/redis/index.js'
import { dependencies } from '../../proxies/dependencies.js'
import { json } from '../../proxies/json.js'
import { type Backend, type Bytes, dep, dependsOn, makeRegion, NO_VALUE, wrap } from '../../src/index.js'
import { sleep, turn } from '../support/waiting.js'
import type { Event, History } from './redis.js'

/** A store, as plain data that can be told to a process. */
export type Place =
  | { readonly redis: RedisBackendOptions }
  | { readonly memcached: string }
  | { readonly lmdb: string }

export interface DependenciesOrder {
  readonly task: 'dependencies'
  readonly place: Place
  /** Port of the Redis that has the truth. */
  readonly truth: number
  readonly index: number
  readonly processes: number
  readonly rows: number
  readonly ms: number
}

interface Row {
  readonly row: number
  readonly version: number
}

const READERS = 6
/** Longest creation of a row, in ms. */
const CREATION = 10
/** Rows of a list. */
const LENGTH = 3

function open(place: Place): Backend<Bytes> {
  if ('redis' in place) return redis({ timeout: '3s', ...place.redis })
  if ('memcached' in place) return memcached({ servers: place.memcached })
  return lmdb(place.lmdb)
}

const now = (): number => Number(process.hrtime.bigint()) / 1e6
const below = (limit: number): number => Math.floor(Math.random() * limit)

export async function takePartByDependencies({
  place,
  truth,
  index,
  processes,
  rows,
  ms,
}: DependenciesOrder): Promise<History> {
  const source = new Redis({ port: truth })
  const region = makeRegion<Row | readonly Row[]>({
    name: 'history',
    expirationTime: '1h',
    lease: { ms: 1_000, wait: '10s' },
    backend: wrap(open(place), json(), dependencies()),
  })
  const reads: Event[] = []
  const hard: Event[] = []
  const soft: Event[] = []
  const fresh: Event[] = []
  const creations: Event[] = []
  const failures: Record<string, number> = {}
  const end = now() + ms

  const load = async (row: number): Promise<Row> => {
    const began = now()
    const version = Number((await source.get(`v${row}`)) ?? 0)
    if (Math.random() < 0.7) await sleep(below(CREATION))
    creations.push([row, began, now(), version])
    return { row, version }
  }
  const options = { namespace: 'row' }
  // The three ways to say it; rows of one kind are always declared in the same one.
  const ahead = region.cacheOnArguments({ ...options, dependencies: (row: number) => dep.id('row', row) })(
    load,
  )
  const after = region.cacheOnArguments({
    ...options,
    resultDependencies: (found: Row) => dep.id('row', found.row),
  })(load)
  const within = region.cacheOnArguments(options)(async (row: number) => {
    const found = await load(row)
    dependsOn(dep.id('row', row))
    return found
  })
  const ways = [ahead, after, within] as const
  const wayOf = (row: number) => ways[row % ways.length] as typeof within
  const list = region.cacheOnArguments({ namespace: 'list', group: { list: ([first]: [number]) => first } })(
    (first: number) =>
      Promise.all(Array.from({ length: LENGTH }, (_, i) => wayOf((first + i) % rows)((first + i) % rows))),
  )
  const all = region.cacheOnArguments({ namespace: 'pair' })(async (first: number) =>
    (await Promise.all([list(first), list((first + LENGTH) % rows)])).flat(),
  )

  const read = async () => {
    const [row, dice] = [below(rows), below(10)]
    const began = now()
    const took = (found: Row | readonly Row[], into: readonly Event[][]) => {
      for (const one of Array.isArray(found) ? (found as Row[]) : [found as Row])
        for (const events of into) events.push([one.row, began, now(), one.version])
    }
    if (dice < 3) return took(await wayOf(row)(row), [reads])
    if (dice < 5) return took(await list(row), [reads])
    if (dice < 7) return took(await all(row), [reads])
    const found = await (dice === 7 ? wayOf(row).get(row) : dice === 8 ? list.get(row) : all.get(row))
    if (found !== NO_VALUE) took(found, [reads, fresh])
  }
  const write = async (row: number) => {
    const dice = below(100)
    const asOf = await region.asOf()
    const version = await source.incr(`v${row}`)
    const began = now()
    if (dice < 15) {
      // Data that was loaded before it is put; only the name tells the others.
      const outcome = await region.set(
        wayOf(row).key(row),
        { row, version },
        { dependencies: [dep.id('row', row)], asOf },
      )
      if (outcome === 'lost') return
      await region.invalidateDependencies(dep.id('row', row))
    } else if (dice < 75) await region.invalidateDependencies(dep.id('row', row))
    else if (dice < 78) await region.invalidate()
    else {
      await region.invalidateDependencies([dep.id('row', row), dep.group('list', row)], 'soft')
      soft.push([row, began, now(), version])
      return
    }
    hard.push([row, began, now(), version])
  }
  const loop = async (work: () => Promise<void>, pause: number) => {
    while (now() < end) {
      try {
        await work()
      } catch (error) {
        const code = String((error as { readonly code?: unknown }).code ?? error).slice(0, 120)
        failures[code] = (failures[code] ?? 0) + 1
        await sleep(below(20))
      }
      await (pause > 0 ? sleep(below(pause)) : turn())
    }
  }
  // Each row is changed by one loop, so that its invalidations come one after another.
  const own = Array.from({ length: rows }, (_, row) => row).filter((row) => row % processes === index)
  await Promise.all([
    ...Array.from({ length: READERS }, () => loop(read, 0)),
    ...own.map((row) => loop(() => write(row), 80)),
  ])
  await region.close()
  source.disconnect()
  return { reads, hard, soft, fresh, creations, failures }
}

/**
 * A history of reads and invalidations from several processes, and the judgement of it. The truth is a version of each
 * key in another Redis, which only grows. Each key is written by one process; all of them read and create it.
 */
import { Redis } from 'ioredis'
import { type RedisBackendOptions, redis } from '../../backends/redis/index.js'
import { dependencies } from '../../proxies/dependencies.js'
import { json } from '../../proxies/json.js'
import { dep, dependsOn, makeRegion, NO_VALUE, wrap } from '../../src/index.js'
import { sleep, turn } from '../support/waiting.js'

export interface HistoryOrder {
  readonly task: 'history'
  readonly where: RedisBackendOptions
  /** Port of the Redis that has the truth. */
  readonly truth: number
  readonly index: number
  readonly processes: number
  readonly keys: number
  readonly readers: number
  readonly writers: number
  readonly ms: number
  /** Longest creation, in ms. */
  readonly creation: number
}

/** Of each event: key, begin, end, version; times in ms on the clock that the processes share. */
export interface History {
  readonly reads: readonly Event[]
  /** Hard: whatever is read after the end has at least this version. */
  readonly hard: readonly Event[]
  /** Soft: whatever is served as fresh after the end has at least this version. */
  readonly soft: readonly Event[]
  readonly fresh: readonly Event[]
  readonly creations: readonly Event[]
  readonly failures: Readonly<Record<string, number>>
}

export type Event = readonly [key: number, begin: number, end: number, version: number]

/** ms on a clock that all processes of a machine share. */
export function sharedNow(): number {
  return Number(process.hrtime.bigint()) / 1e6
}

export async function takePart({
  where,
  truth,
  index,
  processes,
  keys,
  readers,
  writers,
  ms,
  creation,
}: HistoryOrder): Promise<History> {
  const source = new Redis({ port: truth })
  const region = makeRegion<{ readonly v: number; readonly key: number }>({
    name: 'history',
    expirationTime: '1h',
    lease: { ms: 1_000, wait: '10s' },
    backend: wrap(redis({ timeout: '3s', ...where }), json(), dependencies()),
  })
  const reads: Event[] = []
  const hard: Event[] = []
  const soft: Event[] = []
  const fresh: Event[] = []
  const creations: Event[] = []
  const failures: Record<string, number> = {}
  const end = sharedNow() + ms
  const random = (below: number) => Math.floor(Math.random() * below)
  const version = async (key: number) => Number((await source.get(`v${key}`)) ?? 0)

  const create = (key: number) => async () => {
    const began = sharedNow()
    const v = await version(key)
    // What it is made from becomes known only now.
    dependsOn(dep.id('row', key))
    if (Math.random() < 0.7) await sleep(random(creation))
    creations.push([key, began, sharedNow(), v])
    return { v, key }
  }
  const attempt = async (work: () => Promise<void>) => {
    try {
      await work()
    } catch (error) {
      const { code, message } = error as { readonly code?: string; readonly message: string }
      const name = code === 'ERR_BACKEND' || code === undefined ? message.slice(0, 120) : code
      failures[name] = (failures[name] ?? 0) + 1
      await sleep(random(50))
    }
  }
  const read = async () => {
    const key = random(keys)
    const began = sharedNow()
    const took = (into: Event[], at: number, found: { readonly v: number; readonly key: number }) => {
      if (found.key !== at) throw new Error(`read ${found.key} for ${at}`)
      into.push([at, began, sharedNow(), found.v])
    }
    const dice = random(10)
    if (dice < 6) return took(reads, key, await region.getOrCreate(`k${key}`, create(key)))
    if (dice < 8) {
      const found = await region.get(`k${key}`)
      if (found !== NO_VALUE) {
        took(reads, key, found)
        took(fresh, key, found)
      }
      return
    }
    const batch = [...new Set([key, random(keys), random(keys)])]
    const found = await region.getOrCreateMulti(
      batch.map((one) => `k${one}`),
      async (missing) => Promise.all(missing.map((name) => create(Number(name.slice(1)))())),
    )
    found.forEach((one, i) => {
      if (one !== NO_VALUE) took(reads, batch[i] as number, one)
    })
  }
  const own = Array.from({ length: keys }, (_, key) => key).filter((key) => key % processes === index)
  const write = async (mine: readonly number[]) => {
    const key = mine[random(mine.length)] as number
    const dice = random(100)
    if (dice < 3) {
      // Everything as it is in truth now.
      const began = sharedNow()
      const versions = await Promise.all(Array.from({ length: keys }, (_, one) => version(one)))
      const mode = dice === 0 ? 'soft' : 'hard'
      await region.invalidate(mode)
      const ended = sharedNow()
      versions.forEach((v, one) => {
        ;(mode === 'hard' ? hard : soft).push([one, began, ended, v])
      })
      return
    }
    const asOf = await region.asOf()
    const v = await source.incr(`v${key}`)
    const began = sharedNow()
    if (dice < 40) await region.delete(`k${key}`)
    else if (dice < 75) await region.invalidateDependencies(dep.id('row', key))
    else if (dice < 85) {
      if ((await region.set(`k${key}`, { v, key }, { dependencies: [dep.id('row', key)], asOf })) === 'lost')
        return
    } else {
      await (dice < 93 ? region.expire(`k${key}`) : region.invalidateDependencies(dep.id('row', key), 'soft'))
      soft.push([key, began, sharedNow(), v])
      return
    }
    hard.push([key, began, sharedNow(), v])
  }
  const loop = async (work: () => Promise<void>, pause: number) => {
    while (sharedNow() < end) {
      await attempt(work)
      await (pause > 0 ? sleep(random(pause)) : turn())
    }
  }
  await Promise.all([
    ...Array.from({ length: readers }, () => loop(read, 0)),
    // Each writer has keys of its own: a key's invalidations come one after another.
    ...Array.from({ length: writers }, (_, writer) => {
      const mine = own.filter((_, i) => i % writers === writer)
      return mine.length === 0 ? undefined : loop(() => write(mine), 20)
    }),
  ])
  await region.close()
  source.disconnect()
  return { reads, hard, soft, fresh, creations, failures }
}

export interface Verdict {
  readonly reads: number
  readonly hard: number
  readonly soft: number
  /** Acknowledged invalidations that came while a creator of the key ran. */
  readonly landed: number
  readonly creations: number
  readonly stale: readonly string[]
  readonly staleAsFresh: readonly string[]
  /** Stale reads that disregard only what a primary may have taken with it. */
  readonly excused: number
  readonly failures: Readonly<Record<string, number>>
}

/**
 * Whatever was read after an invalidation had been acknowledged is at least as new as what was invalidated for.
 * @param lost - when acknowledged invalidations may have been lost with a primary, in shared ms
 */
export function judge(
  histories: readonly History[],
  lost?: readonly [from: number, to: number] | undefined,
): Verdict {
  const all = (pick: (history: History) => readonly Event[]) =>
    byKey(histories.flatMap((history) => [...pick(history)]))
  const [hard, soft, creations] = [all((h) => h.hard), all((h) => h.soft), all((h) => h.creations)]
  const failures: Record<string, number> = {}
  for (const history of histories)
    for (const [code, count] of Object.entries(history.failures))
      failures[code] = (failures[code] ?? 0) + count
  let landed = 0
  for (const [key, events] of [...hard, ...soft]) {
    const made = (creations.get(key) ?? []).toSorted((a, b) => a[1] - b[1])
    for (const [, , end] of events) if (made.some(([, from, to]) => from < end && end < to)) landed++
  }
  const count = (events: ReadonlyMap<number, readonly Event[]>) =>
    [...events.values()].reduce((sum, list) => sum + list.length, 0)
  const kept = (pick: (history: History) => readonly Event[]) =>
    all((history) =>
      pick(history).filter(([, , end]) => lost === undefined || end < lost[0] || end > lost[1]),
    )
  const [reads, fresh] = [all((h) => h.reads), all((h) => h.fresh)]
  const [stale, staleAsFresh] = [
    older(
      reads,
      kept((h) => h.hard),
    ),
    older(
      fresh,
      kept((h) => h.soft),
    ),
  ]
  return {
    reads: count(reads),
    hard: count(hard),
    soft: count(soft),
    landed,
    creations: count(creations),
    stale,
    staleAsFresh,
    excused: older(reads, hard).length + older(fresh, soft).length - stale.length - staleAsFresh.length,
    failures,
  }
}

function older(
  reads: ReadonlyMap<number, readonly Event[]>,
  invalidations: ReadonlyMap<number, readonly Event[]>,
): string[] {
  const found: string[] = []
  for (const [key, events] of reads) {
    const acknowledged = (invalidations.get(key) ?? []).toSorted((a, b) => a[2] - b[2])
    let [next, least] = [0, 0]
    for (const [, begin, end, version] of events.toSorted((a, b) => a[1] - b[1])) {
      for (; next < acknowledged.length && (acknowledged[next] as Event)[2] < begin; next++)
        least = Math.max(least, (acknowledged[next] as Event)[3])
      if (version < least)
        found.push(
          `k${key}: read ${version} from ${begin.toFixed(2)} to ${end.toFixed(2)}, after ${least} was acknowledged`,
        )
    }
  }
  return found
}

function byKey(events: readonly Event[]): Map<number, Event[]> {
  const keys = new Map<number, Event[]>()
  for (const event of events) {
    const list = keys.get(event[0])
    if (list === undefined) keys.set(event[0], [event])
    else list.push(event)
  }
  return keys
}

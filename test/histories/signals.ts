/**
 * A history of stores that are joined by `broadcast` over a Redis bus whose connections are cut, and the judgement of it.
 * The truth is a version of each key, which only grows. What is promised, with `t` the moment at which an invalidation
 * was acknowledged: (1) in the process that asked for it no read that starts after `t`, (2) in another one no read that
 * starts after its message was heard there, and (3) no read at all that starts after `t + maxDelay` answers what is older.
 */

import { memory } from '../../backends/memory/index.js'
import { redisBus } from '../../backends/redis/index.js'
import { broadcast } from '../../proxies/broadcast.js'
import { dependencies } from '../../proxies/dependencies.js'
import { dep, dependsOn, makeRegion, wrap } from '../../src/index.js'
import type { Bus } from '../../src/signals/index.js'
import { sleep } from '../support/waiting.js'

const MAX_DELAY = 300

interface Read {
  readonly at: number
  readonly key: number
  readonly began: number
  readonly version: number
}

interface Write {
  readonly by: number
  readonly key: number
  readonly version: number
  readonly acknowledged: number
  /** When each process had heard all of it. */
  readonly heard: readonly (number | undefined)[]
}

export interface Verdict {
  readonly reads: number
  /** Reads for which nothing was created. */
  readonly hits: number
  readonly acknowledged: number
  readonly rejected: number
  /** Acknowledged while a creation of the key was under way in another process. */
  readonly landed: number
  readonly gaps: number
  /** Pairs of a read and an invalidation that were compared, by which of the promises. */
  readonly compared: readonly [own: number, heard: number, late: number]
  readonly stale: readonly string[]
}

export interface HistoryOptions {
  /** Where each process finds Redis. */
  readonly ports: readonly number[]
  readonly keys: number
  readonly readers: number
  readonly ms: number
}

export async function history({ ports, keys, readers, ms }: HistoryOptions): Promise<Verdict> {
  const now = () => performance.now()
  const truth = Array.from({ length: keys }, () => 0)
  const reads: Read[] = []
  const writes: { write: Omit<Write, 'heard'>; messages: readonly string[] }[] = []
  const creations: { readonly at: number; readonly key: number; readonly from: number; to: number }[] = []
  let [hits, rejected, gaps] = [0, 0, 0]
  /** What is published while a write is begun: it is said before the call returns. */
  let speaking: string[] | undefined

  const processes = ports.map((port, at) => {
    const bus = redisBus(`redis://127.0.0.1:${port}`, {
      channel: 'history',
      timeout: 1_000,
      maxDelay: MAX_DELAY,
    })
    const heard = new Map<string, number>()
    const tapped: Bus = {
      publish(message) {
        speaking?.push(message)
        return bus.publish(message)
      },
      subscribe: (listener) =>
        bus.subscribe({
          ...listener,
          heard(message) {
            listener.heard(message)
            heard.set(message, now())
          },
          down() {
            gaps++
            listener.down()
          },
        }),
    }
    const region = makeRegion<number>({
      name: 'history',
      lease: { ms: 2_000, wait: '20s' },
      backend: wrap(memory(), broadcast(tapped, { name: 'history' }), dependencies()),
    })
    return { at, bus, region, heard }
  })
  type Process = (typeof processes)[number]
  const random = (below: number) => Math.floor(Math.random() * below)
  const end = now() + ms

  const read = async ({ at, region }: Process) => {
    const key = random(keys)
    const began = now()
    let made = false
    const create = async () => {
      made = true
      const creation = { at, key, from: now(), to: Number.POSITIVE_INFINITY }
      creations.push(creation)
      const version = truth[key] as number
      dependsOn(dep.id('row', key))
      await sleep(random(15))
      creation.to = now()
      return version
    }
    const version = await region.getOrCreate(`k${key}`, create)
    if (!made) hits++
    reads.push({ at, key, began, version })
  }
  const write = async ({ at, region }: Process) => {
    const key = random(keys)
    // Without a wait between, so that versions and invalidations come in the same order.
    const version = ++(truth[key] as number)
    truth[key] = version
    const messages: string[] = (speaking = [])
    const dice = random(10)
    const done =
      dice < 5
        ? region.delete(`k${key}`)
        : dice < 9
          ? region.invalidateDependencies(dep.id('row', key))
          : region.invalidate()
    speaking = undefined
    try {
      await done
      writes.push({ write: { by: at, key, version, acknowledged: now() }, messages })
    } catch {
      rejected++
    }
  }
  const loop = async (work: () => Promise<void>, pause: number) => {
    while (now() < end) {
      await work()
      await sleep(random(pause))
    }
  }
  await Promise.all(
    processes.flatMap((one) => [
      ...Array.from({ length: readers }, () => loop(() => read(one), 3)),
      loop(() => write(one), 40),
    ]),
  )
  const judged = writes.map(({ write: one, messages }) => ({
    ...one,
    heard: processes.map(({ heard }) => {
      const times = messages.map((message) => heard.get(message))
      return times.length === 0 || times.includes(undefined) ? undefined : Math.max(...(times as number[]))
    }),
  }))
  for (const { region, bus } of processes) {
    await region.close()
    await bus.close()
  }
  const landed = judged.filter(({ key, by, acknowledged }) =>
    creations.some(
      (one) => one.key === key && one.at !== by && one.from < acknowledged && acknowledged < one.to,
    ),
  ).length
  return {
    ...judge(reads, judged),
    reads: reads.length,
    hits,
    acknowledged: judged.length,
    rejected,
    landed,
    gaps,
  }
}

export function judge(reads: readonly Read[], writes: readonly Write[]): Pick<Verdict, 'compared' | 'stale'> {
  const stale: string[] = []
  const compared: [number, number, number] = [0, 0, 0]
  const ofKey = new Map<number, Write[]>()
  for (const write of writes) ofKey.set(write.key, [...(ofKey.get(write.key) ?? []), write])
  for (const { at, key, began, version } of reads)
    for (const write of ofKey.get(key) ?? []) {
      const heard = write.heard[at]
      const own = write.by === at && began > write.acknowledged
      const told = heard !== undefined && began > heard
      const late = began > write.acknowledged + MAX_DELAY
      if (own) compared[0]++
      if (told) compared[1]++
      if (late) compared[2]++
      if ((own || told || late) && version < write.version)
        stale.push(
          `k${key}: process ${at} read ${version} at ${began.toFixed(1)}, after ${write.version} was acknowledged at ${write.acknowledged.toFixed(1)} by ${write.by}, heard at ${heard?.toFixed(1) ?? 'never'}`,
        )
    }
  return { compared, stale }
}

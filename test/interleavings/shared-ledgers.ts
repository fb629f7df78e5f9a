/**
 * The ledgers of Redis Cluster and of memcached as they are shipped, over servers in this process whose every command
 * on a key is a step. The effect of the scripts of Redis is written down here once more; `shared-ledgers.test.ts` holds the two
 * together.
 */

import type { Commands, Version } from '../../backends/memcached/client/commands.js'
import { CLOCK, LIFE, STAMP, wireName } from '../../backends/memcached/format.js'
import { ledgerOf } from '../../backends/memcached/ledger.js'
import type { ScriptCall } from '../../backends/redis/client/script-runner.js'
import * as scripts from '../../backends/redis/client/scripts.js'
import { clusterLedger } from '../../backends/redis/cluster-ledger.js'
import { clockKeys, parseClock, parseStamp, stampKey } from '../../backends/redis/format.js'
import { epochLedger } from '../../src/ledger/epoch-ledger.js'
import type { Ledger } from '../../src/ledger/ledger.js'
import type { Schedule } from './explore.js'
import { type Touched, watched } from './moments.js'

/** A server that several processes share, each by a ledger of its own. */
export interface SharedLedger {
  ledger(): Ledger
  /** Forgets a record, as a server does that evicts or has lost it. */
  loseClock(): void
  loseStamp(name: string): void
}

/** The names under which its records are watched. */
type Steps = Pick<Schedule, 'step' | 'touch'>

/** The name of the clock in `src/dependencies/tracking-layer.ts`. */
const THE_CLOCK = '~clock'

/** How long the ledger of a cluster waits before it looks at another process's placeholder again, in ms. */
export const PATIENCE = 5

/** Stands still: then the clock of a ledger has nothing but its own counting to go by. */
const MICROSECONDS = 1_000

interface Ring {
  readonly scores: Map<string, number>
}

/** Keys of Redis, with the scripts that the ledger of a cluster runs on them. */
export function redisTwin(touch: Schedule['touch'] = () => {}) {
  let time = MICROSECONDS
  const microseconds = () => time
  /** The ends of the marks of transactions, by the key of the clock's pending ones. */
  const marks = watched<ReadonlyMap<string, number>>('marks', touch, (ends) =>
    JSON.stringify([...ends].sort()),
  )
  const marksOf = (key: string): ReadonlyMap<string, number> => marks.get(key) ?? new Map()
  const texts = watched<string>('text', touch, String)
  const rings = watched<Ring>('ring', touch, ({ scores }) => JSON.stringify([...scores].sort()))

  const readStamp = (key: string) => {
    const stamp = parseStamp(texts.has(key) ? Buffer.from(texts.get(key) as string) : undefined)
    return stamp
  }
  const writeStamp = (key: string, hard: number, soft: number) =>
    texts.set(key, soft > 0 ? `${hard} ${soft}` : `${hard}`)
  /** The time at which a creation begins, as `start` in the scripts. */
  const startsAt = (clock: string, pending: string, { epoch, at }: { epoch: string; at: number }) => {
    const last = Math.max(...marksOf(pending).values())
    if (last === Number.NEGATIVE_INFINITY) return { epoch, at, begins: at }
    if (last > microseconds()) return { epoch, at, begins: at - 1 }
    marks.delete(pending)
    const moved = Math.max(at + 2, microseconds())
    texts.set(clock, `${epoch}:${moved}`)
    return { epoch, at: moved, begins: moved }
  }
  const mark = (pending: string, mode: string, transaction: string, ms: string, n: number): string => {
    if (transaction === '') return ''
    const ends = new Map([...marksOf(pending)].filter(([, end]) => end > microseconds()))
    ends.delete(mode + transaction)
    const until = Math.max(n, microseconds()) + Number(ms) * 1_000
    if (ms !== '') ends.set(mode + transaction, until)
    if (ends.size === 0) marks.delete(pending)
    else marks.set(pending, ends)
    return ms === '' ? '' : `${until}`
  }
  const ensureClock = (key: string, fresh: string) => {
    const found = parseClock(texts.get(key))
    if (found !== undefined) return found
    const made = { epoch: fresh, at: microseconds() }
    texts.set(key, `${made.epoch}:${made.at}`)
    return made
  }
  const origin = (ring: string, member: string, a: number, n: number) => {
    if (a >= n) return n
    const scores = rings.get(ring)?.scores
    const floor = scores?.get('')
    const last = scores?.get(member)
    return floor !== undefined && floor <= a && (last === undefined || last <= a) ? a : n
  }
  const programs = new Map<scripts.Script, (keys: readonly string[], args: readonly string[]) => unknown>([
    [
      scripts.claimStamp,
      ([key = ''], [, mark = '']) => {
        const text = texts.get(key)
        if (text !== undefined) return text
        texts.set(key, mark)
        return null
      },
    ],
    [
      scripts.readClock,
      ([clock = '', ring = '', pending = ''], [fresh = '', ...questions]) => {
        const { epoch, at, begins } = startsAt(clock, pending, ensureClock(clock, fresh))
        const answer = [`${epoch}:${at}`, `${begins}`]
        for (let i = 0; i < questions.length; i += 2)
          answer.push(`${origin(ring, questions[i] as string, Number(questions[i + 1]), at)}`)
        return answer
      },
    ],
    [
      scripts.completeStamp,
      ([key = ''], [mark, moment]) => {
        if (texts.get(key) !== mark) return 0
        writeStamp(key, Number(moment), 0)
        return 1
      },
    ],
    [
      scripts.advanceClock,
      (
        [clock = '', ring = '', pending = ''],
        [fresh = '', mode = '', transaction = '', ms = '', ...stamps],
      ) => {
        const found = parseClock(texts.get(clock))
        const now = microseconds()
        const before = found?.at ?? now
        const n = Math.max(before + 2, now)
        texts.set(clock, `${found?.epoch ?? fresh}:${n}`)
        const scores = new Map(rings.get(ring)?.scores)
        if (!scores.has('')) scores.set('', before)
        for (const stamp of stamps) scores.set(stamp, n - 1)
        rings.set(ring, { scores })
        return [`${n - 1}`, mark(pending, mode, transaction, ms, n), null]
      },
    ],
    [
      scripts.moveStamp,
      ([key = ''], [moment, mode = '', transaction = '', ends = '']) => {
        if (readStamp(key) === undefined && ends === '') return texts.delete(key) ? 1 : 0
        texts.set(key, movedStamp(texts.get(key), Number(moment), mode, { transaction, ends }))
        return 1
      },
    ],
  ])
  return {
    texts,
    rings,
    marks,
    /** The lives of all marks pass. */
    expire: () => {
      time += 1e9
    },
    run(script: scripts.Script, keys: readonly string[], args: readonly string[]): unknown {
      const program = programs.get(script)
      if (program === undefined) throw new Error('Expected a script of the cluster’s ledger')
      return program(keys, args)
    },
  }
}

/** A stamp with its marks, after an invalidation or another mark. */
function movedStamp(
  text: string | undefined,
  n: number,
  mode: string,
  { transaction, ends }: { transaction: string; ends: string },
): string {
  const [, first, second, , ownHard, ownSoft, list = ''] =
    /^(\d+)(?: (\d+))?( (\d+) (\d+) (.*))?$/.exec(text ?? '') ?? []
  const own = { h: Number(ownHard ?? first ?? n), s: Number(ownSoft ?? second ?? 0) }
  const which = mode === 'hard' ? 'h' : 's'
  const left: string[] = []
  for (const [whole, of, end, by] of list.matchAll(/([hs])(\d+)=(\S+)/g)) {
    if (by === transaction && of === which) continue
    if (Number(end) > n) left.push(whole)
    else own[of as 'h' | 's'] = Math.max(own[of as 'h' | 's'], Number(end))
  }
  own[which] = Math.max(own[which], n)
  if (ends !== '') left.push(`${which}${ends}=${transaction}`)
  const latest = (of: string) =>
    Math.max(
      own[of as 'h' | 's'],
      ...left.filter((one) => one.startsWith(of)).map((one) => Number(/\d+/.exec(one)?.[0])),
    )
  const soft = latest('s') > 0 || left.length > 0 ? ` ${latest('s')}` : ''
  return `${latest('h')}${soft}${left.length > 0 ? ` ${own.h} ${own.s} ${left.join(' ')}` : ''}`
}

export function clusterSteps({ step, touch }: Steps): SharedLedger & { expire(): void } {
  const server = redisTwin(touch)
  const run = ({ script, keys, args }: ScriptCall) => {
    const given = typeof args === 'function' ? args(Number.POSITIVE_INFINITY) : args
    return step(`${nameOf(script)} ${keys[0]}`, () => server.run(script, keys, given.map(String)), {})
  }
  const get = (key: string) => step(`get ${key}`, () => server.texts.get(key), { asks: true })
  const ledger = () =>
    clusterLedger({
      stampLifetime: 60_000,
      pendingFor: 1_000,
      // Of near caches, of which there are none.
      journal: { clock: { now: () => 0 }, recordNames: async () => {}, namesChanged() {} } as never,
      runner: { run, runDurably: run, runAll: (calls) => Promise.all(calls.map(run)) },
      reads: {
        get: () => Promise.reject(new Error('Expected the ledger to read no entries')),
        getMulti: () => Promise.reject(new Error('Expected the ledger to read no entries')),
        // On a cluster they are commands to several nodes.
        readLedger: async (clock, stamps) => {
          const [now, ...found] = await Promise.all([get(clock), ...stamps.map(get)])
          return {
            now: parseClock(now),
            stamps: found.map((text) => parseStamp(text === undefined ? undefined : Buffer.from(text))),
          }
        },
      },
    })
  return {
    ledger,
    expire: () => server.expire(),
    loseClock: () => void server.texts.delete(clockKeys(THE_CLOCK).clock),
    loseStamp: (name) => void server.texts.delete(stampKey(THE_CLOCK, name)),
  }
}

function nameOf(script: scripts.Script): string {
  return Object.entries(scripts).find(([, one]) => one === script)?.[0] ?? 'unknown'
}

export function memcachedSteps({ step, touch }: Steps): SharedLedger & { expire(): void } {
  const items = watched<{ readonly value: Buffer; readonly cas: bigint }>('item', touch)
  /** The items of the lives of transactions' marks. */
  const lives: string[] = []
  // Versions are only ever compared: the first one may have the lower version.
  let latest = 0n
  const versionOf = (key: string): Version | undefined => {
    const item = items.get(key)
    return item && { connection: 'the only one', cas: item.cas }
  }
  const put = (key: string, value: Uint8Array): Version => {
    items.set(key, { value: Buffer.from(value), cas: ++latest })
    return { connection: 'the only one', cas: latest }
  }
  const local = <R>(label: string, run: () => R, touched: Touched = {}) => step(label, run, touched)
  const commands: Commands = {
    get: (key) =>
      local(
        `get ${key}`,
        () => {
          const version = versionOf(key)
          return version && { value: items.get(key)?.value ?? Buffer.alloc(0), version }
        },
        { asks: true },
      ),
    set: (key, value, seconds, guard) =>
      local(`${guard === 'absent' ? 'add' : guard === undefined ? 'set' : 'cas'} ${key}`, () => {
        const { cas } = versionOf(key) ?? {}
        if (guard === 'absent' ? cas !== undefined : guard !== undefined && guard.cas !== cas)
          return undefined
        if (seconds > 0 && key.startsWith(LIFE)) lives.push(key)
        return put(key, value)
      }),
    delete: (key, guard) =>
      local(`delete ${key}`, () => {
        if (guard !== undefined && guard.cas !== versionOf(key)?.cas) return false
        return items.delete(key) || guard === undefined
      }),
    ping: async () => {},
    increment: (key, start, by = 1n) =>
      local(`increment ${key}`, () => {
        const item = items.get(key)
        const value = item === undefined ? start : BigInt(item.value.toString()) + by
        put(key, Buffer.from(`${value}`))
        return value
      }),
    close() {},
  }
  return {
    ledger: () => ledgerOf(commands, 1_000),
    expire() {
      for (const key of lives.splice(0)) items.delete(key)
    },
    loseClock: () => void items.delete(wireName(CLOCK, THE_CLOCK)),
    loseStamp: (name) => void items.delete(wireName(STAMP, name)),
  }
}

/** A store that can do nothing but read, write, and write where there is nothing. */
export function epochSteps({ step, touch }: Steps): SharedLedger {
  const texts = watched<string>('text', touch, String)
  const ledger = () =>
    epochLedger({
      get: (key) => step(`get ${key}`, () => texts.get(key), { asks: true }),
      set: (key, value) => step(`set ${key}`, () => void texts.set(key, value), {}),
      add: (key, value) => step(`add ${key}`, () => void (texts.has(key) || texts.set(key, value)), {}),
    })
  return { ledger, loseClock: () => void texts.delete(THE_CLOCK), loseStamp: () => {} }
}

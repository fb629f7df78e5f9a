/**
 * The checker of histories. An acknowledged change binds a process from some moment on: every read that begins there later
 * finds at least the version of the change. For a store that processes share this moment is the end of the change.
 */
import type { Event, Happened } from './events.js'

type Of<K extends Event['kind']> = Extract<Happened, { readonly kind: K }>
export type Change = Of<'change'>

/** From when on a change binds the reads of a process; `undefined`: it does not. */
export type Binding = (change: Change, process: number) => number | undefined

/** ms after which a bus that lost a message has made every process drop its values. */
export const MAX_DELAY = 300

/**
 * Stores joined by a bus: a change binds its own process at once, another one when it has heard all of its messages, and
 * every process after `MAX_DELAY`, though messages were lost.
 */
export function busBindings(events: readonly Happened[]): Readonly<Record<string, Binding>> {
  const times = new Map<string, number>()
  for (const event of events)
    if (event.kind === 'heard') times.set(JSON.stringify([event.process, event.message]), event.end)
  return {
    'in its own process': (change, process) => (process === change.process ? change.end : undefined),
    'after it was heard'({ messages }, process) {
      const heard = messages.map((message) => times.get(JSON.stringify([process, message])) ?? Infinity)
      return heard.length > 0 && heard.every(Number.isFinite) ? Math.max(...heard) : undefined
    },
    'after the delay': ({ end }) => end + MAX_DELAY,
  }
}

const atItsEnd: Binding = ({ end }) => end
const ofOthers: Binding = ({ process, end }, reader) => (reader === process ? undefined : end)

export interface Verdict {
  readonly counts: Readonly<
    Record<
      | 'reads'
      /** Reads for which nothing was created, at least. */
      | 'hits'
      | 'changes'
      | 'hard'
      | 'soft'
      /** Changes that were acknowledged while another process created one of their rows. */
      | 'landed'
      | 'creations'
      | 'gaps'
      | 'failed',
      number
    >
  >
  readonly stale: readonly string[]
  readonly staleAsFresh: readonly string[]
  /** For each binding, the pairs of a read and a change that it binds. */
  readonly compared: Readonly<Record<string, number>>
  readonly wrong: readonly string[]
  /** ms: how long after the acknowledgement of another process's hard change the last read began that was older. */
  readonly staleness: number
  readonly failures: Readonly<Record<string, number>>
}

export function check(
  events: readonly Happened[],
  bindings: (events: readonly Happened[]) => Readonly<Record<string, Binding>> = () => ({ all: atItsEnd }),
): Verdict {
  const of = <K extends Event['kind']>(kind: K) =>
    events.filter((event): event is Of<K> => event.kind === kind)
  const [reads, changes, creations] = [of('read'), of('change'), of('creation')]
  const [hard, soft] = [
    changes.filter(({ mode }) => mode === 'hard'),
    changes.filter(({ mode }) => mode === 'soft'),
  ]
  const fresh = reads.filter((read) => read.fresh)
  const stale: string[] = []
  const staleAsFresh: string[] = []
  const compared: Record<string, number> = {}
  for (const [name, binding] of Object.entries(bindings(events))) {
    const byHard = compare(reads, hard, binding)
    const bySoft = compare(fresh, soft, binding)
    stale.push(...byHard.older)
    staleAsFresh.push(...bySoft.older)
    compared[name] = byHard.pairs + bySoft.pairs
  }
  const failures: Record<string, number> = {}
  for (const { code } of of('failure')) failures[code] = (failures[code] ?? 0) + 1
  return {
    counts: {
      reads: reads.length,
      hits: Math.max(0, reads.length - creations.length),
      changes: changes.length,
      hard: hard.length,
      soft: soft.length,
      landed: countLanded(changes, creations),
      creations: creations.length,
      gaps: of('gap').length,
      failed: of('failure').length,
    },
    stale,
    staleAsFresh,
    compared,
    wrong: of('wrong').map(({ text }) => text),
    staleness: compare(reads, hard, ofOthers).latest,
    failures,
  }
}

/** Stale reads that disregard only changes which `kept` does not bind. */
export function excused(events: readonly Happened[], kept: Binding): number {
  const count = (binding: Binding) => {
    const { stale, staleAsFresh } = check(events, () => ({ binding }))
    return stale.length + staleAsFresh.length
  }
  return count(atItsEnd) - count(kept)
}

function compare(reads: readonly Of<'read'>[], changes: readonly Change[], binding: Binding) {
  const bound = grouped(changes, ({ of }) => of.map(([subject]) => subject))
  const older: string[] = []
  let pairs = 0
  let latest = 0
  for (const [place, group] of grouped(reads, placesOf)) {
    const [process, subject] = JSON.parse(place) as [number, string]
    const due = (bound.get(subject) ?? [])
      .flatMap((change) => {
        const from = binding(change, process)
        const version = change.of.find(([name]) => name === subject)?.[1] ?? 0
        return from === undefined ? [] : [{ from, version }]
      })
      .sort((one, other) => one.from - other.from)
    // The highest version so far of each change, in which the first one beyond a read is found.
    let highest = 0
    const upTo = due.map(({ version }) => (highest = Math.max(highest, version)))
    let [next, least] = [0, 0]
    for (const { begin, version } of group.toSorted((one, other) => one.begin - other.begin)) {
      for (let change = due[next]; change !== undefined && change.from < begin; change = due[++next])
        least = Math.max(least, change.version)
      pairs += next
      if (version >= least) continue
      older.push(`${subject}: process ${process} read ${version} at ${begin.toFixed(2)}, bound to ${least}`)
      const missed = due[firstThat(upTo, (most) => most > version)]
      latest = Math.max(latest, begin - (missed?.from ?? begin))
    }
  }
  return { older, pairs, latest }
}

function placesOf({ process, row, direct }: Of<'read'>): string[] {
  const subjects = direct ? [`k${row}`, `d${row}`] : [`d${row}`]
  return subjects.map((subject) => JSON.stringify([process, subject]))
}

function countLanded(changes: readonly Change[], creations: readonly Of<'creation'>[]): number {
  const longest = creations.reduce((most, { begin, end }) => Math.max(most, end - begin), 0)
  const byRow = grouped(
    creations.toSorted((one, other) => one.begin - other.begin),
    ({ row }) => [String(row)],
  )
  return changes.filter((change) =>
    change.of.some(([subject]) => {
      const all = byRow.get(subject.slice(1)) ?? []
      for (let i = firstThat(all, ({ begin }) => begin >= change.end - longest); ; i++) {
        const creation = all[i]
        if (creation === undefined || creation.begin >= change.end) return false
        if (creation.process !== change.process && change.end < creation.end) return true
      }
    }),
  ).length
}

/** The index of the first one that is late, in a list in which all behind it are. */
function firstThat<T>(list: readonly T[], isLate: (one: T) => boolean): number {
  let [low, high] = [0, list.length]
  while (low < high) {
    const middle = (low + high) >> 1
    if (isLate(list[middle] as T)) high = middle
    else low = middle + 1
  }
  return low
}

function grouped<T>(events: readonly T[], names: (event: T) => readonly string[]): Map<string, T[]> {
  const groups = new Map<string, T[]>()
  for (const event of events)
    for (const name of names(event)) {
      const group = groups.get(name)
      if (group === undefined) groups.set(name, [event])
      else group.push(event)
    }
  return groups
}

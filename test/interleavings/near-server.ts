/** One server, which records each change in the step that makes it. The mirror and the layers over it are the shipped ones. */
import { type CachedValue, defineBackend } from '../../src/index.js'
import { type JournalReply, type JournalStep, Mirror, mirrorTail } from '../../src/ledger/mirror.js'
import {
  FailedChanges,
  RING,
  type SimulatedStore,
  type StoreClient,
  simulatedEntry,
  type Wire,
} from './near-store.js'

class SimulatedJournal {
  at = 100
  floor = 100
  readonly ring = new Map<string, number>()
  constructor(
    readonly id: string,
    public epoch: string,
  ) {}

  advance(names: readonly string[]): Omit<JournalStep, 'server'> {
    const before = this.at
    this.at += 1
    for (const name of names) {
      this.ring.delete(name)
      this.ring.set(name, this.at)
    }
    for (const [name, at] of this.ring) {
      if (this.ring.size <= RING) break
      this.ring.delete(name)
      this.floor = Math.max(this.floor, at)
    }
    return { epoch: this.epoch, before, at: this.at }
  }

  copy(): SimulatedJournal {
    const copy = new SimulatedJournal(this.id, this.epoch)
    Object.assign(copy, { at: this.at, floor: this.floor })
    for (const [name, at] of this.ring) copy.ring.set(name, at)
    return copy
  }
}

interface Stored {
  readonly version: number
  readonly epoch: string
  readonly asOf: number
}

/** The content of the server, which a failover may set back. */
class Content {
  keys: SimulatedJournal | undefined
  names = new SimulatedJournal('names', 'e0')
  entries = new Map<string, Stored>()
  stamps = new Map<string, number>()

  copy(): Content {
    const copy = new Content()
    copy.keys = this.keys?.copy()
    copy.names = this.names.copy()
    copy.entries = new Map(this.entries)
    copy.stamps = new Map(this.stamps)
    return copy
  }
}

interface Listener {
  readonly wire: Wire
  readonly mirror: Mirror
}

export class SimulatedServer implements SimulatedStore {
  #epochs = 0
  #failovers = 0
  #server = 'server 0'
  #content = new Content()
  #backup = this.#content.copy()
  readonly #listeners: Listener[] = []

  constructor(
    private readonly pushes: boolean,
    private readonly choose: (most: number) => number,
  ) {}

  current(key: string): number | undefined {
    const { entries, stamps, names } = this.#content
    const entry = entries.get(key)
    return entry?.epoch === names.epoch && (stamps.get(key) ?? 0) <= entry.asOf ? entry.version : undefined
  }

  put(key: string, version: number): void {
    const { entries, names } = this.#content
    entries.set(key, { version, epoch: names.epoch, asOf: names.at })
  }

  backUp(): void {
    this.#backup = this.#content.copy()
  }

  failOver(): void {
    this.#content = this.#backup.copy()
    this.#server = `server ${++this.#failovers}`
  }

  lose(): void {
    const kind = this.choose(3)
    if (kind === 0) this.#content.keys = undefined
    else {
      const { at } = this.#content.names
      if (kind === 2) this.#content = new Content()
      const names = new SimulatedJournal('names', `e${++this.#epochs}`)
      this.#content.names = Object.assign(names, { at: at + 1, floor: at + 1 })
    }
  }

  connect(wire: Wire): StoreClient {
    const send = <R>(execute: () => R) => wire.send('', execute)
    const mirror = new Mirror({ pull: (positions) => send(() => this.#pull(positions)) }, wire.clock)
    mirror.follow('keys')
    this.#listeners.push({ wire, mirror })
    const failed = new FailedChanges()
    const change = (key: string, how: 'key' | 'name') => {
      const journal = how === 'key' ? 'keys' : 'names'
      const attempt = async () => {
        const step = await send(() => this.#change(key, how))
        mirror.changed(journal, [key], step)
      }
      return failed.attempt(key, attempt, () => mirror.changed(journal, [key]))
    }
    const now = () => send(() => ({ epoch: this.#content.names.epoch, at: this.#content.names.at }))
    const far = defineBackend<CachedValue>({
      name: 'simulated',
      stores: 'values',
      timeout: Number.POSITIVE_INFINITY,
      get: async (key) => {
        if (failed.hides(key)) return undefined
        const found = await send(() => this.#get(key))
        await wire.pass()
        return failed.hides(key) ? undefined : found
      },
      set: () => 'refused',
      delete: (key) => change(key, 'key'),
      ledger: {
        shared: true,
        open: (clock) => ({
          storeClock: clock,
          read: (names) =>
            send(() => ({
              now: { epoch: this.#content.names.epoch, at: this.#content.names.at },
              stamps: names.map((name) => ({ hard: this.#content.stamps.get(name) ?? 0, soft: 0 })),
            })),
          now,
          invalidate: ([name]) => change(name as string, 'name'),
          tail: () => ({
            ...mirrorTail(mirror, { keys: 'keys', names: 'names' }),
            // Questions that are due are steps of the schedule.
            catchUp: () => wire.beat(),
            join: () => () => {},
          }),
        }),
      },
    })
    return { far, prove: () => mirror.prove(), disconnected: () => mirror.disconnected() }
  }

  #get(key: string): CachedValue | undefined {
    const entry = this.#content.entries.get(key)
    return entry && simulatedEntry(key, entry.version, entry.epoch, entry.asOf)
  }

  #change(key: string, how: 'key' | 'name'): JournalStep | undefined {
    const content = this.#content
    if (how === 'key') content.entries.delete(key)
    else content.stamps.set(key, content.names.at + 1)
    const journal = how === 'key' ? content.keys : content.names
    if (journal === undefined) return undefined
    const step = { server: this.#server, ...journal.advance([key]) }
    if (this.pushes)
      for (const { wire, mirror } of this.#listeners)
        wire.deliver(() => mirror.received(journal.id, [key], step))
    return step
  }

  #pull(positions: readonly { journal: string; since: { at: number } | undefined }[]): JournalReply {
    const content = this.#content
    content.keys ??= new SimulatedJournal('keys', `k${++this.#epochs}`)
    const journals = positions.map(({ journal, since }) => {
      const { at, floor, epoch, ring } = (
        journal === 'keys' ? content.keys : content.names
      ) as SimulatedJournal
      const changed = [...ring].map(([name, when]) => ({ name, at: when }))
      return {
        now: { epoch, at },
        floor,
        changed: since === undefined ? [] : changed.filter((change) => change.at > since.at),
      }
    })
    return { server: this.#server, journals }
  }
}

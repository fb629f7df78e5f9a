/**
 * A Redis Cluster, each of whose slots is on a node of its own. Everything above its commands is shipped: the ledger, the writes,
 * the reads, the journal and its mirror. A node has texts and rings; a script changes them in one step.
 */

import type { ScriptCall } from '../../backends/redis/client/script-runner.js'
import type { Script } from '../../backends/redis/client/scripts.js'
import * as scripts from '../../backends/redis/client/scripts.js'
import { clusterLedger } from '../../backends/redis/cluster-ledger.js'
import { entryWrites } from '../../backends/redis/entries.js'
import { clockKeys, parseClock, parseStamp, slotOf, stampKey } from '../../backends/redis/format.js'
import { markerOf } from '../../backends/redis/near/cluster-journals.js'
import { journalKeys, KEYS } from '../../backends/redis/near/format.js'
import { nearJournal } from '../../backends/redis/near/journal.js'
import { clusterBatcher } from '../../backends/redis/reads/cluster-batcher.js'
import { ReadBatcher } from '../../backends/redis/reads/read-batcher.js'
import type { RedisStore } from '../../backends/redis/store.js'
import { type CachedValue, defineBackend } from '../../src/index.js'
import { bindLedger, CHAIN_CLOCK } from '../../src/ledger/ledger.js'
import {
  FailedChanges,
  RING,
  type SimulatedStore,
  type StoreClient,
  simulatedEntry,
  type Wire,
} from './near-store.js'

interface Ring {
  readonly floor: number
  /** The oldest first. */
  readonly changes: readonly (readonly [name: string, at: number])[]
}

/** The content of a node, which a failover may set back. */
interface Node {
  readonly id: string
  readonly texts: Map<string, string>
  readonly rings: Map<string, Ring>
}

type Run = (node: Node, keys: readonly string[], args: readonly string[]) => unknown

const CLOCK = clockKeys(CHAIN_CLOCK)

export class SimulatedCluster implements SimulatedStore {
  #nodes = new Map<number, Node>()
  #backup = new Map<number, Node>()
  #ids = 0
  readonly #listeners: ((text: string) => void)[] = []
  readonly #scripts: ReadonlyMap<Script, Run>

  constructor(
    private readonly clock: { now(): number },
    private readonly pushes: boolean,
    private readonly choose: (most: number) => number,
  ) {
    this.#scripts = new Map<Script, Run>([
      [scripts.remove, ({ texts }, [key = '']) => Number(texts.delete(key))],
      [scripts.advanceClock, (...call) => this.#advanceClock(...call)],
      [scripts.moveStamp, (...call) => this.#moveStamp(...call)],
      [scripts.recordChanges, (...call) => this.#recordChanges(...call)],
      [scripts.pullOne, (...call) => this.#pullOne(...call)],
    ])
  }

  current(key: string): number | undefined {
    const [version, epoch, asOf] = this.#get(key)?.split(' ') ?? []
    const now = parseClock(this.#get(CLOCK.clock))
    const stamp = this.#get(stampKey(CHAIN_CLOCK, key))
    if (epoch === undefined || now?.epoch !== epoch || Number(asOf) > now.at) return undefined
    // Where the clock stands, readers ask for no stamp: a failover may have set it back.
    return Number(asOf) === now.at || Number(stamp) <= Number(asOf) ? Number(version) : undefined
  }

  put(key: string, version: number): void {
    const { epoch, at } = this.#time(this.#nodeOf(CLOCK.clock), CLOCK.clock, `e${++this.#ids}`)
    const stamp = stampKey(CHAIN_CLOCK, key)
    if (this.#get(stamp) === undefined) this.#nodeOf(stamp).texts.set(stamp, `${at}`)
    this.#nodeOf(key).texts.set(key, `${version} ${epoch} ${at}`)
  }

  backUp(): void {
    this.#backup = new Map([...this.#nodes].map(([slot, node]) => [slot, copyOf(node)]))
  }

  failOver(): void {
    const slots = [...this.#nodes.keys()]
    const slot = slots[this.choose(slots.length)]
    if (slot === undefined) return
    const { texts, rings } = copyOf(this.#backup.get(slot) ?? this.#newNode())
    this.#nodes.set(slot, { id: `node ${++this.#ids}`, texts, rings })
  }

  lose(): void {
    const [keys, ring] = journalKeys(KEYS)
    const lost = [
      [markerOf(KEYS)],
      [markerOf(CHAIN_CLOCK)],
      [keys, ring],
      [ring],
      [CLOCK.clock, CLOCK.ring],
      [CLOCK.ring],
    ][this.choose(7)]
    if (lost === undefined) for (const { texts, rings } of this.#nodes.values()) [texts, rings].forEach(empty)
    for (const key of lost ?? []) {
      this.#nodeOf(key).texts.delete(key)
      this.#nodeOf(key).rings.delete(key)
    }
  }

  connect(wire: Wire): StoreClient {
    const lost: (() => void)[] = []
    const at = (key = '') => `${slotOf(key)}`
    const run = (call: ScriptCall) => wire.send(at(call.keys[0]), () => this.#run(call))
    const open = () =>
      new ReadBatcher({
        fetch: (keys) => wire.send(at(keys[0]), () => keys.map((key) => bytesOf(this.#get(key)))),
        timeout: Number.POSITIVE_INFINITY,
        maxWaiting: Number.POSITIVE_INFINITY,
        maxKeys: 1_000,
        maxBytes: 1_000_000,
      })
    const connection = { onLost: (listener: () => void) => void lost.push(listener) } as never
    const runner = { run, runDurably: run, runAll: () => Promise.reject(new Error('not simulated')) }
    const journal = nearJournal({
      ...{ connection, runner, prefix: '', clustered: true, channel: 'near' },
      clock: wire.clock,
    })
    this.#listeners.push((text) => wire.deliver(() => journal.received('', text)))
    const store: RedisStore = {
      ...{ connection, runner, journal, reads: clusterBatcher(at, open), channel: 'wake', prefix: '' },
      ...{ clustered: true, stampLifetime: 3_600_000, pendingFor: 0, maxValueBytes: 1_000 },
    }
    const ledger = clusterLedger(store)
    const writes = entryWrites(store, ledger)
    const opened = bindLedger(ledger.open(CHAIN_CLOCK))
    const tail = ledger.open(CHAIN_CLOCK).tail?.()
    if (tail === undefined) throw new Error('Expected a tail')
    const failed = new FailedChanges()
    const remove = async (key: string) => {
      const deleted = await writes.delete(key)
      if (deleted instanceof Error) throw deleted
    }
    const far = defineBackend<CachedValue>({
      name: 'simulated cluster',
      stores: 'values',
      timeout: Number.POSITIVE_INFINITY,
      get: async (key) => {
        if (failed.hides(key)) return undefined
        const found = await store.reads.get(key)
        const [version, epoch = '', asOf] = found?.toString().split(' ') ?? []
        return version === undefined || failed.hides(key)
          ? undefined
          : simulatedEntry(key, Number(version), epoch, Number(asOf))
      },
      set: () => 'refused',
      delete: (key) =>
        failed.attempt(
          key,
          () => remove(key),
          () => journal.keysChanged([key]),
        ),
      ledger: {
        shared: true,
        open: () => ({
          ...opened,
          invalidate: (names, mode) =>
            failed.attempt(
              names[0] as string,
              async () => opened.invalidate(names, mode),
              () => journal.namesChanged(CHAIN_CLOCK, names),
            ),
          // Questions that are due are steps of the schedule.
          tail: () => ({ ...tail, catchUp: () => wire.beat(), join: () => () => {} }),
        }),
      },
    })
    return {
      far,
      prove: () => tail.prove(),
      disconnected: () => {
        for (const listener of lost) listener()
      },
    }
  }

  #newNode(): Node {
    return { id: `node ${++this.#ids}`, texts: new Map(), rings: new Map() }
  }

  #nodeOf(key: string): Node {
    const slot = slotOf(key)
    let node = this.#nodes.get(slot)
    if (node === undefined) this.#nodes.set(slot, (node = this.#newNode()))
    return node
  }

  #get(key: string): string | undefined {
    return this.#nodeOf(key).texts.get(key)
  }

  #run({ script, keys, args }: ScriptCall): unknown {
    const run = this.#scripts.get(script)
    const node = this.#nodeOf(keys[0] ?? '')
    if (run === undefined || keys.some((key) => this.#nodeOf(key) !== node) || typeof args === 'function')
      throw new Error(`Expected a script that is simulated, with the keys of one slot, got ${keys.join(' ')}`)
    return run(node, keys, args.map(String))
  }

  /** The time of all nodes, in µs. */
  #microseconds(): number {
    return 1_000_000 + this.clock.now() * 1_000
  }

  /** The time of a clock, which begins if there is none. */
  #time({ texts }: Node, clock: string, epoch: string) {
    const known = parseClock(texts.get(clock))
    if (known !== undefined) return known
    const at = this.#microseconds()
    texts.set(clock, `${epoch}:${at}`)
    return { epoch, at }
  }

  #advance(node: Node, [clock = '', ring = '']: readonly string[], fresh: string, names: readonly string[]) {
    const known = parseClock(node.texts.get(clock))
    const { epoch, at: before } = known ?? { epoch: fresh, at: this.#microseconds() }
    const at = Math.max(before + 2, this.#microseconds())
    node.texts.set(clock, `${epoch}:${at}`)
    const { floor, changes } = node.rings.get(ring) ?? { floor: before, changes: [] }
    const others = changes.filter(([name]) => !names.includes(name))
    const all = [...others, ...names.map((name) => [name, at - 1] as const)]
    const gone = all.slice(0, Math.max(0, all.length - RING))
    node.rings.set(ring, {
      floor: Math.max(floor, ...gone.map(([, when]) => when)),
      changes: all.slice(gone.length),
    })
    return { epoch, before, at }
  }

  #advanceClock(...[node, keys, args]: Parameters<Run>): unknown {
    const [epoch = '', , , , ...stamps] = args
    const { at } = this.#advance(node, keys, epoch, stamps)
    return [`${at - 1}`, '', node.texts.get(keys[3] as string) ?? null]
  }

  #moveStamp({ texts }: Node, [stamp = '']: readonly string[], [at = '']: readonly string[]): unknown {
    const known = parseStamp(bytesOf(texts.get(stamp)))
    if (known !== undefined) texts.set(stamp, `${Math.max(known.hard, Number(at))}`)
    return known === undefined ? 0 : 1
  }

  #recordChanges(...[node, keys, args]: Parameters<Run>): unknown {
    const [clock, , marker = ''] = keys
    const [fresh = '', , ...names] = args
    if (!node.texts.has(marker)) return null
    const { epoch, before, at } = this.#advance(node, keys, fresh, names)
    const text = JSON.stringify([clock, epoch, `${before}`, `${at}`, names])
    if (this.pushes) for (const deliver of this.#listeners) deliver(text)
    return `${epoch} ${before} ${at}`
  }

  #pullOne(...[node, keys, args]: Parameters<Run>): unknown {
    const [clock = '', ring = '', marker = ''] = keys
    const [fresh = '', mark = '', , life, since = ''] = args
    if (!node.texts.has(marker)) node.texts.set(marker, mark)
    const { epoch, at } = this.#time(node, clock, fresh)
    const known = node.rings.get(ring)
    const from = Number(since)
    const changed =
      since !== '' && known !== undefined && known.floor <= from
        ? known.changes.filter(([, when]) => when > from)
        : []
    if (life !== '' && known === undefined) node.rings.set(ring, { floor: at, changes: [] })
    const list = changed.flatMap(([name, when]) => [name, `${when}`])
    return [node.id, node.texts.get(marker), [`${epoch}:${at}`, `${known?.floor ?? at}`, ...list]]
  }
}

function copyOf({ id, texts, rings }: Node): Node {
  return { id, texts: new Map(texts), rings: new Map(rings) }
}

function empty(content: Map<unknown, unknown>): void {
  content.clear()
}

function bytesOf(text: string | undefined): Buffer | null {
  return text === undefined ? null : Buffer.from(text)
}

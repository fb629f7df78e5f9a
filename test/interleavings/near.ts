/**
 * Processes with near caches over one simulated server. The layers, the mirror and the store of the copies are the shipped ones;
 * the server, its connections, the messages and the time are stepped through by a schedule.
 */
import { memory } from '../../backends/memory/index.js'
import { near } from '../../proxies/near.js'
import { track } from '../../src/dependencies/tracking-layer.js'
import { type Backend, type CachedValue, defineBackend, wrap } from '../../src/index.js'
import { type JournalReply, type JournalStep, Mirror, mirrorTail } from '../../src/ledger/mirror.js'
import { turn } from '../support/waiting.js'

export interface NearWorld {
  readonly processes: number
  readonly keys: readonly string[]
  readonly maxStaleness: number
  /** Whether messages tell of changes at all. */
  readonly pushes: boolean
  /** Cuts, failovers, lost registrations and lost data may happen. */
  readonly faults: boolean
  /** Values are renewed without an invalidation, layers below pass replies on in any order, and copies are evicted. */
  readonly disorder?: boolean
  /** Operations that are begun: so many at random, or these in their order. */
  readonly operations: number | readonly NearOperation[]
}

export type NearOperation = readonly [process: number, kind: number]

export const READ = 0
export const READ_STRONGLY = 1
export const DELETE = 2
export const INVALIDATE = 3
const ASK = 4
const CUT = 5
const FAIL_OVER = 6
const LOSE = 7
const BACK_UP = 8
const RENEW = 9

/** Drawn with these weights; the faults come last. */
const KINDS: readonly number[] = [
  ...Array.from({ length: 14 }, () => READ),
  ...[READ_STRONGLY, READ_STRONGLY, DELETE, DELETE, INVALIDATE, INVALIDATE, ASK, ASK, ASK],
  ...[CUT, CUT, FAIL_OVER, LOSE, BACK_UP, BACK_UP],
]

const WITHOUT_FAULTS = KINDS.slice(0, KINDS.indexOf(CUT))
const RENEWING: readonly number[] = [
  ...Array.from({ length: 9 }, () => READ),
  RENEW,
  RENEW,
  RENEW,
  DELETE,
  ASK,
]

export interface NearRun {
  readonly reads: number
  readonly copies: number
  readonly invalidations: number
  readonly violations: readonly string[]
}

/** Draws a number from 0 up to, not including, `most`. */
export type Choose = (most: number) => number

/** Changes that a journal of the simulated server keeps. */
const RING = 2

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

/** An invalidation that was acknowledged, or whose failure its process saw. */
interface Done {
  readonly key: string
  readonly by: number
  readonly version: number
  readonly at: number
  /** Only its own process has to heed it. */
  readonly failed: boolean
}

export async function runNear(world: NearWorld, choose: Choose): Promise<NearRun> {
  const simulation = new Simulation(world, choose)
  await simulation.run()
  return simulation.result()
}

class Simulation {
  now = 0
  epochs = 0
  server = 'server 0'
  content = new Content()
  backup = this.content.copy()
  version = 0
  readonly source = new Map<string, number>()
  done: Done[] = []
  readonly violations: string[] = []
  reads = 0
  copies = 0
  failovers = 0
  readonly processes: SimulatedProcess[]

  constructor(
    readonly world: NearWorld,
    readonly choose: Choose,
  ) {
    for (const key of world.keys) this.source.set(key, 0)
    this.processes = Array.from({ length: world.processes }, (_, i) => new SimulatedProcess(i, this))
    for (const process of this.processes) process.beat()
  }

  async run(): Promise<void> {
    const { choose, world } = this
    const script = typeof world.operations === 'number' ? undefined : [...world.operations]
    let left = typeof world.operations === 'number' ? world.operations : world.operations.length
    await turn()
    if (script !== undefined) await this.warmUp()
    for (;;) {
      const steps: (() => void)[] = []
      for (const process of this.processes) steps.push(...process.steps())
      // An operation begins seldom while another step can be taken, so that most of them end before the next.
      const isDue = () => choose(world.disorder === true ? 2 : 4) === 0
      if (left > 0 && (script !== undefined || steps.length === 0 || isDue()))
        steps.push(() => {
          left--
          this.begin(script?.shift())
        })
      if (steps.length === 0) break
      // In the schedules of a script the steps say enough: time passes evenly.
      this.now += script === undefined ? ([0, 1, 3][choose(3)] as number) : 1
      steps[choose(steps.length)]?.()
      await turn()
    }
  }

  /** Every process knows the changes and has a copy. */
  async warmUp(): Promise<void> {
    for (const process of this.processes)
      for (let round = 0; round < 3; round++) {
        process.read(this.world.keys[0] as string)
        await turn()
        for (let steps = process.steps(); steps.length > 0; steps = process.steps()) {
          steps[0]?.()
          await turn()
        }
      }
  }

  begin(given?: NearOperation): void {
    const { choose, world } = this
    const process = this.processes[given?.[0] ?? choose(this.processes.length)] as SimulatedProcess
    const key = world.keys[choose(world.keys.length)] as string
    const kinds = world.disorder === true ? RENEWING : world.faults ? KINDS : WITHOUT_FAULTS
    const kind = given?.[1] ?? kinds[choose(kinds.length)]
    if (kind === READ) process.read(key)
    else if (kind === READ_STRONGLY) process.read(key, true)
    else if (kind === DELETE) process.invalidate(key, 'key')
    else if (kind === INVALIDATE) process.invalidate(key, 'name')
    else if (kind === ASK) process.beat()
    else if (kind === CUT) process.cut()
    else if (kind === FAIL_OVER) this.failOver()
    else if (kind === LOSE) this.lose()
    else if (kind === RENEW) this.renew(key)
    else this.backup = this.content.copy()
  }

  /** A process renews a value, which no change tells of. */
  renew(key: string): void {
    const { entries, names } = this.content
    if (this.current(key) === undefined) return
    this.source.set(key, ++this.version)
    entries.set(key, { version: this.version, epoch: names.epoch, asOf: names.at })
  }

  /** Another server takes over, which may lack the latest changes. */
  failOver(): void {
    this.failovers++
    this.content = this.backup.copy()
    this.server = `server ${this.failovers}`
    this.done = this.done.filter(({ key, version }) => version <= this.versionAt(key))
    for (const process of this.processes) {
      process.cut()
      process.seen.clear()
    }
  }

  versionAt(key: string): number {
    return this.current(key)?.version ?? Number.POSITIVE_INFINITY
  }

  current(key: string): Stored | undefined {
    const { entries, stamps, names } = this.content
    const entry = entries.get(key)
    return entry?.epoch === names.epoch && (stamps.get(key) ?? 0) <= entry.asOf ? entry : undefined
  }

  lose(): void {
    const kind = this.choose(3)
    if (kind === 0) this.content.keys = undefined
    else {
      const { at } = this.content.names
      if (kind === 2) this.content = new Content()
      const names = new SimulatedJournal('names', `e${++this.epochs}`)
      this.content.names = Object.assign(names, { at: at + 1, floor: at + 1 })
    }
  }

  /** As the store has it, which may have been invalidated by its name. */
  get(key: string): CachedValue | undefined {
    const entry = this.content.entries.get(key)
    if (entry === undefined) return undefined
    const snapshot = { epoch: entry.epoch, groups: [{ asOf: entry.asOf, names: [key] }] }
    return { payload: entry.version, metadata: { startedAt: 1, createdAt: 1, snapshot } }
  }

  /** A creation, in one step: the store's own fences are tested elsewhere. */
  create(key: string): void {
    const { entries, names } = this.content
    if (this.current(key) !== undefined) return
    entries.set(key, { version: this.source.get(key) as number, epoch: names.epoch, asOf: names.at })
  }

  change(key: string, how: 'key' | 'name'): JournalStep | undefined {
    const { content, server } = this
    if (how === 'key') content.entries.delete(key)
    else content.stamps.set(key, content.names.at + 1)
    const journal = how === 'key' ? content.keys : content.names
    if (journal === undefined) return undefined
    const step = { server, ...journal.advance([key]) }
    if (this.world.pushes)
      for (const process of this.processes)
        process.messages.push(() => process.mirror.received(journal.id, [key], step))
    return step
  }

  pull(positions: readonly { journal: string; since: { at: number } | undefined }[]): JournalReply {
    const { content, server } = this
    content.keys ??= new SimulatedJournal('keys', `k${++this.epochs}`)
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
    return { server, journals }
  }

  result(): NearRun {
    const { reads, copies, violations } = this
    return { reads, copies, violations, invalidations: this.done.length }
  }
}

interface Request {
  execute(): unknown
  resolve(value: unknown): void
  reject(error: Error): void
}

class SimulatedProcess {
  readonly requests: Request[] = []
  readonly replies: (() => void)[] = []
  readonly messages: (() => void)[] = []
  /** Replies that a layer below the near cache holds for a while, such as a slow decoding. */
  readonly passing = new Set<() => void>()
  readonly mirror: Mirror
  readonly chain: Backend<CachedValue>
  readonly hidden = new Map<string, number>()
  readonly seen = new Map<string, { version: number; ended: number }>()
  #underWay: Request[] = []
  #order = 0

  constructor(
    readonly index: number,
    readonly simulation: Simulation,
  ) {
    this.mirror = new Mirror(
      { pull: (positions) => this.send(() => simulation.pull(positions)) as Promise<JournalReply> },
      { now: () => simulation.now },
    )
    this.mirror.follow('keys')
    const far = this.#far()
    const { maxStaleness, disorder } = simulation.world
    const copies = disorder === true ? memory({ maxEntries: 1 }) : memory()
    const layered = wrap(far, near(copies, { maxStaleness }))
    this.chain = track(layered, far.ledger as NonNullable<typeof far.ledger>)
  }

  send(execute: () => unknown): Promise<unknown> {
    return new Promise((resolve, reject) => {
      this.requests.push({ execute, resolve, reject })
    })
  }

  steps(): (() => void)[] {
    const steps: (() => void)[] = []
    const request = this.requests[0]
    if (request !== undefined)
      steps.push(() => {
        this.requests.shift()
        this.#underWay.push(request)
        const value = request.execute()
        this.replies.push(() => {
          this.#underWay = this.#underWay.filter((other) => other !== request)
          request.resolve(value)
        })
      })
    if (this.replies.length > 0) steps.push(() => this.replies.shift()?.())
    for (const pass of this.passing)
      steps.push(() => {
        this.passing.delete(pass)
        pass()
      })
    if (this.messages.length > 0) {
      steps.push(() => this.messages.shift()?.())
      if (this.simulation.world.faults) steps.push(() => void this.messages.shift())
    }
    return steps
  }

  /** Requests that the server has not received are lost; of the others it may have executed some. */
  cut(): void {
    const lost = [...this.#underWay, ...this.requests.splice(0)]
    this.#underWay = []
    this.replies.length = 0
    this.messages.length = 0
    this.mirror.disconnected()
    for (const { reject } of lost) reject(new Error('cut'))
    // Subscribed again.
    this.messages.push(() => this.mirror.catchUp())
  }

  beat(): void {
    Promise.resolve(this.mirror.prove()).catch(() => {})
  }

  read(key: string, strong = false): void {
    const { simulation, chain } = this
    const { maxStaleness } = simulation.world
    const start = simulation.now
    const begun = ++this.#order
    const bound = strong ? 0 : maxStaleness
    const required = simulation.done.filter(
      (one) =>
        one.key === key &&
        (one.by === this.index || (!one.failed && (bound === 0 ? one.at <= start : one.at < start - bound))),
    )
    const before = this.seen.get(key)
    const failovers = simulation.failovers
    const finish = (entry: CachedValue | undefined): void => {
      simulation.reads++
      if (entry === undefined) return void this.send(() => simulation.create(key)).catch(() => {})
      if (entry.metadata.near !== undefined) simulation.copies++
      const version = entry.payload as number
      if (failovers !== simulation.failovers) return
      for (const one of required)
        if (version < one.version && simulation.done.includes(one))
          simulation.violations.push(
            `process ${this.index} read ${key}@${version} from ${start}, invalidated to ${one.version} at ${one.at} by ${one.by}`,
          )
      if (before !== undefined && before.ended < begun && version < before.version)
        simulation.violations.push(`process ${this.index} went back from ${before.version} to ${version}`)
      const last = this.seen.get(key)
      if (last === undefined || last.version < version) this.seen.set(key, { version, ended: ++this.#order })
    }
    const get = () => chain.get(key)
    Promise.resolve(strong ? chain.near?.proved([key], get, 0) : get()).then(finish, () => {})
  }

  invalidate(key: string, how: 'key' | 'name'): void {
    const { simulation } = this
    const version = ++simulation.version
    simulation.source.set(key, version)
    const acknowledge = (failed: boolean) =>
      simulation.done.push({ key, by: this.index, version, at: simulation.now, failed })
    const work = how === 'key' ? this.chain.delete(key) : this.chain.tracker?.invalidate([key], 'hard')
    Promise.resolve(work).then(
      () => acknowledge(false),
      () => acknowledge(true),
    )
  }

  /** As the backends do: a change is told to the mirror whatever its outcome, and a failed one hides its key until it is repeated. */
  async #change(key: string, how: 'key' | 'name'): Promise<void> {
    const journal = how === 'key' ? 'keys' : 'names'
    try {
      const step = await this.send(() => this.simulation.change(key, how))
      this.mirror.changed(journal, [key], step as JournalStep | undefined)
    } catch (error) {
      this.mirror.changed(journal, [key])
      this.hidden.set(key, (this.hidden.get(key) ?? 0) + 1)
      this.#repeat(key, how)
      throw error
    }
  }

  #repeat(key: string, how: 'key' | 'name'): void {
    const journal = how === 'key' ? 'keys' : 'names'
    this.send(() => this.simulation.change(key, how)).then(
      () => {
        this.mirror.changed(journal, [key])
        this.hidden.set(key, (this.hidden.get(key) ?? 1) - 1)
      },
      () => this.#repeat(key, how),
    )
  }

  #far(): Backend<CachedValue> {
    const { simulation, mirror } = this
    return defineBackend<CachedValue>({
      name: 'simulated',
      stores: 'values',
      timeout: Number.POSITIVE_INFINITY,
      get: async (key) => {
        if ((this.hidden.get(key) ?? 0) > 0) return undefined
        const found = (await this.send(() => simulation.get(key))) as CachedValue | undefined
        if (simulation.world.disorder === true) await new Promise<void>((pass) => this.passing.add(pass))
        return (this.hidden.get(key) ?? 0) > 0 ? undefined : found
      },
      set: () => 'refused',
      delete: (key) => this.#change(key, 'key'),
      ledger: {
        shared: true,
        open: (clock) => ({
          storeClock: clock,
          read: async (names) =>
            (await this.send(() => ({
              now: { epoch: simulation.content.names.epoch, at: simulation.content.names.at },
              stamps: names.map((name) => ({ hard: simulation.content.stamps.get(name) ?? 0, soft: 0 })),
            }))) as never,
          now: async () =>
            (await this.send(() => ({
              epoch: simulation.content.names.epoch,
              at: simulation.content.names.at,
            }))) as never,
          invalidate: async ([name]) => {
            await this.#change(name as string, 'name')
          },
          tail: () => ({
            ...mirrorTail(mirror, { keys: 'keys', names: 'names' }),
            // Questions that are due are steps of the schedule.
            catchUp: () => this.beat(),
            join: () => () => {},
          }),
        }),
      },
    })
  }
}

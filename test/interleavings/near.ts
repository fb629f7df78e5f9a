/**
 * Processes with near caches over one simulated store. The layers, the mirror and the store of the copies are the shipped ones;
 * the servers, their connections, the messages and the time are stepped through by a schedule.
 */
import { memory } from '../../backends/memory/index.js'
import { near } from '../../proxies/near.js'
import { track } from '../../src/dependencies/tracking-layer.js'
import { type Backend, type CachedValue, wrap } from '../../src/index.js'
import { turn } from '../support/waiting.js'
import { SimulatedCluster } from './near-cluster.js'
import { SimulatedServer } from './near-server.js'
import type { SimulatedStore, StoreClient, Wire } from './near-store.js'

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
  /** The store is a Redis Cluster. */
  readonly isCluster?: boolean
  /** Every process begins with copies, as it does with given operations. */
  readonly isWarm?: boolean
  /** Then the copies are gone, and what the processes know is not. */
  readonly areEvicted?: boolean
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

/** ms that a step takes on a Cluster: a run is to outlast the time for which its changes go unrecorded. */
const CLUSTER_PACE = 50

class Simulation {
  now = 0
  readonly pace: number
  readonly store: SimulatedStore
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
    const { pushes } = world
    this.pace = world.isCluster === true ? CLUSTER_PACE : 1
    this.store =
      world.isCluster === true
        ? new SimulatedCluster({ now: () => this.now }, pushes, choose)
        : new SimulatedServer(pushes, choose)
    this.processes = Array.from({ length: world.processes }, (_, i) => new SimulatedProcess(i, this))
    for (const process of this.processes) process.beat()
  }

  async run(): Promise<void> {
    const { choose, world } = this
    const script = typeof world.operations === 'number' ? undefined : [...world.operations]
    let left = typeof world.operations === 'number' ? world.operations : world.operations.length
    await turn()
    if (world.isWarm === true || script !== undefined) await this.warmUp()
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
      this.now += this.pace * (script === undefined ? ([0, 1, 3][choose(3)] as number) : 1)
      steps[choose(steps.length)]?.()
      await turn()
    }
  }

  /** Every process knows the changes and has copies. */
  async warmUp(): Promise<void> {
    for (let round = 0; round < 3; round++) {
      for (const process of this.processes) {
        process.beat()
        await this.finish(process)
        for (const key of this.world.keys) process.read(key)
        await this.finish(process)
      }
      this.now += this.pace * 10
    }
    if (this.world.areEvicted === true)
      for (const { copies } of this.processes) await copies.deleteMulti(this.world.keys)
  }

  async finish(process: SimulatedProcess): Promise<void> {
    await turn()
    for (let steps = process.steps(); steps.length > 0; steps = process.steps()) {
      steps[0]?.()
      await turn()
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
    else if (kind === LOSE) this.store.lose()
    else if (kind === RENEW) this.renew(key)
    else this.store.backUp()
  }

  /** A process renews a value, which no change tells of. */
  renew(key: string): void {
    if (this.store.current(key) === undefined) return
    this.source.set(key, ++this.version)
    this.store.put(key, this.version)
  }

  create(key: string): void {
    if (this.store.current(key) === undefined) this.store.put(key, this.source.get(key) as number)
  }

  /** Another server takes over, which may lack the latest changes. */
  failOver(): void {
    this.failovers++
    this.store.failOver()
    const isKept = ({ key, version }: Done) =>
      version <= (this.store.current(key) ?? Number.POSITIVE_INFINITY)
    this.done = this.done.filter(isKept)
    for (const process of this.processes) {
      process.cut()
      process.seen.clear()
    }
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

/** The connection to a node. */
interface Lane {
  readonly requests: Request[]
  readonly replies: (() => void)[]
  underWay: Request[]
}

class SimulatedProcess {
  readonly lanes = new Map<string, Lane>()
  readonly messages: (() => void)[] = []
  /** Replies that a layer below the near cache holds for a while, such as a slow decoding. */
  readonly passing = new Set<() => void>()
  readonly client: StoreClient
  readonly copies: Backend<CachedValue>
  readonly chain: Backend<CachedValue>
  readonly seen = new Map<string, { version: number; ended: number }>()
  #order = 0

  constructor(
    readonly index: number,
    readonly simulation: Simulation,
  ) {
    const { maxStaleness, disorder } = simulation.world
    const wire: Wire = {
      clock: { now: () => simulation.now },
      send: (node, execute) => this.send(node, execute),
      deliver: (arrive) => void this.messages.push(arrive),
      pass: () =>
        disorder === true ? new Promise((pass) => void this.passing.add(pass)) : Promise.resolve(),
      beat: () => this.beat(),
    }
    this.client = simulation.store.connect(wire)
    const { far } = this.client
    this.copies = disorder === true ? memory({ maxEntries: 1 }) : memory()
    const layered = wrap(far, near(this.copies, { maxStaleness }))
    this.chain = track(layered, far.ledger as NonNullable<typeof far.ledger>)
  }

  send<R>(node: string, execute: () => R): Promise<R> {
    let lane = this.lanes.get(node)
    if (lane === undefined) this.lanes.set(node, (lane = { requests: [], replies: [], underWay: [] }))
    const { requests } = lane
    return new Promise<unknown>((resolve, reject) => {
      requests.push({ execute, resolve, reject })
    }) as Promise<R>
  }

  steps(): (() => void)[] {
    const steps: (() => void)[] = []
    for (const lane of this.lanes.values()) {
      const { requests, replies } = lane
      const request = requests[0]
      if (request !== undefined) steps.push(() => execute(lane))
      if (replies.length > 0) steps.push(() => replies.shift()?.())
    }
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

  /** Requests that no server has received are lost; of the others some may have been executed. */
  cut(): void {
    const lost: Request[] = []
    for (const lane of this.lanes.values()) {
      lost.push(...lane.underWay, ...lane.requests.splice(0))
      lane.underWay = []
      lane.replies.length = 0
    }
    this.messages.length = 0
    this.client.disconnected()
    for (const { reject } of lost) reject(new Error('cut'))
    // Subscribed again.
    this.messages.push(() => this.beat())
  }

  beat(): void {
    Promise.resolve(this.client.prove()).catch(() => {})
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
      if (entry === undefined) return void this.send('', () => simulation.create(key)).catch(() => {})
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
      // A copy may outlive by the bound what a failover lost; nothing can bring that back.
      if (version > (simulation.store.current(key) ?? Number.POSITIVE_INFINITY)) return
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
}

function execute(lane: Lane): void {
  const request = lane.requests.shift()
  if (request === undefined) return
  lane.underWay.push(request)
  const value = request.execute()
  lane.replies.push(() => {
    lane.underWay = lane.underWay.filter((other) => other !== request)
    request.resolve(value)
  })
}

import { AsyncResource } from 'node:async_hooks'
import { Fifo } from '../../../src/base/fifo.js'
import {
  clearTimeout,
  DEADLINE_PARTS,
  performance,
  setImmediate,
  setTimeout,
} from '../../../src/base/timers.js'

/** A command without a reply. */
export interface Pending {
  /** On the clock of `performance`; the time of a command counts from its node's latest reply while it waits for its turn. */
  until: number
  /** Whether it waits for a connection that was lost. */
  readonly patient: boolean
  readonly lane: Lane
  over: boolean
  /** Its turn has come. */
  sent: boolean
  /** The client was handed it. */
  begun: boolean
  /** While it waits for the connection. */
  waiter: { resolve(): void; reject(error: unknown): void } | undefined
  start(): void
  fail(error: unknown): void
}

/** The commands of one node. Those beyond the most that may be under way wait for their turn. */
export interface Lane {
  inFlight: number
  readonly queue: Fifo<Pending>
  /** On the clock of `performance`. */
  latestReply: number
  /** A command was given up without a reply, and none has come since. */
  silent: boolean
}

/** ms by which a timer may be late in a process that is not busy. */
const BUSY = 10

interface PendingCommandsOptions {
  /** ms */
  readonly timeout: number
  /** Commands of a node that are under way at one time. */
  readonly maxInFlight: number
  late(): Error
}

/** Sends commands in their turn and fails them at their deadlines. One timer for all: one for each would cost more than the rest. */
export class PendingCommands {
  readonly commands = new Set<Pending>()
  readonly #lanes = new Map<string, Lane>()
  #timer: NodeJS.Timeout | undefined
  /** When the timer fires. */
  #due = Number.POSITIVE_INFINITY
  #waiting = 0

  constructor(private readonly options: PendingCommandsOptions) {}

  /** How many commands wait for their turn. */
  get waiting(): number {
    return this.#waiting
  }

  lane(name: string): Lane {
    let lane = this.#lanes.get(name)
    if (lane === undefined)
      this.#lanes.set(name, (lane = { inFlight: 0, queue: new Fifo(), latestReply: 0, silent: false }))
    return lane
  }

  /** Whether another command of the node has to wait. */
  isFull({ inFlight, queue }: Lane): boolean {
    return inFlight >= this.options.maxInFlight || queue.size > 0
  }

  add(command: Pending): void {
    this.commands.add(command)
    if (command.until < this.#due) this.#wakeAt(command.until)
    else if (this.commands.size === 1) this.#timer?.ref()
    const { lane } = command
    if (!this.isFull(lane)) this.#send(command)
    else {
      this.#waiting++
      // The end of another caller's command makes room for it: it goes on in the context of its own caller.
      command.start = AsyncResource.bind(command.start)
      lane.queue.push(command)
    }
  }

  delete(command: Pending): void {
    command.over = true
    this.commands.delete(command)
    if (this.commands.size === 0) this.#timer?.unref()
    if (command.sent) {
      command.lane.inFlight--
      this.#fill(command.lane)
    } else this.#waiting--
  }

  /** Gives every command so many ms more. */
  extend(ms: number): void {
    for (const command of this.commands) command.until += ms
  }

  /** A reply of the node has come, be it one that was given up. */
  replied(lane: Lane): void {
    lane.latestReply = performance.now()
    lane.silent = false
  }

  /** The connection is another one: nothing is known about any node. */
  forgetSilence(): void {
    for (const lane of this.#lanes.values()) lane.silent = false
  }

  failAll(error: () => Error, which: (command: Pending) => boolean = () => true): void {
    for (const command of this.commands) if (which(command)) command.fail(error())
    if (this.commands.size === 0) this.#wakeAt(Number.POSITIVE_INFINITY)
  }

  #send(command: Pending): void {
    command.sent = true
    command.lane.inFlight++
    command.start()
  }

  #fill(lane: Lane): void {
    while (lane.inFlight < this.options.maxInFlight) {
      const next = lane.queue.shift()
      if (next === undefined) return
      if (next.over) continue
      this.#waiting--
      next.until = this.#deadline(next)
      this.#send(next)
    }
  }

  #deadline({ sent, until, lane }: Pending): number {
    return sent ? until : Math.max(until, lane.latestReply + this.options.timeout)
  }

  #wakeAt(moment: number): void {
    clearTimeout(this.#timer)
    const now = performance.now()
    const isEmpty = moment === Number.POSITIVE_INFINITY
    // A deadline that is over already makes the timer no later than it is.
    this.#due = isEmpty
      ? moment
      : Math.max(now, Math.min(moment, now + this.options.timeout / DEADLINE_PARTS))
    this.#timer = isEmpty
      ? undefined
      : // If this process itself was busy, the reply may have arrived unread: let the event loop read the network first.
        setTimeout(() => setImmediate(() => this.#sweep()), this.#due - now)
  }

  #sweep(): void {
    const now = performance.now()
    const late: Pending[] = []
    let next = Number.POSITIVE_INFINITY
    // The timer was late by the time for which this process did other work, and sent and received nothing.
    const busy = now - this.#due
    if (busy > BUSY) this.extend(busy)
    for (const command of this.commands) {
      const until = this.#deadline(command)
      if (until <= now) late.push(command)
      else next = Math.min(next, until)
    }
    this.#wakeAt(next)
    // First those that were not sent: they must not take the places of the others.
    for (const command of late) if (!command.sent) command.fail(this.options.late())
    for (const command of late)
      if (!command.over) {
        command.lane.silent = true
        command.fail(this.options.late())
      }
  }
}

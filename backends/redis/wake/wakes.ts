import { report } from '../../../src/base/diagnostics.js'
import type { MaybePromise } from '../../../src/base/maybe-promise.js'
import { TOKEN_LENGTH } from '../client/scripts.js'
import type { Ended } from './wake-message.js'

/** Tells a process that a lease was settled. Messages may be lost: whoever waits also looks for himself now and then. */
export interface Listener {
  /** What must be left at a lease for its holder to wake us. */
  readonly mark: string
  /** Whether messages about a lease arrive at this moment. */
  live(lease: string): boolean
  /** A lease is about to be asked for; what it answers is to be awaited before `mark` is read. */
  prepare(): MaybePromise<void>
  /** Somebody waits for a lease, until the returned function is called. */
  listen(lease: string): () => void
  close(): Promise<void>
}

export interface Wakes {
  /**
   * To be called before the lease is asked for: the message may overtake the answer.
   * @param mark what nobody else leaves at a lease, to know messages that were sent after this one was refused
   */
  watch(lease: string, mark?: string): Watch
  /** A message about a lease has come. */
  woken(lease: string, ended?: Pick<Ended, 'held' | 'value'>): void
  /** Messages come again, about one lease or all of them: whatever was missed is looked up. */
  recheck(lease?: string): void
  close(): void
}

export interface Watch {
  /**
   * Resolves when the lease is no longer what it was: filled, released, revoked, stolen or expired; with what was stored
   * then, if a message said so that was sent after the lease was refused here. Never rejects.
   */
  settled(remaining: number, holder: string): Promise<Buffer | undefined>
  drop(): void
}

interface Waiter {
  done: boolean
  readonly mark: string | undefined
  value: Buffer | undefined
  /** Messages could have been lost since it registered. */
  doubtful: boolean
  nudge: () => void
}

/** ms between looks while no messages come, drawn anew each time from the last one: waiters spread out. */
const POLL_FROM = 5
const POLL_TO = 250
/** ms between looks while messages come: they may be lost all the same. */
const GLANCE = 1_000

export function wakes(
  live: (lease: string) => boolean,
  holderOf: (lease: string) => Promise<string | undefined>,
): Wakes {
  const waiters = new Map<string, Set<Waiter>>()
  let closed = false

  const wait = async (lease: string, waiter: Waiter, remaining: number, holder: string): Promise<void> => {
    // The server counts in whole milliseconds, and a timer may be early by one.
    const deadline = performance.now() + remaining + 2
    let pause = POLL_FROM
    waiter.doubtful ||= !live(lease)
    while (!waiter.done && !closed) {
      if (waiter.doubtful) {
        // Subscribed, then looked: what happened in between cannot have been missed.
        waiter.doubtful = !live(lease)
        if ((await look(lease, holder)) === 'settled') return
        if (waiter.done) return
      }
      const left = deadline - performance.now()
      if (left <= 0) return
      pause = live(lease)
        ? GLANCE * (0.75 + Math.random() / 2)
        : Math.min(POLL_TO, POLL_FROM + Math.random() * (pause * 3 - POLL_FROM))
      if (await elapsed(waiter, Math.min(pause, left))) waiter.doubtful = true
    }
  }
  const look = async (lease: string, holder: string): Promise<'settled' | 'held'> => {
    try {
      return (await holderOf(lease))?.slice(0, TOKEN_LENGTH) === holder ? 'held' : 'settled'
    } catch (error) {
      report('failure', () => ({ where: 'redis waiter', key: lease, error }))
      return 'held'
    }
  }

  return {
    watch(lease, mark) {
      const waiter: Waiter = { done: false, mark, value: undefined, doubtful: !live(lease), nudge: () => {} }
      let group = waiters.get(lease)
      if (group === undefined) waiters.set(lease, (group = new Set()))
      group.add(waiter)
      const drop = () => {
        waiter.done = true
        const left = waiters.get(lease)
        left?.delete(waiter)
        if (left?.size === 0) waiters.delete(lease)
      }
      return {
        drop,
        async settled(remaining, holder) {
          await wait(lease, waiter, remaining, holder)
          drop()
          return waiter.value
        },
      }
    },
    woken(lease, ended) {
      for (const waiter of waiters.get(lease) ?? []) {
        waiter.done = true
        // A message of a former lease may be late by any time: what it brings may have been invalidated long ago.
        if (waiter.mark !== undefined && ended?.held.includes(waiter.mark)) waiter.value = ended.value
        waiter.nudge()
      }
    },
    recheck(lease) {
      for (const group of lease === undefined ? waiters.values() : [waiters.get(lease) ?? []])
        for (const waiter of group) {
          waiter.doubtful = true
          waiter.nudge()
        }
    },
    close() {
      closed = true
      for (const group of waiters.values()) for (const waiter of group) waiter.nudge()
    },
  }
}

/** True: the time has passed. False: somebody nudged. */
function elapsed(waiter: Waiter, ms: number): Promise<boolean> {
  return new Promise((resolve) => {
    const timer = setTimeout(() => resolve(true), Math.min(ms, 2 ** 31 - 1))
    waiter.nudge = () => {
      clearTimeout(timer)
      resolve(false)
    }
    // Woken before there was anything to nudge.
    if (waiter.done) waiter.nudge()
  })
}

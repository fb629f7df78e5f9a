import { type FailureLog, failureLog } from '../base/diagnostics.js'
import { isPromise, type MaybePromise } from '../base/maybe-promise.js'
import { clearTimeout, performance, setTimeout } from '../base/timers.js'

/**
 * How a process waits until a lease of another process is over. A store that pushes messages wakes its waiters; messages
 * may be lost, so waiters also read the lease now and then. A store without messages is polled, in random pauses that
 * grow, so that processes which began together drift apart. For authors of backends:
 *
 * ```ts
 * const waiters = leaseWaiters({ store: 'mine', poll: { from: 3, to: 50, growth: 2 } })
 * const waiter = waiters.join(key) // before the lease is requested: a message may overtake the reply
 * const settled = waiter.untilOver(remaining, async () => (await holderOf(key)) === holder ? undefined : 0)
 * ```
 */
export interface LeaseWaiters<T = never> {
  /** @param mark a text that only this waiter left at the lease; `wake` receives it back. */
  join(key: string, mark?: string): LeaseWaiter<T>
  /** A lease is over. `valueFor` returns the value that a waiter may take with it, if any. */
  wake(key: string, valueFor?: (mark: string | undefined) => T | undefined): void
  /** A message may have been lost, about one lease or about all of them: the waiters read now. */
  recheck(key?: string): void
  /** Lets all waiters go. */
  close(): void
}

export interface LeaseWaiter<T = never> {
  /**
   * Resolves when the lease is over: filled, released, revoked, stolen or expired; with the value of `wake`. Never rejects.
   * @param remaining ms for which the lease was granted.
   * @param read returns the ms for which the lease still stands, 0 if it is over, `undefined` if it stands as long as was known.
   */
  untilOver(remaining: number, read: Read): Promise<T | undefined>
  /** For a waiter that need not wait after all, or not any longer: `untilOver` resolves then. */
  leave(): void
}

export interface LeaseWaitersOptions {
  /** The store's name, for reports of failed reads. */
  readonly store: string
  /** Pauses between reads while no messages come, in ms: the shortest, the longest, and how much longer than the last one. */
  readonly poll: { readonly from: number; readonly to: number; readonly growth: number }
  /** Absent: the store never sends a message. */
  readonly push?: {
    /** Whether messages about a lease arrive at this moment. */
    isLive(key: string): boolean
    /** ms between reads while they do. */
    readonly checkEvery: number
  }
}

type Read = () => MaybePromise<number | undefined>

/** ms: stores count in whole milliseconds, and a timer may be early by one. */
const GRACE = 2

interface Waiter<T> {
  readonly key: string
  readonly mark: string | undefined
  over: boolean
  value: T | undefined
  /** A message may have been lost: read the lease. */
  doubtful: boolean
  /** Ends the present pause. */
  nudge: () => void
  /** Resolves the wait without another turn of the loop: a wake-up in the same process is immediate. */
  resolve: (value: T | undefined) => void
}

export function leaseWaiters<T = never>(options: LeaseWaitersOptions): LeaseWaiters<T> {
  const groups = new Map<string, Set<Waiter<T>>>()
  const failures = failureLog()
  let closed = false
  const wake: LeaseWaiters<T>['wake'] = (key, valueFor) => {
    for (const waiter of groups.get(key) ?? []) {
      waiter.over = true
      waiter.value ??= valueFor?.(waiter.mark)
      waiter.resolve(waiter.value)
      waiter.nudge()
    }
  }
  return {
    wake,
    join(key, mark) {
      const waiter: Waiter<T> = {
        key,
        mark,
        over: false,
        value: undefined,
        doubtful: isDeaf(options, key),
        nudge() {},
        resolve() {},
      }
      let group = groups.get(key)
      if (group === undefined) groups.set(key, (group = new Set()))
      group.add(waiter)
      const leave = () => {
        waiter.over = true
        const left = groups.get(key)
        left?.delete(waiter)
        if (left?.size === 0) groups.delete(key)
        waiter.nudge()
      }
      return {
        leave,
        untilOver: (remaining, read) =>
          new Promise((resolve) => {
            waiter.over ||= closed
            waiter.resolve = resolve
            void wait(options, failures, waiter, remaining, read).then(() => {
              leave()
              resolve(waiter.value)
            })
          }),
      }
    },
    recheck(key) {
      for (const group of key === undefined ? groups.values() : [groups.get(key) ?? []])
        for (const waiter of group) {
          waiter.doubtful = true
          waiter.nudge()
        }
    },
    close() {
      closed = true
      for (const key of groups.keys()) wake(key)
    },
  }
}

/** Whether the store sends messages, but none about this lease at this moment. */
function isDeaf({ push }: LeaseWaitersOptions, key: string): boolean {
  return push !== undefined && !push.isLive(key)
}

async function wait<T>(
  options: LeaseWaitersOptions,
  failures: FailureLog,
  waiter: Waiter<T>,
  remaining: number,
  read: Read,
): Promise<void> {
  const { poll, push } = options
  let deadline = performance.now() + remaining + GRACE
  let pause = poll.from
  waiter.doubtful ||= isDeaf(options, waiter.key)
  while (!waiter.over) {
    if (waiter.doubtful) {
      // Before the read, since a message that comes meanwhile raises the doubt again.
      waiter.doubtful = false
      const stands = await readInTime(options, failures, waiter, deadline - performance.now(), read)
      if (stands !== undefined) {
        if (stands <= 0) return
        deadline = performance.now() + stands + GRACE
      }
      if (waiter.over || waiter.doubtful) continue
    }
    const left = deadline - performance.now()
    if (left <= 0) return
    const live = push?.isLive(waiter.key) === true
    if (!live) pause = Math.min(poll.to, poll.from + Math.random() * (pause * poll.growth - poll.from))
    const next = live ? push.checkEvery * (0.75 + Math.random() / 2) : pause
    if (await slept(waiter, Math.min(next, left))) waiter.doubtful = true
  }
}

/** A failed read proves nothing, and a slow one must not outlast the lease. */
async function readInTime<T>(
  { store }: LeaseWaitersOptions,
  failures: FailureLog,
  waiter: Waiter<T>,
  left: number,
  read: Read,
): Promise<number | undefined> {
  try {
    const reading = read()
    if (!isPromise(reading)) return reading
    const replied = reading.then((stands) => {
      failures.over()
      return stands
    })
    return await Promise.race([replied, slept(waiter, left).then(() => undefined)])
  } catch (error) {
    failures.failed(() => ({ where: `${store} waiter`, key: waiter.key, error }))
    return undefined
  } finally {
    waiter.nudge()
  }
}

/** Whether the time has passed; if not, the waiter was nudged. */
function slept<T>(waiter: Waiter<T>, ms: number): Promise<boolean> {
  return new Promise((resolve) => {
    const timer = setTimeout(() => resolve(true), ms)
    waiter.nudge = () => {
      clearTimeout(timer)
      resolve(false)
    }
    if (waiter.over) waiter.nudge()
  })
}

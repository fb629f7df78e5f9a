import type { Backend } from '../../src/backend/backend.js'
import type { Bytes } from '../../src/backend/cached-value.js'
import { completeBackend, withDeadlines } from '../../src/backend/define-backend.js'
import type { AcquireOptions } from '../../src/backend/lease.js'
import { leaseWaiters } from '../../src/backend/lease-waiters.js'
import { frozenCopy } from '../../src/base/frozen.js'
import { inBatches, settledInBatches } from '../../src/base/in-batches.js'
import { attempt, type MaybePromise } from '../../src/base/maybe-promise.js'
import { type Turns, turns } from '../../src/base/turns.js'
import type { Ledger, OpenLedger } from '../../src/ledger/ledger.js'
import type { DependencySnapshot } from '../../src/ledger/snapshot.js'
import type { Commands } from './client/commands.js'
import { tooManyWait } from './client/server.js'
import { entriesOf } from './entries.js'
import { entryItemsOf } from './entry-items.js'
import { leasesOf } from './lease.js'
import { ledgerOf } from './ledger.js'
import type { Settings } from './options.js'

/** The operations of several commands. A single command has a deadline of its own. */
const BOUNDED = new Set([
  ...['set', 'acquire', 'renew', 'release'],
  ...['ledger.now', 'ledger.invalidate', 'ledger.pending', 'ledger.restore'],
])

/** memcached pushes nothing. ms */
const POLL = { from: 3, to: 50, growth: 2 }

/** Operations of several commands that run at one time, and single commands beside them: enough to fill every round trip. */
const MAX_RUNNING = 256

/** Names whose commands count as one operation that runs. */
const NAMES_OF_ONE = 8

/** Names that are invalidated in one step, and those that may be checked in one `timeout`. */
const MAX_NAMES = 500

type BackendSettings = Pick<Settings, 'timeout'> & Partial<Pick<Settings, 'maxWaiting' | 'pendingFor'>>

/** Puts the backend together over commands: those of servers, or of a test that steps through them. */
export function backendOver(
  commands: Commands,
  { timeout, maxWaiting = Number.POSITIVE_INFINITY, pendingFor }: BackendSettings,
): Backend<Bytes> {
  const turnsOf = (what: string) =>
    turns({
      maxRunning: MAX_RUNNING,
      maxWaiting,
      refuse: (waiting) => tooManyWait(`${what} wait for their turn at memcached`, waiting),
    })
  // The time of an operation begins with its turn: thousands at once do not make each other late.
  const inTurn = turnsOf('operations')
  const single = inTurns(commands, () => turnsOf('commands'))
  const items = entryItemsOf(commands)
  const beside = entryItemsOf(single)
  const ledger = ledgerOf(commands, pendingFor, single)
  const waiters = leaseWaiters({ store: 'memcached', poll: POLL })
  const leases = leasesOf({ items, beside, ledger, waiters })
  const backend = completeBackend<Bytes>({
    name: 'memcached',
    stores: 'bytes',
    timeout: Number.POSITIVE_INFINITY,
    ...entriesOf({ items, beside, leases, ledger, waiters, timeout }),
    ...leases,
    keepsFailures: true,
    ledger,
    ping: () => commands.ping(),
    close() {
      waiters.close()
      commands.close()
    },
  })
  return inSlices(operationsInTurns(withDeadlinesByNames(backend, timeout), inTurn))
}

/**
 * What ends or keeps a lease that was granted goes first. The time of a lease runs from its grant on: behind thousands that ask
 * for one, its fill would come too late.
 */
function operationsInTurns(timed: Backend<Bytes>, turn: Turns): Backend<Bytes> {
  // Each name is a command or more, and too many commands in line are refused.
  const inTurn = <R>(names: number, work: () => MaybePromise<R>, goesFirst = false) =>
    turn(work, { goesFirst, weight: Math.max(1, Math.ceil(names / NAMES_OF_ONE)) })
  const { ledger } = timed
  return {
    ...timed,
    set: (key, value, options) =>
      inTurn(
        namesIn(options.ifCurrent?.snapshot),
        () => timed.set(key, value, options),
        options.token !== undefined,
      ),
    acquire: (key, ms, options) => inTurn(namesOf(options), () => timed.acquire(key, ms, options)),
    renew: (key, token, ms) => inTurn(0, () => timed.renew(key, token, ms), true),
    release: (key, token, failure) => inTurn(0, () => timed.release(key, token, failure), true),
    ledger: ledger && {
      ...ledger,
      open(clock) {
        const opened = ledger.open(clock)
        const { pending, restore } = opened
        return {
          ...opened,
          now: (names) => inTurn(names.length, () => opened.now(names)),
          invalidate: (names, ...rest) => inTurn(names.length, () => opened.invalidate(names, ...rest)),
          ...(pending && {
            pending: (names, ...rest) => inTurn(names.length, () => pending(names, ...rest)),
          }),
          ...(restore && {
            restore: (snapshot) => inTurn(namesIn(snapshot), () => restore(snapshot)),
          }),
        }
      },
    },
  }
}

/**
 * The same commands, of which thousands at once are not in line together: a command of an operation whose time runs
 * would wait for all of them. Each server has a line of its own: one that is frozen holds up no other.
 */
function inTurns(commands: Commands, newLine: () => Turns): Commands {
  const lines = new Map<object | undefined, Turns>()
  const lineOf = (key: string): Turns => {
    const place = commands.placeOf?.(key)
    const line = lines.get(place) ?? newLine()
    lines.set(place, line)
    return line
  }
  return {
    ...commands,
    get: async (key) => lineOf(key)(() => commands.get(key)),
    delete: async (key, guard) => lineOf(key)(() => commands.delete(key, guard)),
  }
}

/** An operation has one `timeout` for each so many of the names that it checks: each of them is a command or more. */
function withDeadlinesByNames(backend: Backend<Bytes>, timeout: number): Backend<Bytes> {
  const within = (names: number) =>
    withDeadlines(backend, timeout * Math.max(1, Math.ceil(names / MAX_NAMES)), BOUNDED)
  const usual = within(0)
  const of = (names: number) => (names <= MAX_NAMES ? usual : within(names))
  const { ledger } = usual
  return {
    ...usual,
    set: (key, value, options) => of(namesIn(options.ifCurrent?.snapshot)).set(key, value, options),
    acquire: (key, ms, options) => of(namesOf(options)).acquire(key, ms, options),
    ledger: ledger && {
      ...ledger,
      open(clock) {
        const opened = ledger.open(clock)
        const later = (names: number) => (names <= MAX_NAMES ? opened : openedBy(within(names), clock))
        return {
          ...opened,
          now: (names) => later(names.length).now(names),
          restore: (snapshot) => later(namesIn(snapshot)).restore?.(snapshot) ?? 'invalid',
        }
      },
    },
  }
}

function openedBy({ ledger }: Backend<Bytes>, clock: string): OpenLedger {
  return (ledger as Ledger).open(clock)
}

function namesOf({ question }: AcquireOptions = {}): number {
  return question === undefined ? 0 : question.names.length + (question.expected?.length ?? 0)
}

function namesIn(snapshot: DependencySnapshot | undefined): number {
  return snapshot === undefined ? 0 : snapshot.groups.reduce((count, { names }) => count + names.length, 0)
}

/**
 * Each part of a batch takes its own turn, with its own deadline, and the next parts wait outside of the queue: a batch of any
 * size is in time, and lets other callers in between.
 */
function inSlices(single: Backend<Bytes>): Backend<Bytes> {
  const { ledger } = single
  return {
    ...single,
    getMulti: (keys) => inBatches(frozenCopy(keys), single.get),
    setMulti: (writes) => inBatches(frozenCopy(writes), (write) => single.set(...write)),
    deleteMulti: (keys) => allOf(frozenCopy(keys), single.delete),
    ledger: ledger && {
      ...ledger,
      open(clock) {
        const opened = ledger.open(clock)
        const { pending } = opened
        return {
          ...opened,
          invalidate: (names, ...rest) => bySlices(names, (slice) => opened.invalidate(slice, ...rest)),
          ...(pending && {
            async pending(names, ...rest) {
              let life = 0
              await bySlices(names, async (slice) => {
                life = await pending(slice, ...rest)
              })
              return life
            },
          }),
        }
      },
    },
  }
}

/** @throws the first failure, after every item was tried */
async function allOf<T>(items: readonly T[], work: (item: T) => MaybePromise<unknown>): Promise<void> {
  const outcomes = await settledInBatches(items, async (item) => work(item))
  const failed = outcomes.find((one) => one.status === 'rejected')
  if (failed !== undefined) throw failed.reason
}

/** Invalidates or marks names, a slice after the other. @throws the first failure, after every slice was tried */
async function bySlices(
  given: readonly string[],
  change: (names: readonly string[]) => MaybePromise<unknown>,
): Promise<void> {
  const names = frozenCopy(given)
  const failures: unknown[] = []
  let at = 0
  do {
    const slice = names.slice(at, at + MAX_NAMES)
    await attempt(() => change(slice)).catch((error) => failures.push(error))
    at += MAX_NAMES
    // An invalidation of no names moves the clock as well.
  } while (at < names.length)
  if (failures.length > 0) throw failures[0]
}

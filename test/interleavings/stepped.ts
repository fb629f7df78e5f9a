import { memory } from '../../backends/memory/index.js'
import type { Backend, Write } from '../../src/backend/backend.js'
import type { CachedValue } from '../../src/backend/cached-value.js'
import { defineBackend } from '../../src/backend/define-backend.js'
import type { LeaseOperations } from '../../src/backend/lease.js'
import { andThen, isPromise } from '../../src/base/maybe-promise.js'
import type { Ledger } from '../../src/ledger/ledger.js'
import { withOperations } from '../support/ledgers.js'
import type { Schedule } from './explore.js'
import type { Touched } from './moments.js'

/** A scheduler that makes operations wait to be picked. */
export interface Steps extends Pick<Schedule, 'step'> {
  /** For searches that depend on the things that steps touch. */
  readonly touch?: Schedule['touch']
}

/** Touches only the memory of its actor. */
const NOTHING: Touched = {}
const QUESTION: Touched = { asks: true }

/**
 * The memory backend, or another one, with a yield point before each of its operations, ledger included.
 * @param readsAlone - reads of the ledger are steps of their own. Redis reads it in the step that reads the entry
 * @param ifAbsentFrom - 0: each first read of one key is a request for its lease, which brings the entry if there is one
 */
export function stepped(
  schedule: Steps,
  inner: Backend<CachedValue> = memory(),
  readsAlone = true,
  ifAbsentFrom?: number,
): Backend<CachedValue> {
  const { step, touch = () => {} } = schedule
  const ledger =
    schedule.touch === undefined ? (inner.ledger as Ledger) : telling(inner.ledger as Ledger, touch)
  /** The store has done it, but the answer is under way: an invalidation may be acknowledged in between. */
  const answered = async <R>(label: string, run: () => R | Promise<R>): Promise<R> => {
    const answer = await step(label, run, NOTHING)
    return step(`${label} answered`, () => answer, NOTHING)
  }
  const get = (key: string) => {
    touch({ reads: [`entry ${key}`] })
    return inner.get(key)
  }
  /** After a write, which releases or voids the lease. */
  const changed = (key: string) => {
    // A real store would be asked in vain, and perhaps be closed before it answers.
    if (schedule.touch === undefined) return
    const left = inner.get(key)
    const text = isPromise(left) ? undefined : described(left)
    touch({ leaves: { [`lease ${key}`]: '' } })
    if (text === undefined) touch({ writes: [`entry ${key}`] })
    else touch({ leaves: { [`entry ${key}`]: text } })
  }
  const set = (...[key, value, options]: Write<CachedValue>) =>
    andThen(inner.set(key, value, options), (outcome) => {
      // Whether the token holds and the snapshot stands shows in this, and nothing else of them does.
      touch({ sees: outcome })
      if (outcome !== 'lost') changed(key)
      return outcome
    })
  const remove = (key: string) => andThen(inner.delete(key), () => changed(key))
  const acquire: LeaseOperations<CachedValue>['acquire'] = (key, ms, options) =>
    options?.ifAbsent === true
      ? andThen(get(key), (found) => (found === undefined ? lease(key, ms, options) : { token: '', found }))
      : lease(key, ms, options)
  const lease: LeaseOperations<CachedValue>['acquire'] = (key, ms, options) =>
    andThen(inner.acquire(key, ms, options), (acquired) => {
      touch(acquired.token === undefined ? { reads: [`lease ${key}`] } : { writes: [`lease ${key}`] })
      return acquired
    })
  const release: LeaseOperations['release'] = (key, token, failure) =>
    andThen(inner.release(key, token, failure), (released) => {
      const left = failure === undefined ? '' : `failed ${failure.failedAsOf}`
      touch({ sees: `${released}`, ...(released && { leaves: { [`lease ${key}`]: left } }) })
      return released
    })
  return defineBackend<CachedValue>({
    name: 'stepped',
    stores: 'values',
    timeout: Number.POSITIVE_INFINITY,
    get: (key) => step(`get ${key}`, () => get(key), QUESTION),
    set: (key, value, options) =>
      options.token === undefined
        ? step(`set ${key}`, () => set(key, value, options), NOTHING)
        : answered(`fill ${key}`, () => set(key, value, options)),
    delete: (key) => step(`delete ${key}`, () => remove(key), NOTHING),
    getMulti: (keys) => step(`getMulti ${keys}`, () => inner.getMulti(keys)),
    setMulti: (writes) => answered(`setMulti ${writes.map(([key]) => key)}`, () => inner.setMulti(writes)),
    deleteMulti: (keys) => step(`deleteMulti ${keys}`, () => inner.deleteMulti(keys)),
    acquire: (key, ms, options) => step(`acquire ${key}`, () => acquire(key, ms, options), NOTHING),
    renew: (key, token, ms) => step(`renew ${key}`, () => inner.renew(key, token, ms)),
    release: (key, token, failure) => step(`release ${key}`, () => release(key, token, failure), NOTHING),
    keepsFailures: true,
    ifAbsentFrom,
    held: (key) => step(`held ${key}`, () => inner.held(key)),
    ledger: {
      shared: false,
      open: (clock) => {
        const opened = ledger.open(clock)
        return {
          storeClock: opened.storeClock,
          ...(opened.storeNames && { storeNames: opened.storeNames }),
          read: (names) =>
            readsAlone ? step('read ledger', () => opened.read(names), QUESTION) : opened.read(names),
          now: (names) => step('begin', () => opened.now(names), NOTHING),
          invalidate: (...given) => step('stamp', () => opened.invalidate(...given), NOTHING),
          pending:
            opened.pending && ((...given) => step('mark', () => opened.pending?.(...given) ?? 0, NOTHING)),
        }
      },
    },
  })
}

const LEDGER = 'ledger'

/** A ledger that is atomic in itself, and reports its calls and results. */
export function telling(ledger: Ledger, touch: Schedule['touch']): Ledger {
  let told = ''
  const answers = <T>(answer: T): T => {
    touch({ sees: JSON.stringify(answer) })
    return answer
  }
  const leaves = (clock: string) =>
    andThen(ledger.open(clock).read([]), ({ now }) => touch({ leaves: { [LEDGER]: `${now?.epoch}${told}` } }))
  void leaves('~clock')
  return withOperations(ledger, (opened) => ({
    read: (names) => andThen(opened.read(names), (reading) => answers(reading)),
    now: (names) => andThen(opened.now(names), (now) => answers(now)),
    invalidate(names, mode, transaction) {
      told += `, ${mode} ${names} ${transaction ?? ''}`
      return andThen(opened.invalidate(names, mode, transaction), () => leaves(opened.storeClock))
    },
    pending:
      opened.pending &&
      ((names, mode, transaction) => {
        told += `, marks ${mode} ${names} ${transaction}`
        return andThen(opened.pending?.(names, mode, transaction) ?? 0, (life) => {
          void leaves(opened.storeClock)
          return life
        })
      }),
  }))
}

/** The parts of an entry that other steps can see. `undefined`: its epoch has another name in every run. */
function described(entry: CachedValue | undefined): string | undefined {
  if (entry === undefined) return ''
  const { payload, metadata } = entry
  // The beginning of a creation matters only without a ledger.
  const { startedAt: _, snapshot, ...rest } = metadata
  return snapshot !== undefined && UUID.test(snapshot.epoch)
    ? JSON.stringify([payload, snapshot, rest])
    : undefined
}

const UUID = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/

/** The same without lease and ledger: three methods, as the humblest backend has them. */
export function humble(schedule: Steps): Backend<CachedValue> {
  const { step } = schedule
  const values = new Map<string, CachedValue>()
  return defineBackend<CachedValue>({
    name: 'humble',
    timeout: Number.POSITIVE_INFINITY,
    get: (key) => step(`get ${key}`, () => values.get(key)),
    set: (key, value) => step(`write ${key}`, () => void values.set(key, value)),
    delete: (key) => step(`delete ${key}`, () => void values.delete(key)),
  })
}

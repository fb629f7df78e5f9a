import { memory } from '../../backends/memory/index.js'
import type { Backend } from '../../src/backend.js'
import type { CachedValue } from '../../src/cached-value.js'
import { defineBackend } from '../../src/define-backend.js'
import type { Ledger } from '../../src/ledger.js'
import type { Schedule } from './explore.js'

/** What makes operations wait to be picked. */
export type Steps = Pick<Schedule, 'step'>

/** The memory backend, or another one, with a yield point before each of its operations, ledger included. */
export function stepped(schedule: Steps, inner: Backend<CachedValue> = memory()): Backend<CachedValue> {
  const { step } = schedule
  const ledger = inner.ledger as Ledger
  /** The store has done it, but the answer is still on its way: an invalidation may be acknowledged in between. */
  const answered = async <R>(label: string, run: () => R | Promise<R>): Promise<R> => {
    const answer = await step(label, run)
    return step(`${label} answered`, () => answer)
  }
  return defineBackend<CachedValue>({
    name: 'stepped',
    stores: 'values',
    timeout: Number.POSITIVE_INFINITY,
    get: (key) => step(`get ${key}`, () => inner.get(key)),
    set: (key, value, options) =>
      options.token === undefined
        ? step(`set ${key}`, () => inner.set(key, value, options))
        : answered(`fill ${key}`, () => inner.set(key, value, options)),
    delete: (key) => step(`delete ${key}`, () => inner.delete(key)),
    getMulti: (keys) => step(`getMulti ${keys}`, () => inner.getMulti(keys)),
    setMulti: (writes) => answered(`setMulti ${writes.map(([key]) => key)}`, () => inner.setMulti(writes)),
    deleteMulti: (keys) => step(`deleteMulti ${keys}`, () => inner.deleteMulti(keys)),
    acquire: (key, ms, options) => step(`acquire ${key}`, () => inner.acquire(key, ms, options)),
    renew: (key, token, ms) => step(`renew ${key}`, () => inner.renew(key, token, ms)),
    release: (key, token) => step(`release ${key}`, () => inner.release(key, token)),
    held: (key) => step(`held ${key}`, () => inner.held(key)),
    ledger: {
      shared: false,
      read: (clock, names) => step('read ledger', () => ledger.read(clock, names)),
      begin: (clock, names) => step('begin', () => ledger.begin(clock, names)),
      judge: (clock, basis) => step('judge', () => ledger.judge(clock, basis)),
      invalidate: (clock, names, mode) => step('stamp', () => ledger.invalidate(clock, names, mode)),
    },
  })
}

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

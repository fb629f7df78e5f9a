import type { BackendSpec, Outcome, WriteOptions } from '../../src/backend/backend.js'
import type { Bytes } from '../../src/backend/cached-value.js'
import { coarseClock } from '../../src/base/clock.js'
import { CorralError } from '../../src/base/errors.js'
import type { Budget } from './client/budget.js'
import type { Change, Store } from './client/store.js'
import type { Waiters } from './client/waiters.js'
import { addition, readEntry, removal, withdrawal } from './entry.js'
import { absenceKey, type EntryHead, encodeEntry, entryKey, newVersion, payloadOf } from './format.js'
import { leaseKey, readLease } from './lease.js'
import type { FileLedger } from './ledger.js'

type Entries = Pick<BackendSpec<Bytes>, 'get' | 'getMulti' | 'set' | 'delete'>

/** Reading at once, writing under lease and ledger. */
export function fileEntries(store: Store, ledger: FileLedger, waiters: Waiters, budget: Budget): Entries {
  const read = (key: string, now: number): Buffer | undefined => {
    const place = entryKey(key)
    const bytes = store.lend(place)
    if (bytes === undefined) return undefined
    const payload = payloadOf(bytes, bytes.length, place, key, now)
    if (payload !== undefined) budget.read(key)
    return payload
  }

  const write = async (
    key: string,
    value: Bytes,
    options: WriteOptions,
    attempt: () => void,
  ): Promise<Outcome> => {
    const { ttl = Number.POSITIVE_INFINITY, token, ifCurrent } = options
    const place = entryKey(key)
    for (;;) {
      attempt()
      const { former, absence, lease, verdict } = store.snapshot((look) => ({
        former: readEntry(look, place),
        absence: look(absenceKey(key)),
        lease: readLease(look, key),
        verdict:
          ifCurrent === undefined ? undefined : ledger.examine(look, ifCurrent.clock, ifCurrent.snapshot),
      }))
      if (token !== undefined && lease.token !== token) return 'lost'
      // A fill stands by its lease alone; whatever revokes that has written or removed the entry as well.
      const guards =
        token === undefined ? [former.seen, ...(former.head === undefined ? [absence] : [])] : [lease.seen]
      if (verdict !== undefined && verdict.freshness !== 'fresh') {
        const changes: Change[] = [[lease.seen.key], ...(token === undefined ? removal(former, key) : [])]
        if (!(await store.commit(guards, changes, token === undefined))) continue
        waiters.wake(key)
        return 'refused'
      }
      const writtenAt = Date.now()
      const head: EntryHead = { version: newVersion(), expiresAt: writtenAt + ttl, writtenAt }
      const record = encodeEntry(head, key, value)
      const changes: Change[] = [...withdrawal(former), ...addition(place, head, record), [lease.seen.key]]
      if (!(await store.commit([...guards, ...(verdict?.seen ?? [])], changes))) continue
      waiters.wake(key)
      budget.wrote(record.length)
      return 'stored'
    }
  }

  return {
    get(key) {
      store.beginRead()
      try {
        return read(key, coarseClock.now())
      } finally {
        store.endRead()
      }
    },
    getMulti(keys) {
      const now = coarseClock.now()
      store.beginRead()
      try {
        return keys.map((key) => read(key, now))
      } finally {
        store.endRead()
      }
    },
    async set(key, value, options) {
      checkBytes(value)
      budget.admit(key, value.length)
      return store.inTurn(key, (attempt) => write(key, value, options, attempt))
    },
    delete: (key) =>
      store.inTurn(key, async (attempt) => {
        attempt()
        const former = store.snapshot((look) => readEntry(look, entryKey(key)))
        // Unconditional, so that nothing can keep a deletion from happening; a place in an order that somebody adds in
        // between is found to lead nowhere and swept.
        await store.commit([], [[former.seen.key], ...removal(former, key), [leaseKey(key)]], true)
        waiters.wake(key)
      }),
  }
}

function checkBytes(value: unknown): asserts value is Bytes {
  if (value instanceof Uint8Array) return
  throw new CorralError(
    'ERR_OPTION',
    'Expected lmdb() to be given bytes: put an encoding around it, wrap(lmdb(path), msgpack()).',
  )
}

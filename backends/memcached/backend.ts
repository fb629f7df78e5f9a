import type { Backend } from '../../src/backend/backend.js'
import type { Bytes } from '../../src/backend/cached-value.js'
import { defineBackend } from '../../src/backend/define-backend.js'
import { CorralError } from '../../src/base/errors.js'
import { ignoreRejection } from '../../src/base/maybe-promise.js'
import type { Ledger } from '../../src/ledger/ledger.js'
import type { Commands } from './client/commands.js'
import { liveValue, slotsOf } from './entry-items.js'
import { leasesOf } from './lease.js'
import { ledgerOf } from './ledger.js'

/** Puts the backend together over whatever executes commands: servers, or a test that steps through them. */
export function backendOver(commands: Commands, timeout: number): Backend<Bytes> {
  const slots = slotsOf(commands)
  const leases = leasesOf(slots)
  const ledger = ledgerOf(commands)

  /** Single commands have a deadline of their own; what takes several gets one for all of them. */
  const timely = async <R>(operation: string, work: Promise<R>): Promise<R> => {
    let timer: NodeJS.Timeout | undefined
    const late = new Promise<never>((_, reject) => {
      const giveUp = () =>
        reject(
          new CorralError(
            'ERR_TIMEOUT',
            `memcached.${operation} did not end within ${timeout} ms. Check the servers, or raise \`timeout\` of memcached().`,
          ),
        )
      // Not before what has arrived was looked at: this process may have been busy.
      timer = setTimeout(() => setImmediate(giveUp), timeout)
    })
    try {
      return await Promise.race([work, late])
    } finally {
      clearTimeout(timer)
    }
  }

  const get = async (key: string): Promise<Bytes | undefined> => {
    const slot = await slots.get(key)
    const value = liveValue(slot?.entry)
    // A copy: a view would keep everything alive that arrived together with it.
    return value && Buffer.from(value)
  }

  const backend = defineBackend<Bytes>({
    name: 'memcached',
    stores: 'bytes',
    timeout: Number.POSITIVE_INFINITY,
    get,
    getMulti: (keys) => Promise.all(keys.map(get)),
    set: (key, value, { ttl, token, ifCurrent }) => {
      const store = async () => {
        if (ifCurrent !== undefined && !(await ledger.admit(ifCurrent.clock, ifCurrent.snapshot))) {
          await (token === undefined ? leases.remove(key) : leases.release(key, token))
          return 'refused'
        }
        const livesUntil = Date.now() + (ttl ?? Number.POSITIVE_INFINITY)
        return token === undefined
          ? leases.replace(key, value, livesUntil, timeout)
          : leases.fill(key, value, livesUntil, token)
      }
      return timely('set', store())
    },
    delete: (key) => leases.remove(key),
    acquire: async (key, ms, options) => {
      const asked = Promise.resolve(leases.acquire(key, ms, options))
      try {
        return await timely('acquire', asked)
      } catch (error) {
        // Whoever is told that it failed will not give back what may be granted yet.
        void ignoreRejection(asked.then(({ token }) => token !== undefined && leases.release(key, token)))
        throw error
      }
    },
    renew: (key, token, ms) => timely('renew', Promise.resolve(leases.renew(key, token, ms))),
    release: (key, token) => timely('release', Promise.resolve(leases.release(key, token))),
    held: (key) => leases.held(key),
    ledger: {
      shared: true,
      read: ledger.read,
      // Up to five round trips, where a name was learnt late.
      judge: (clock, snapshot) => timely('ledger.judge', Promise.resolve(ledger.judge(clock, snapshot))),
      now: (clock, names) => timely('ledger.begin', Promise.resolve(ledger.now(clock, names))),
      invalidate: (clock, names, mode) =>
        timely('ledger.invalidate', Promise.resolve(ledger.invalidate(clock, names, mode))),
    } satisfies Ledger,
    close() {
      leases.close()
      commands.close()
    },
  })
  // Batches of one turn travel together whatever they are made of.
  return {
    ...backend,
    setMulti: (writes) =>
      Promise.all(writes.map(async ([key, value, options]) => backend.set(key, value, options))),
  }
}

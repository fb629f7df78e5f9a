import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { LONG } from '../support/long.js'
import { BY_KEYS } from './generator.js'
import { histories } from './history.js'

histories('the history of processes over LMDB', {
  floor: {
    ...(LONG ? { reads: 200_000, changes: 5_000, landed: 500 } : { reads: 1_000, changes: 100, landed: 10 }),
    ...{ kills: 5, freezes: 3 },
  },
  ms: LONG ? 240_000 : 20_000,
  patience: LONG ? 600_000 : 55_000,
  worlds: {
    'processes killed and frozen': async () => {
      const folder = mkdtempSync(join(tmpdir(), 'corral-lmdb-'))
      return {
        processes: 4,
        place: () => ({ lmdb: join(folder, 'cache.mdb') }),
        ...{ ways: BY_KEYS, tracked: false },
        every: () => 300 + Math.random() * 900,
        async trouble(round, processes) {
          if (round % 5 < 3) {
            await processes.replace()
            return 'kills'
          }
          await processes.freeze(Math.random() * 1_200)
          return 'freezes'
        },
        // An operation may fail when a frozen process holds the write lock, but that is rare.
        failing: 0.02,
        stop: async () => rmSync(folder, { recursive: true, force: true }),
      }
    },
  },
})

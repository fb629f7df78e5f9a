import { describe, expect, inject, it } from 'vitest'
import { memcached } from '../../../backends/memcached/index.js'
import type { Bytes, Ledger } from '../../../src/index.js'
import { type Fault, faultProxy } from '../../support/faultproxy.js'
import { LONG } from '../../support/long.js'
import { startMemcached } from '../../support/servers.js'
import { sleep, turn, until } from '../../support/waiting.js'
import { bytes, text } from './start.js'

const MS = LONG ? 60_000 : 10_000
/** ms after which the storm ends, though a busy machine has counted less than it should. */
const PATIENCE = 20 * MS
const TIMEOUT = 200
const WORKERS = 40
const KEYS = 60

/** A value that names its key, of a length of its own. */
const contentOf = (i: number) => `${i}:${'x'.repeat((i * 211) % 9_000)}`

describe.skipIf(inject('servers').memcached === null)('a storm of faults over memcached', () => {
  it('hangs nothing, answers nothing wrong, leaves nothing unhandled', {
    timeout: PATIENCE + MS + 60_000,
  }, async () => {
    const server = await startMemcached()
    const proxy = await faultProxy({ port: server.port })
    const backend = memcached({ servers: `127.0.0.1:${proxy.port}`, timeout: TIMEOUT, probe: 50 })
    const ledger = backend.ledger as Ledger
    const unhandled: unknown[] = []
    const note = (error: unknown) => unhandled.push(error)
    process.on('unhandledRejection', note)

    const counts = { settled: 0, failed: 0, hung: 0, wrong: 0 }
    const failures: Record<string, number> = {}
    let over = false

    const check = (i: number, value: Bytes | undefined) => {
      if (value !== undefined && text(value) !== contentOf(i)) counts.wrong++
    }
    const operate = async (i: number): Promise<void> => {
      const key = `storm ${i}`
      switch (Math.floor(Math.random() * 10)) {
        case 0:
          await backend.set(key, bytes(contentOf(i)), { ttl: 60_000 })
          return
        case 1: {
          const { token } = await backend.acquire(key, 50, { steal: Math.random() < 0.5 })
          if (token === undefined) return
          if (Math.random() < 0.3) await backend.renew(key, token, 50)
          await (Math.random() < 0.8
            ? backend.set(key, bytes(contentOf(i)), { token })
            : backend.release(key, token))
          return
        }
        case 2: {
          const { epoch, at } = await ledger.open('clock').now([`name ${i}`])
          const snapshot = { epoch, groups: [{ asOf: at, names: [`name ${i}`] }] }
          await backend.set(key, bytes(contentOf(i)), { ifCurrent: { clock: 'clock', snapshot } })
          return
        }
        case 3:
          await (Math.random() < 0.5
            ? backend.delete(key)
            : ledger.open('clock').invalidate([`name ${i}`], 'soft'))
          return
        case 4: {
          const several = [i, (i + 1) % KEYS, (i + 2) % KEYS]
          const found = await backend.getMulti(several.map((one) => `storm ${one}`))
          several.forEach((one, at) => check(one, found[at]))
          return
        }
        default:
          check(i, await backend.get(key))
      }
    }
    const work = async () => {
      while (!over) {
        let timer: NodeJS.Timeout | undefined
        const patience = new Promise<'hung'>((resolve) => {
          // An operation of several steps ends within a second, and on a machine that is busy much later.
          timer = setTimeout(resolve, 60_000, 'hung')
        })
        const attempt = operate(Math.floor(Math.random() * KEYS)).catch((error: { code?: string }) => {
          counts.failed++
          const code = error.code ?? String(error)
          failures[code] = (failures[code] ?? 0) + 1
        })
        if ((await Promise.race([attempt, patience])) === 'hung') counts.hung++
        else counts.settled++
        clearTimeout(timer)
        // A server that is down fails at once: without a pause this would be all that is counted.
        await (Math.random() < 0.1 ? sleep(1) : turn())
      }
    }
    const faults: (() => Fault)[] = [
      () => ({ kind: 'cut', afterBytes: Math.floor(Math.random() * 20_000) }),
      () => ({ kind: 'fin' }),
      () => ({ kind: 'rst' }),
      () => ({ kind: 'latency', ms: 5, jitter: 30 }),
      () => ({ kind: 'blackhole' }),
      () => ({ kind: 'refuse' }),
      () => ({ kind: 'latency', ms: TIMEOUT, jitter: 100 }),
    ]
    let blown = 0
    const storm = async () => {
      while (!over) {
        await sleep(120)
        const fault = faults[blown++ % (faults.length + 1)]
        if (fault === undefined) {
          await server.kill('SIGSTOP')
          await sleep(250)
          await server.kill('SIGCONT')
          continue
        }
        proxy.set(fault())
        if (Math.random() < 0.5) proxy.reset()
        await sleep(20 + Math.random() * 100)
        proxy.set({ kind: 'none' })
      }
    }
    const blowing = storm()
    const working = Array.from({ length: WORKERS }, work)
    const began = performance.now()
    const lacking = () => counts.settled - counts.failed <= MS / 2 || counts.failed <= 50 || blown <= MS / 500
    do await sleep(MS)
    while (lacking() && performance.now() - began < PATIENCE)
    over = true
    await blowing
    await Promise.all(working)
    const seconds = (performance.now() - began) / 1_000

    // After the storm every key works again. A single operation may still exceed its timeout, on a busy machine.
    for (let i = 0; i < KEYS; i++)
      await until(async () => {
        await backend.set(`storm ${i}`, bytes(contentOf(i)), {})
        const found = await backend.get(`storm ${i}`)
        check(i, found)
        return found !== undefined
      })
    await backend.close()
    await proxy.close()
    await server.stop()
    process.off('unhandledRejection', note)
    console.log(
      `[storm] memcached: ${counts.settled} operations in ${Math.round(seconds)} s (${Math.round(counts.settled / seconds)}/s), ${counts.failed} failed ${JSON.stringify(failures)}, ` +
        `${counts.hung} hung, ${counts.wrong} wrong, ${unhandled.length} unhandled; ${blown} faults`,
    )
    expect({ hung: counts.hung, wrong: counts.wrong, unhandled }).toEqual({
      hung: 0,
      wrong: 0,
      unhandled: [],
    })
    expect(lacking()).toBe(false)
  })
})

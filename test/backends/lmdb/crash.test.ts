import { join } from 'node:path'
import { afterAll, expect, test } from 'vitest'
import { lmdb } from '../../../backends/lmdb/index.js'
import { openTruth } from '../../histories/truth.js'
import { LONG } from '../../support/long.js'
import { sleep } from '../../support/waiting.js'
import { pattern } from './peer-writer.js'
import { bundlePeer, endPeers, startPeer, temporaryFolder } from './support.js'

const KILLS = LONG ? 200 : 20
const KEYS = 6

afterAll(endPeers)

test(
  `a writer that is killed in mid-write ${KILLS} times leaves nothing corrupt, nothing stale and no lock`,
  async () => {
    const folder = temporaryFolder()
    const program = await bundlePeer()
    const file = join(folder, 'cache.mdb')
    const truthFile = join(folder, 'truth')
    const truth = openTruth(truthFile)
    const reader = lmdb(file, { timeout: '60s' })
    let reads = 0
    let found = 0
    const verify = async (acknowledged: readonly number[]) => {
      for (let key = 0; key < KEYS; key++) {
        const bytes = (await reader.get(`w${key}`)) as Buffer | undefined
        reads++
        if (bytes === undefined) continue
        found++
        const version = bytes.readDoubleLE(0)
        expect(Buffer.compare(bytes, pattern(key, version))).toBe(0)
        expect(version).toBeGreaterThanOrEqual(acknowledged[key] as number)
      }
    }
    const acknowledged = () => Array.from({ length: KEYS }, (_, key) => truth.acknowledged(key))
    const written = () => acknowledged().reduce((sum, version) => sum + version, 0)
    for (let kill = 0; kill < KILLS; kill++) {
      const peer = await startPeer(program, { role: 'writer', file, truth: truthFile, keys: KEYS })
      // In the middle of its work, however late a busy machine lets it begin.
      const before = written()
      let end = Number.POSITIVE_INFINITY
      while (performance.now() < end) {
        await verify(acknowledged())
        // The writer is another process and needs the processor, too.
        await sleep(1)
        if (end === Number.POSITIVE_INFINITY && written() > before)
          end = performance.now() + Math.random() * 60
      }
      peer.signal('SIGKILL')
      await peer.exited
      await verify(acknowledged())
      // The dead one's lock is not in the way.
      expect(await reader.set('after', Buffer.from([kill]), {})).toBe('stored')
    }
    await reader.close()
    const reopened = lmdb(file)
    expect(await reopened.get('after')).toEqual(Buffer.from([KILLS - 1]))
    await reopened.close()
    console.log(`killed ${KILLS} writers in mid-write: ${reads} reads, ${found} values, 0 corrupt, 0 stale`)
    expect(found).toBeGreaterThan(KILLS)
    expect(Math.min(...acknowledged())).toBeGreaterThan(KILLS / 4)
  },
  KILLS * 20_000 + 30_000,
)

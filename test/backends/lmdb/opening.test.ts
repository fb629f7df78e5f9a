import {
  mkdirSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  utimesSync,
  writeFileSync,
} from 'node:fs'
import { join } from 'node:path'
import { afterAll, expect, test } from 'vitest'
import { lmdb } from '../../../backends/lmdb/index.js'
import { sleep } from '../../support/waiting.js'
import { bundlePeer, endPeers, startPeer, temporaryFolder } from './support.js'

afterAll(endPeers)

const bytes = (value: unknown) => Buffer.from(String(value))

test('no commit is undone while other processes open the file, one at a time', async () => {
  const file = join(temporaryFolder(), 'cache.mdb')
  const program = await bundlePeer()
  const store = lmdb(file, { timeout: '60s' })
  await store.set('k', bytes(0), {})
  let running = 3
  const opened = Array.from({ length: running }, async () => {
    const spans: (readonly [number, number])[] = []
    for (let i = 0; i < 8; i++) {
      const peer = await startPeer(program, { role: 'opener', file })
      const opened = peer.next('opened')
      peer.tell({ kind: 'open' })
      spans.push((await opened).span)
      peer.signal('SIGKILL')
    }
    return spans
  }).map((lane) => lane.finally(() => running--))
  let undone = 0
  let writes = 0
  while (running > 0) {
    await store.set('k', bytes(++writes), {})
    await sleep(0)
    if (String(store.get('k')) !== String(writes)) undone++
  }
  const spans = (await Promise.all(opened)).flat().sort(([a], [b]) => a - b)
  expect(spans).toHaveLength(24)
  for (const [i, [from]] of spans.slice(1).entries()) expect(from).toBeGreaterThanOrEqual(spans[i]?.[1] ?? 0)
  expect(writes).toBeGreaterThan(0)
  expect(undone).toBe(0)
  await store.close()
}, 90_000)

test('while another process opens the file, writes wait until their deadline and reads do not', async () => {
  const file = join(temporaryFolder(), 'cache.mdb')
  const program = await bundlePeer()
  const [hasty, patient] = [lmdb(file, { timeout: 300 }), lmdb(file, { timeout: '30s' })]
  await hasty.set('k', bytes('v'), {})
  const peer = await startPeer(program, { role: 'starting', file })
  await expect(hasty.set('k', bytes('late'), {})).rejects.toMatchObject({ code: 'ERR_TIMEOUT' })
  const waiting = patient.set('k', bytes('after'), {})
  expect(String(hasty.get('k'))).toBe('v')
  expect(() => lmdb(join(file, '..', 'cache.mdb'), { timeout: 100 })).toThrow(
    expect.objectContaining({ code: 'ERR_TIMEOUT' }),
  )
  peer.signal('SIGKILL')
  expect(await waiting).toBe('stored')
  expect(String(hasty.get('k'))).toBe('after')
  await hasty.close()
  await patient.close()
}, 60_000)

test('a write that waits for an opening ends with ERR_CLOSED when the backend is closed, and leaves no mark', async () => {
  const file = join(temporaryFolder(), 'cache.mdb')
  const program = await bundlePeer()
  const store = lmdb(file, { timeout: '30s' })
  const peer = await startPeer(program, { role: 'starting', file })
  const waiting = expect(store.set('k', bytes('v'), {})).rejects.toMatchObject({ code: 'ERR_CLOSED' })
  await store.close()
  await waiting
  const ours = (mark: string) => mark.includes(`-${process.pid}-`)
  expect(readdirSync(`${file}-gate/writing`).filter(ours)).toEqual([])
  peer.signal('SIGKILL')
  await peer.exited
}, 60_000)

test('the file is not opened while another process has a write under way, and at once when that process is dead', async () => {
  const file = join(temporaryFolder(), 'cache.mdb')
  const program = await bundlePeer()
  await lmdb(file).close()
  const peer = await startPeer(program, { role: 'writing', file })
  expect(() => lmdb(file, { timeout: 100 })).toThrow(
    expect.objectContaining({
      code: 'ERR_TIMEOUT',
      message: expect.stringContaining('frozen while it writes'),
    }),
  )
  expect(readdirSync(`${file}-gate/opening`)).toEqual([])
  peer.signal('SIGKILL')
  // Without waiting for its exit: until Node reads that, the dead process is a zombie.
  while (!/\) [ZX] /.test(readFileSync(`/proc/${peer.pid}/stat`, 'latin1')));
  const store = lmdb(file, { timeout: '30s' })
  expect(await store.set('k', bytes('v'), {})).toBe('stored')
  await store.close()
  await peer.exited
}, 60_000)

test('marks of processes that are gone do not count, those of other containers for a while', async () => {
  const file = join(temporaryFolder(), 'cache.mdb')
  await lmdb(file).close()
  const marks = `${file}-gate/opening`
  mkdirSync(marks, { recursive: true })
  const space = /\d+/.exec(readlinkSync('/proc/self/ns/pid'))?.[0]
  // No such process; this process's pid with another start; another container, long ago.
  const old = `77-${process.pid}-1-c`
  for (const name of [`${space}-4194303-1-a`, `${space}-${process.pid}-1-b`, old])
    writeFileSync(join(marks, name), '')
  const longAgo = new Date(Date.now() - 60_000)
  utimesSync(join(marks, old), longAgo, longAgo)
  const store = lmdb(file, { timeout: 200 })
  expect(await store.set('k', bytes('v'), {})).toBe('stored')
  writeFileSync(join(marks, '77-1-1-d'), '')
  await expect(store.set('k', bytes('v'), {})).rejects.toMatchObject({ code: 'ERR_TIMEOUT' })
  utimesSync(join(marks, '77-1-1-d'), longAgo, longAgo)
  expect(await store.set('k', bytes('v'), {})).toBe('stored')
  await store.close()
})

test('a gate whose folder is emptied while the file is open is made anew', async () => {
  const file = join(temporaryFolder(), 'cache.mdb')
  const store = lmdb(file)
  await store.set('k', bytes('v'), {})
  rmSync(`${file}-gate`, { recursive: true })
  expect(await store.set('k', bytes('w'), {})).toBe('stored')
  expect(readdirSync(`${file}-gate/writing`)).toHaveLength(1)
  await store.close()
  expect(readdirSync(`${file}-gate/writing`)).toEqual([])
})

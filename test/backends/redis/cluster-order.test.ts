import { expect, it } from 'vitest'
import * as scripts from '../../../backends/redis/client/scripts.js'
import { clockKeys, parseClock, parseStamp, stampKey } from '../../../backends/redis/format.js'
import { freshnessAt } from '../../../src/ledger/ledger.js'
import type { Deployment } from './deployments.js'
import { standalone } from './deployments.js'
import { freshKey, withRedis } from './suite.js'

type Step = () => Promise<void>

/** Every order of two sequences of steps that keeps each of them in its own order. */
function* interleavings(one: readonly Step[], other: readonly Step[]): Generator<readonly Step[]> {
  const [first, ...rest] = one
  const [second, ...left] = other
  if (first === undefined || second === undefined) return yield [...one, ...other]
  for (const tail of interleavings(rest, other)) yield [first, ...tail]
  for (const tail of interleavings(one, left)) yield [second, ...tail]
}

/** Makes a stamp as a fill on a cluster does, and invalidates it, step by step, all as of a moment before both. */
async function scene({ admin }: Deployment, mode: 'hard' | 'soft', existing: boolean) {
  const name = freshKey('clock')
  const { clock, ring, pending } = clockKeys(name)
  const keys = [clock, ring, pending]
  const stamp = stampKey(name, freshKey('name'))
  const run = ({ lua }: scripts.Script, keys: readonly string[], ...args: string[]) =>
    admin.eval(lua, keys.length, ...keys, ...args)
  const mark = `p${freshKey()}`
  const [first] = (await run(scripts.readClock, keys, 'epoch')) as [string]
  const a = parseClock(first)?.at ?? 0
  if (existing) await admin.set(stamp, `${a}`)
  let mine = false
  let origin = ''
  let moment = ''
  const make: Step[] = [
    async () => {
      mine = (await run(scripts.claimStamp, [stamp], '60000', mark)) === null
    },
    async () => {
      if (mine)
        origin = ((await run(scripts.readClock, keys, 'other', stamp, `${a}`)) as string[])[2] as string
    },
    async () => {
      if (mine) await run(scripts.completeStamp, [stamp], mark, origin, '60000')
    },
  ]
  const invalidate: Step[] = [
    async () => {
      moment = (
        (await run(scripts.advanceClock, [...keys, 'marker'], 'other', mode, '', '', stamp)) as string[]
      )[0] as string
    },
    async () => {
      await run(scripts.moveStamp, [stamp], moment, mode, '', '', '60000')
    },
  ]
  const verdict = async () => {
    const [now, text] = await Promise.all([admin.get(clock), admin.getBuffer(stamp)])
    const snapshot = { epoch: 'epoch', groups: [{ asOf: a, names: [stamp] }] }
    return freshnessAt(snapshot, { now: parseClock(now), stamps: [parseStamp(text)] })
  }
  return { make, invalidate, verdict }
}

withRedis('the steps of an invalidation and of a new stamp on a Cluster', standalone, (at) => {
  it.each([
    ['hard', true],
    ['hard', false],
    ['soft', true],
    ['soft', false],
  ] as const)(
    'leave nothing fresh that is older, in every order of their steps: %s, stamp there before: %s',
    async (mode, existing) => {
      const count = [...interleavings(Array(3).fill(0) as never, Array(2).fill(0) as never)].length
      expect(count).toBe(10)
      for (let i = 0; i < count; i++) {
        const { make, invalidate, verdict } = await scene(at(), mode, existing)
        for (const step of [...interleavings(make, invalidate)][i] as readonly Step[]) await step()
        expect(await verdict(), `order ${i}`).not.toBe('fresh')
        // A second invalidation that was overtaken sets nothing back.
        for (const step of make) await step()
        expect(await verdict(), `order ${i}, made again`).not.toBe('fresh')
      }
    },
  )

  it('does not let an overtaken invalidation set a stamp back', async () => {
    const { make, invalidate, verdict } = await scene(at(), 'hard', true)
    const [tick, stamp] = invalidate as [Step, Step]
    const key = stampKey('c', 'overtaken')
    await at().admin.set(key, '100')
    await at().admin.eval(scripts.moveStamp.lua, 1, key, '300', 'hard', '', '', '60000')
    await at().admin.eval(scripts.moveStamp.lua, 1, key, '200', 'hard', '', '', '60000')
    expect(await at().admin.get(key)).toBe('300')
    await tick()
    await stamp()
    for (const step of make) await step()
    expect(await verdict()).toBe('invalid')
  })
})

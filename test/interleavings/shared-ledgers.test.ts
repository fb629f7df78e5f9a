import { expect, it } from 'vitest'
import * as scripts from '../../backends/redis/client/scripts.js'
import { clockKeys, stampKey } from '../../backends/redis/format.js'
import { standalone } from '../backends/redis/deployments.js'
import { withRedis } from '../backends/redis/suite.js'
import { seeded } from '../support/seeded.js'
import { redisTwin } from './shared-ledgers.js'

const ROUNDS = 40
const CALLS = 60
/** Far beyond the time of any server, so that clocks only count. */
const FUTURE = 8e15

withRedis('the model of the scripts of Redis Cluster in the interleavings', standalone, (at) => {
  it('returns the replies of the scripts and leaves their records, for calls in every order', async () => {
    const random = seeded(11)
    const below = (limit: number) => Math.floor(random() * limit)
    let calls = 0
    for (let round = 0; round < ROUNDS; round++) {
      const { admin } = at()
      await admin.flushall()
      const twin = redisTwin()
      const { clock, ring, pending } = clockKeys('c')
      const keys = [clock, ring, pending]
      const stamps = ['a', 'b', 'c'].map((name) => stampKey('c', name))
      const begin = `e:${FUTURE}`
      twin.texts.set(clock, begin)
      await admin.set(clock, begin)
      const some = () => stamps[below(3)] as string
      const moment = () => `${FUTURE + below(8)}`
      const transaction = () => ['', 't', 'u'][below(3)] as string
      const life = () => (random() < 0.5 ? '1' : '')
      const mode = () => (random() < 0.5 ? 'hard' : 'soft')
      const end = () => (random() < 0.5 ? moment() : '')
      for (let call = 0; call < CALLS; call++) {
        const calling: readonly (readonly [scripts.Script, readonly string[], readonly string[]])[] = [
          [scripts.claimStamp, [some()], ['60000', `p${below(3)}`]],
          [scripts.readClock, keys, ['f', some(), moment(), some(), moment()]],
          [scripts.completeStamp, [some()], [`p${below(3)}`, moment(), '60000']],
          [scripts.advanceClock, [...keys, 'marker'], ['f', mode(), transaction(), life(), some(), some()]],
          [scripts.moveStamp, [some()], [moment(), mode(), transaction(), end(), '60000']],
        ]
        const [script, on, args] = calling[below(calling.length)] as (typeof calling)[number]
        if (random() < 0.05) {
          const lost = [ring, pending, ...stamps][below(5)] as string
          await admin.del(lost)
          twin.texts.delete(lost)
          twin.rings.delete(lost)
          twin.marks.delete(lost)
        }
        const answer = await admin.eval(script.lua, on.length, ...on, ...args)
        expect(twin.run(script, on, args), script.lua).toEqual(answer)
        for (const key of [clock, ...stamps]) expect(twin.texts.get(key) ?? null).toBe(await admin.get(key))
        calls++
      }
    }
    expect(calls).toBe(ROUNDS * CALLS)
  })
})

import { expect, it } from 'vitest'
import { type Pending, PendingCommands } from '../../../backends/redis/client/pending-commands.js'
import { performance as clock } from '../../../src/base/timers.js'

it('a command whose time is over already gives no other command more time', async () => {
  const pending = new PendingCommands({ timeout: 60_000, maxInFlight: 2, late: () => new Error('late') })
  const lane = pending.lane('')
  const commandUntil = (until: number) => {
    let ended = () => {}
    const end = new Promise<void>((resolve) => {
      ended = resolve
    })
    const command: Pending = {
      ...{ until, patient: false, lane, over: false, sent: false, begun: false, waiter: undefined },
      start() {},
      fail() {
        pending.delete(command)
        ended()
      },
    }
    pending.add(command)
    return { command, end }
  }
  const until = clock.now() + 1_000_000
  const other = commandUntil(until)
  for (let i = 0; i < 3; i++) await commandUntil(clock.now() - 500_000).end
  // A process that really was busy meanwhile gives it that time.
  expect(other.command.until - until).toBeLessThan(100_000)
  pending.delete(other.command)
})

/** Commits changes with their names in the outbox, and drains now and then, until it is killed. */
import { setImmediate } from 'node:timers/promises'
import { dep } from '../../src/index.js'
import { openOutbox, ROWS } from './outbox-shop.js'

const { run, box } = openOutbox(process.argv[2] ?? '')
process.send?.('ready')
try {
  for (let turn = 0; ; turn++) {
    const id = ROWS[turn % ROWS.length] as number
    await run('BEGIN IMMEDIATE', [])
    await run('UPDATE row SET value = value + 1 WHERE id = ?', [id])
    await box.write(run, dep.id('row', id))
    await run('COMMIT', [])
    if (turn % 3 === 2) await box.drain(run)
    await setImmediate()
  }
} catch (error) {
  process.send?.(String(error))
}

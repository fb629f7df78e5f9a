/** A process of a history. Started by `history.ts`, which tells it to stop. */
import { eventLog } from './events.js'
import { type Part, takePart } from './generator.js'

const part = JSON.parse(process.argv[2] ?? '') as Part
const log = eventLog(part.log)
let over = false
process.on('unhandledRejection', (error) => log({ kind: 'wrong', text: `unhandled: ${String(error)}` }))
process.once('message', () => {
  over = true
})
process.send?.('ready')
await takePart(part, log, () => over)
process.disconnect()

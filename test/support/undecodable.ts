import { diagnostics, type Messages } from '../../src/base/diagnostics.js'

let total = 0
diagnostics('undecodable').subscribe((message) => {
  total = (message as Messages['undecodable']).total
})

/** The running total in the latest message of the channel `corral:undecodable`. */
export const undecodableTotal = (): number => total

import { rejectOptions } from '../../base/options.js'
import { processGlobal } from '../../base/process-global.js'

/** The receivers of diagnostics that are in use, for all copies of the package: the channels are the process' own. */
const inUse = processGlobal('receivers', () => new WeakSet<object>())

/**
 * Takes the receivers of a set of diagnostics until the returned function is called.
 * @throws CorralError `ERR_OPTION` if one of them receives a set already: every message would arrive twice.
 */
export function claimReceivers(receivers: readonly object[], problem: string): () => void {
  if (receivers.some((one) => inUse.has(one))) rejectOptions(problem)
  for (const one of receivers) inUse.add(one)
  return () => {
    for (const one of receivers) inUse.delete(one)
  }
}

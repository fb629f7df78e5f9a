import { hrtime } from '../../../src/base/timers.js'

/** Reads the monotonic clock of the machine, in ms. All its processes read the same time, which starts again when the machine boots. */
export const machineNow = (): number => Number(hrtime() / 1_000_000n)

import { hrtime } from '../../../src/base/timers.js'

/** The clock of the machine, in ms, which all its processes share. It never steps, and begins anew with the machine. */
export const machineNow = (): number => Number(hrtime() / 1_000_000n)

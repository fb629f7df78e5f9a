/** Taken once, as other timers are: fake timers of a caller's test must not end a mark. */
const read = process.hrtime.bigint

/** The clock of the machine, in ms, which all its processes share. It never steps, and begins anew with the machine. */
export const machineNow = (): number => Number(read() / 1_000_000n)

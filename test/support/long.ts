/** Whether randomized tests, kills and storms run in their long form: `LONG=1 npm test`. */
export const LONG = process.env.LONG === '1'

/** How many times as many orders of steps the short forms try. A mutant that few orders show is tried with more. */
export const TIMES = Number(process.env.SCHEDULES ?? 1)

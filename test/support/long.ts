/** Whether randomized tests, kills and storms run in their long form: `LONG=1 npm test`. */
export const LONG = process.env.LONG === '1'

/** From here on memcached takes a number of seconds for a point in time. */
const ABSOLUTE = 30 * 86_400

/**
 * How memcached is told that something may go at a moment (epoch ms): never earlier. Its clock ticks in seconds, so
 * that one more is needed; more than 30 days are told as a point in time; 0 is for ever.
 */
export function secondsUntil(moment: number, now: number): number {
  if (moment === Number.POSITIVE_INFINITY) return 0
  const seconds = Math.max(1, Math.ceil((moment - now) / 1000)) + 1
  const told = seconds < ABSOLUTE ? seconds : Math.ceil(now / 1000) + seconds
  // What the protocol cannot carry is beyond the year 2106.
  return told < 2 ** 32 ? told : 0
}

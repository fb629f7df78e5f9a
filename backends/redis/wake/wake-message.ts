/** What a message on the channel of a database says. */
export interface Ended {
  readonly lease: string
  /** What the lease held when it ended: a token, and the marks of those who were refused it. */
  readonly held: string
  /** What was stored in the step that ended it, if it was checked and is small enough to be sent to everybody. */
  readonly value: Buffer | undefined
}

/** Reads `<bytes of held> <bytes of lease> <held><lease><value>`; `undefined` for anything else. */
export function endedIn(message: Buffer): Ended | undefined {
  const [, held, lease] = /^(\d{1,9}) (\d{1,9}) /.exec(message.toString('latin1', 0, 20)) ?? []
  if (held === undefined || lease === undefined) return undefined
  const from = held.length + lease.length + 2
  const middle = from + Number(held)
  const end = middle + Number(lease)
  if (end > message.length) return undefined
  return {
    held: message.toString('latin1', from, middle),
    lease: message.toString('utf8', middle, end),
    value: end < message.length ? message.subarray(end) : undefined,
  }
}

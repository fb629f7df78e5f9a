/** A message on the channel of a database: a lease is over. */
export interface WakeMessage {
  readonly lease: string
  /** The content of the lease when it ended: a token, and the marks of the waiters that were refused it. */
  readonly held: string
  /** The value that was stored in the same step, if it was validated there and is small enough to be sent to every process. */
  readonly value: Buffer | undefined
}

/** Reads `<bytes of held> <bytes of lease> <held><lease><value>`; `undefined` for anything else. */
export function parseWakeMessage(message: Buffer): WakeMessage | undefined {
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

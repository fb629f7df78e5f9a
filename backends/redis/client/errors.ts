import { CorralError, isError } from '../../../src/base/errors.js'

const UNREACHABLE =
  /^(LOADING|MASTERDOWN|CLUSTERDOWN|TRYAGAIN|NOREPLICAS)\b|Connection is closed|isn't writeable|isn't ready|ECONN|ETIMEDOUT|EPIPE|ENOTFOUND|EAI_AGAIN|EHOSTUNREACH|ENETUNREACH|ENOENT|max retries per request|Command timed out|Socket timeout|startup nodes|Cluster is|Too many Cluster redirections|Failed to refresh slots|aborted|subscriber for|discarded/i
const CREDENTIALS = /^(WRONGPASS|NOAUTH|ERR invalid password|ERR AUTH|ERR Client sent AUTH)/i

export function isCredentials(error: unknown): boolean {
  return isError(error) && CREDENTIALS.test(error.message)
}

/** The client refused to send it, or the server to begin it, since its slot moves: nothing has happened. */
export function wasNotExecuted(error: unknown): boolean {
  return isError(error) && (error.message.startsWith("Stream isn't writeable") || isTryAgain(error))
}

const unsent = new WeakSet<Error>()

/** Marks the failure of a command that was never sent. */
export function markUnsent<E extends Error>(error: E): E {
  unsent.add(error)
  return error
}

/** Whether the server may still carry out a command that failed. */
export function mayRunLater(error: unknown): boolean {
  return isUnreachable(error) && !unsent.has(error as Error)
}

/** The keys of a slot that moves are not all on one node; ioredis has its own words for it after many attempts. */
export function isTryAgain(error: unknown): boolean {
  return isError(error) && /\bTRYAGAIN\b/.test(error.message)
}

/** Whether there was no server that could reply. If not, the server refused. */
export function isUnreachable(error: unknown): boolean {
  if (CorralError.is(error)) return error.code === 'ERR_TIMEOUT' || error.code === 'ERR_UNAVAILABLE'
  return isError(error) && UNREACHABLE.test(`${error.message} ${(error as { code?: unknown }).code ?? ''}`)
}

export function asError(error: unknown): Error {
  return isError(error) ? error : new Error(String(error))
}

/** A failure of the client or the server in our terms, with a remedy. */
export function redisError(error: unknown, last?: Error): CorralError {
  if (CorralError.is(error)) return error
  const message = isError(error) ? error.message : String(error)
  const refused = (text: string) => new CorralError('ERR_BACKEND', text, { cause: error })
  const unavailable = (text: string, cause = error) => new CorralError('ERR_UNAVAILABLE', text, { cause })
  if (isCredentials(error))
    return unavailable(`Redis refused the credentials (${message}): check username and password.`)
  if (/^READONLY/.test(message))
    return unavailable(
      'Expected the primary, got a read-only replica: connect to the primary, through Sentinel if it moves.',
    )
  if (/^NOPERM/.test(message))
    return refused(
      `Redis forbids it to this user (${message}). docs/redis.md lists the commands that the user needs.`,
    )
  if (/^OOM|-OOM|maxmemory/.test(message))
    return refused(
      'Redis is out of memory and may not evict: raise maxmemory, or set a maxmemory-policy such as allkeys-lru.',
    )
  if (!isUnreachable(error)) return refused(`Redis answered with an error: ${message}. See \`cause\`.`)
  if (/max retries per request/.test(message)) {
    const reason = last === undefined ? '' : ` (${last.message})`
    return unavailable(
      `The connection to Redis was lost while the command was under way${reason}.`,
      last ?? error,
    )
  }
  const isOther = last !== undefined && last !== error
  const why = isOther ? `${message} The last error of the connection: ${last.message}` : message
  const text = `Redis cannot be reached: ${why || 'no connection'}.`
  return unavailable(text.replace(/\.\.$/, '.'), last ?? error)
}

import { CorralError, type CorralErrorCode } from '../../../src/base/errors.js'

const UNREACHABLE =
  /^(LOADING|MASTERDOWN|CLUSTERDOWN|TRYAGAIN|NOREPLICAS)\b|Connection is closed|isn't writeable|isn't ready|ECONN|ETIMEDOUT|EPIPE|ENOTFOUND|EAI_AGAIN|EHOSTUNREACH|ENETUNREACH|ENOENT|max retries per request|Command timed out|Socket timeout|startup nodes|Cluster is|Too many Cluster redirections|Failed to refresh slots|aborted|subscriber for|discarded/i
const CREDENTIALS = /^(WRONGPASS|NOAUTH|ERR invalid password|ERR AUTH|ERR Client sent AUTH)/i

export function isCredentials(error: unknown): boolean {
  return error instanceof Error && CREDENTIALS.test(error.message)
}

/** The client refused to send it, or the server to begin it, since its slot moves: nothing has happened. */
export function wasNotExecuted(error: unknown): boolean {
  return error instanceof Error && (error.message.startsWith("Stream isn't writeable") || isTryAgain(error))
}

/** The keys of a slot that moves are not all on one node; ioredis says it in its own words when it has tried for long. */
export function isTryAgain(error: unknown): boolean {
  return error instanceof Error && /\bTRYAGAIN\b/.test(error.message)
}

/** Whether there was no server that could reply. If not, the server refused. */
export function isUnreachable(error: unknown): boolean {
  if (CorralError.is(error)) return error.code === 'ERR_TIMEOUT' || error.code === 'ERR_UNAVAILABLE'
  return (
    error instanceof Error && UNREACHABLE.test(`${error.message} ${(error as { code?: unknown }).code ?? ''}`)
  )
}

export function asError(error: unknown): Error {
  return error instanceof Error ? error : new Error(String(error))
}

/** A failure of the client or the server in our terms, with a remedy. */
export function redisError(error: unknown, last?: Error): CorralError {
  if (CorralError.is(error)) return error
  const message = error instanceof Error ? error.message : String(error)
  const as = (code: CorralErrorCode, text: string, cause: unknown = error) =>
    new CorralError(code, text, { cause })
  if (isCredentials(error))
    return as('ERR_UNAVAILABLE', `Redis refused the credentials (${message}): check username and password.`)
  if (/^READONLY/.test(message))
    return as(
      'ERR_UNAVAILABLE',
      'Expected the primary, got a read-only replica: connect to the primary, through Sentinel if it moves.',
    )
  if (/^NOPERM/.test(message))
    return as(
      'ERR_BACKEND',
      `Redis forbids it to this user (${message}). docs/redis.md lists what the user must be allowed.`,
    )
  if (/^OOM|-OOM|maxmemory/.test(message))
    return as(
      'ERR_BACKEND',
      'Redis is out of memory and may not evict: raise maxmemory, or set a maxmemory-policy such as allkeys-lru.',
    )
  if (isUnreachable(error)) {
    if (/max retries per request/.test(message))
      return as(
        'ERR_UNAVAILABLE',
        `The connection to Redis was lost while the command was under way${last === undefined ? '' : ` (${last.message})`}.`,
        last ?? error,
      )
    const why =
      last === undefined || last === error
        ? message
        : `${message} The last error of the connection: ${last.message}`
    return as(
      'ERR_UNAVAILABLE',
      `Redis cannot be reached: ${why || 'no connection'}.`.replace(/\.\.$/, '.'),
      last ?? error,
    )
  }
  return as('ERR_BACKEND', `Redis answered with an error: ${message}. See \`cause\`.`)
}

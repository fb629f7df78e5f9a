import { report } from '../../../src/base/diagnostics.js'
import { CorralError } from '../../../src/base/errors.js'
import { clearTimeout, performance, setTimeout } from '../../../src/base/timers.js'
import { type Address, type Call, Connection, type Replies } from './connection.js'
import type { Command } from './frames.js'

export interface Server {
  readonly name: string
  /** @throws CorralError `ERR_UNAVAILABLE`, `ERR_TIMEOUT` or `ERR_CLOSED`; never later than the timeout. */
  call(command: Command, repeatable: boolean): Promise<Replies>
  /** Whether commands still go over this connection, so that its versions may be compared. */
  isOn(connection: string): boolean
  close(): void
}

/**
 * One server. It connects when first needed, and again after the server closed the connection. A server that cannot be
 * reached, or does not reply, is down: every call fails without waiting, while probes in growing intervals look for it.
 */
export function openServer(
  address: Address,
  longestPause: number,
  maxWaiting = Number.POSITIVE_INFINITY,
): Server {
  const { name, timeout } = address
  let current: Connection | undefined
  let closed = false
  const outage = outageOf(name, longestPause, () => {
    if (!closed) current = connect()
  })

  const connect = (): Connection => {
    const connection: Connection = new Connection(address, {
      ready: outage.end,
      ended(error, unanswered, wasReady) {
        if (current === connection) current = undefined
        // A server that closes an idle connection is not down; one that admits no connection, or does not reply, is.
        if (!closed && (!wasReady || error.code === 'ERR_TIMEOUT')) outage.begin(error)
        for (const call of unanswered) repeatOrReject(call, error)
      },
    })
    return connection
  }
  const send = (call: Call) => {
    current ??= connect()
    current.send(call)
  }
  const repeatOrReject = (call: Call, error: CorralError) => {
    const inTime = performance.now() - call.at < timeout
    if (call.repeatable && inTime && !closed && outage.error() === undefined) {
      call.repeatable = false
      send(call)
      // A new error for each caller: a caller may add to it.
    } else call.reject(new CorralError(error.code, error.message, { cause: error.cause ?? error }))
  }

  return {
    name,
    call: (command, repeatable) =>
      new Promise((resolve, reject) => {
        if (closed) return reject(new CorralError('ERR_CLOSED', 'The memcached backend was closed.'))
        const down = outage.error()
        if (down !== undefined) return reject(isDown(name, down))
        if (current !== undefined && current.waiting >= maxWaiting)
          return reject(tooManyWait(`commands wait for their turn at ${name}`, current.waiting))
        send({ command, at: performance.now(), repeatable, resolve, reject })
      }),
    isOn: (connection) => current?.id === connection,
    close() {
      closed = true
      outage.stop()
      current?.close()
    },
  }
}

export function tooManyWait(where: string, waiting: number): CorralError {
  return new CorralError(
    'ERR_UNAVAILABLE',
    `${waiting} ${where} already, which is the most: see \`maxWaiting\` of memcached().`,
  )
}

/** ms before a server that is down is probed for the first time. */
const FIRST_PAUSE = 25

/** Whether a server is down; if so, it is probed after pauses that double up to the longest. */
function outageOf(name: string, longestPause: number, probe: () => void) {
  let error: CorralError | undefined
  let pause = FIRST_PAUSE
  let timer: NodeJS.Timeout | undefined
  const notice = (message: string) => report('notice', () => ({ where: 'memcached', message }))
  return {
    error: () => error,
    begin(cause: CorralError): void {
      if (error === undefined) notice(`${name} is down: ${cause.message}`)
      error = cause
      clearTimeout(timer)
      // Spread, so that many processes do not come back at the same moment.
      timer = setTimeout(probe, pause * (0.5 + Math.random())).unref()
      pause = Math.min(pause * 2, longestPause)
    },
    end(): void {
      pause = FIRST_PAUSE
      if (error === undefined) return
      error = undefined
      notice(`${name} is back`)
    },
    stop: () => clearTimeout(timer),
  }
}

function isDown(name: string, cause: CorralError): CorralError {
  const message = `memcached at ${name} is down and being probed: ${cause.message}`
  return new CorralError('ERR_UNAVAILABLE', message, { cause })
}

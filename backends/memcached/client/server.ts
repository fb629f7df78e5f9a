import { report } from '../../../src/base/diagnostics.js'
import { CorralError } from '../../../src/base/errors.js'
import { type Address, type Call, type Connection, openConnection } from './connection.js'
import type { Command, Reply } from './frames.js'

export interface Answer {
  readonly replies: readonly Reply[]
  readonly connection: string
}

export interface Server {
  readonly name: string
  /** @throws CorralError `ERR_UNAVAILABLE`, `ERR_TIMEOUT` or `ERR_CLOSED`; never later than the timeout. */
  call(command: Command, repeatable: boolean): Promise<Answer>
  /** Whether commands still go over this connection, so that what it counts may be compared. */
  isOn(connection: string): boolean
  close(): void
}

/** The first pause before a dead server is tried again, in ms; it doubles up to the longest. */
const FIRST_PAUSE = 25

/**
 * One server: connects when first needed, connects anew after the server closed, and gives a server that cannot be
 * reached or does not answer up at once. From then on every call fails without waiting, while probes in growing
 * intervals look whether it is back.
 */
export function openServer(address: Address, longestPause: number): Server {
  const { name, timeout } = address
  let current: Connection | undefined
  let down: CorralError | undefined
  let closed = false
  let pause = FIRST_PAUSE
  let probing: NodeJS.Timeout | undefined

  const connect = (): Connection => {
    const connection: Connection = openConnection(
      address,
      () => {
        pause = FIRST_PAUSE
        if (down === undefined) return
        down = undefined
        report('notice', () => ({ where: 'memcached', message: `${name} is back` }))
      },
      (error, unanswered, wasReady) => {
        if (current === connection) current = undefined
        // A server that closes an idle connection is not a dead one; one that does not let in, or does not answer, is.
        if (!closed && (!wasReady || error.code === 'ERR_TIMEOUT')) giveUp(error)
        for (const call of unanswered) settle(call, error)
      },
    )
    return connection
  }
  const settle = (call: Call, error: CorralError) => {
    const again = call.repeatable && !closed && down === undefined && performance.now() - call.at < timeout
    if (!again) return call.reject(failure(error))
    call.repeatable = false
    send(call)
  }
  const giveUp = (error: CorralError) => {
    if (down === undefined)
      report('notice', () => ({ where: 'memcached', message: `${name} is down: ${error.message}` }))
    down = error
    clearTimeout(probing)
    // Spread, so that many processes do not come back at the same moment.
    probing = setTimeout(
      () => {
        if (!closed) current = connect()
      },
      pause * (0.5 + Math.random()),
    ).unref()
    pause = Math.min(pause * 2, longestPause)
  }
  const send = (call: Call) => {
    current ??= connect()
    current.send(call)
  }
  /** A new error for each caller: they may add to it. */
  const failure = (cause: CorralError) =>
    new CorralError(cause.code, cause.message, { cause: cause.cause ?? cause })

  return {
    name,
    call: (command, repeatable) =>
      new Promise((resolve, reject) => {
        if (closed) return reject(new CorralError('ERR_CLOSED', 'The memcached backend was closed.'))
        if (down !== undefined)
          return reject(
            new CorralError(
              'ERR_UNAVAILABLE',
              `memcached at ${name} is down and being probed: ${down.message}`,
              { cause: down },
            ),
          )
        send({
          command,
          at: performance.now(),
          repeatable,
          resolve: (replies, connection) => resolve({ replies, connection }),
          reject,
        })
      }),
    isOn: (connection) => current?.id === connection,
    close() {
      closed = true
      clearTimeout(probing)
      current?.close()
    },
  }
}

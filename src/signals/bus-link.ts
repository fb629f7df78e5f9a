import { bindContext } from '../base/async-context.js'
import { report, reportOnce, reportUndecodable } from '../base/diagnostics.js'
import { CorralError, formatValue, messageOf } from '../base/errors.js'
import { andThen, attempt, isPromise, type MaybePromise, orElse } from '../base/maybe-promise.js'
import { ignoreRejections } from '../base/parts.js'
import { clearTimeout, performance, setTimeout, withTimeout } from '../base/timers.js'
import type { Bus } from './bus.js'

/** The messages that two ends of the same address exchange. */
export type Body = Readonly<Record<string, unknown>>

export interface LinkOptions {
  readonly bus: Bus
  /** Ends with the same address receive each other's messages. */
  readonly address: string
  /** ms for a message to be taken by the bus. */
  readonly timeout: number
  /** Receives a message of another end. False: it is invalid. */
  onMessage(body: Body): boolean
  /** Something that was said may not have been heard. */
  onGap(why: string): void
}

export interface Link {
  /** @throws CorralError `ERR_BUS` when the bus did not take it. */
  send(body: Body): MaybePromise<void>
  live(): boolean
  /** Receives nothing any more. Waits for the messages that it sends, for at most their timeout. */
  close(): MaybePromise<void>
}

const VERSION = 1
const NOTHING = { do: 'nothing' } as const
/** ms until a process that could not say something tries to say at least that. */
const CONFESSION = 1_000
const SENSELESS = 'a message for us that makes no sense'
/** ms by which messages may differ in how long they take. */
const ON_THE_WAY = 100
/** Senders whose last number is remembered; the numbers of a forgotten sender begin again. */
const SENDERS = 10_000

/**
 * One end of a conversation on a bus that others use too. Ends number their messages, so that the next message
 * reveals a lost one. A message of a later version counts as lost, because it must not be ignored.
 */
export function link({ bus, address, timeout, onMessage, onGap }: LinkOptions): Link {
  const self = crypto.randomUUID()
  const { receive, restart } = receiver(self, { address, onMessage, onGap })
  const { send, stop } = sender(self, { bus, address, timeout })
  let closed = false
  // Listeners run in the context of the caller that set up this end, not of a request that first used the connection.
  const safely = bindContext((work: () => void) => {
    try {
      work()
    } catch (error) {
      report('failure', () => ({ where: `bus: ${address}`, error }))
    }
  })
  let began = false
  const resumption = resuming(bus, {
    receive: (text, isNext) => safely(() => receive(text, isNext)),
    startOver: () =>
      safely(() => {
        restart()
        if (began) onGap('the subscription was restored')
      }),
  })
  const subscription = bus.subscribe({
    ...resumption.listener,
    down() {
      resumption.listener.down()
      report('notice', () => ({ where: `bus: ${address}`, message: 'the subscription is down' }))
    },
  })
  // An earlier message found no listener here, so none was missed.
  began = true

  /** Anything but an answer counts as no: taken for yes, messages may be lost unnoticed. */
  const isLive = () => {
    const answer: unknown = subscription.live()
    if (typeof answer === 'boolean') return answer
    ignoreRejections(answer)
    reportOnce('notice', `live ${address}`, () => ({
      where: `bus: ${address}`,
      message: `Expected live() of a subscription to return true or false, got ${formatValue(answer)}. Until it does, messages count as lost.`,
    }))
    return false
  }

  return {
    live: () => !closed && !resumption.isCatchingUp() && isLive(),
    send,
    close() {
      closed = true
      const sent = stop()
      return andThen(subscription.close(), () => sent)
    },
  }
}

interface Receiving {
  /** @param isNext - nothing was lost before it, as the bus says */
  receive(text: string, isNext?: boolean): void
  /** Messages were lost. */
  startOver(): void
}

/** Makes up for the messages that were missed, if the bus kept them. Messages that come meanwhile wait. */
function resuming(bus: Bus, { receive, startOver }: Receiving) {
  let position: string | undefined
  let waiting: (readonly [text: string, position: string | undefined])[] | undefined
  const take = (text: string, at: string | undefined): void => {
    position = at
    receive(text)
  }
  const askFor = async (mine: typeof waiting): Promise<void> => {
    const found = await attempt(() => bus.since?.(position)).catch(() => undefined)
    // The subscription went down meanwhile, or was restored once more.
    if (waiting !== mine) return
    if (position === undefined || found?.messages === undefined) startOver()
    // One that is among those that wait as well has its number.
    else for (const text of found.messages) receive(text, true)
    position = found?.position
    waiting = undefined
    for (const [text, at] of mine ?? []) take(text, at)
  }
  return {
    isCatchingUp: () => waiting !== undefined,
    listener: {
      heard(text: string, at?: string) {
        if (waiting === undefined) take(text, at)
        else waiting.push([text, at])
      },
      up() {
        if (bus.since === undefined) startOver()
        else void askFor((waiting = []))
      },
      // What comes before `up` stands behind the messages that were lost: it must not move the position past them.
      down() {
        waiting = bus.since === undefined ? undefined : []
      },
    },
  }
}

/** Takes the messages of other ends, and notices those that were lost. */
function receiver(self: string, { address, onMessage, onGap }: Omit<LinkOptions, 'bus' | 'timeout'>) {
  const numbers = new Map<string, number>()
  let stoodAt = performance.now()

  const ignore = (why: string) => {
    reportUndecodable('bus', address, why)
  }
  const nonsense = () => {
    ignore(SENSELESS)
    onGap(SENSELESS)
  }
  const receive = (text: string, isNext = false): void => {
    const message = read(text)
    if (message === undefined) ignore('not a message of ours')
    else if (message.corral !== VERSION) onGap(`a message of version ${formatValue(message.corral)}`)
    else if (message.to === address && message.from !== self) take(message, isNext)
  }
  /** How many messages of a sender were lost before this one. */
  const gap = (n: number, last: number | undefined, after: unknown): number => {
    if (last !== undefined) return n - last - 1
    // The sender was there before this end subscribed: earlier messages are missing only if they were sent since.
    const before = typeof after === 'number' && after > performance.now() - stoodAt + ON_THE_WAY
    return before ? 0 : n - 1
  }
  const take = ({ from, n, after, body, lost }: Message, isNext: boolean): void => {
    if (typeof from !== 'string' || typeof n !== 'number' || !isBody(body)) {
      nonsense()
      return
    }
    const last = numbers.get(from)
    // It was received, or the gap that it left was told when a later one came.
    if (last !== undefined && n <= last) return
    if (last === undefined && numbers.size >= SENDERS) numbers.delete(numbers.keys().next().value as string)
    numbers.set(from, n)
    if (lost === true) onGap('another process could not send all that it had to say')
    else if (!isNext && gap(n, last, after) > 0)
      onGap(`${gap(n, last, after)} messages of another process were lost`)
    if (body.do !== NOTHING.do && !onMessage(body)) nonsense()
  }
  return {
    receive,
    /** Forgets the senders: messages may have been lost until now. */
    restart() {
      numbers.clear()
      stoodAt = performance.now()
    },
  }
}

/** Numbers messages, and repeats in the next one that an earlier one may be lost. */
function sender(self: string, { bus, address, timeout }: Pick<LinkOptions, 'bus' | 'address' | 'timeout'>) {
  let said = 0
  let saidAt = 0
  let stopped = false
  /** How often something could not be said. */
  let failures = 0
  let confessed = 0
  let timer: NodeJS.Timeout | undefined
  const underWay = new Set<Promise<unknown>>()
  const late = () => new Error(`the bus did not take it within ${timeout} ms.`)
  const send = (body: Body): MaybePromise<void> => {
    const owed = failures
    const lost = owed > confessed ? { lost: true } : {}
    const now = performance.now()
    const after = said > 0 ? { after: Math.round(now - saidAt) } : {}
    saidAt = now
    const place = { corral: VERSION, to: address, from: self, n: ++said }
    const text = JSON.stringify({ ...place, ...after, ...lost, body })
    const done = () => {
      confessed = Math.max(confessed, owed)
    }
    const failed = (cause: unknown): never => {
      failures++
      later()
      throw new CorralError(
        'ERR_BUS',
        `The other processes could not be notified of a change in this one: ${messageOf(cause)} Do it again when the bus is there.`,
        { cause },
      )
    }
    return orElse(() => {
      const sent = bus.publish(text)
      if (!isPromise(sent)) return done()
      const taken = withTimeout(sent, timeout, late)
      const ended = () => void underWay.delete(taken)
      underWay.add(taken)
      taken.then(ended, ended)
      return taken.then(done)
    }, failed)
  }
  /** After a failed send, keep trying to tell the other processes to drop everything. */
  const later = () => {
    if (stopped) return
    timer ??= setTimeout(() => {
      timer = undefined
      if (failures > confessed) void orElse(() => send(NOTHING), later)
    }, CONFESSION)
    timer.unref()
  }
  return {
    send,
    /** Waits for what is under way. */
    stop(): MaybePromise<void> {
      stopped = true
      clearTimeout(timer)
      return underWay.size === 0 ? undefined : Promise.allSettled(underWay).then(() => {})
    },
  }
}

interface Message {
  readonly corral: number
  readonly to?: unknown
  readonly from?: unknown
  readonly n?: unknown
  /** ms since its previous message, for ends that do not know it yet. */
  readonly after?: unknown
  /** The sender knows that something it said before was lost. */
  readonly lost?: unknown
  readonly body?: unknown
}

function read(text: unknown): Message | undefined {
  if (typeof text !== 'string') return undefined
  try {
    const message = JSON.parse(text) as Message | null
    return isBody(message) && typeof message.corral === 'number' ? message : undefined
  } catch {
    return undefined
  }
}

/** Whether it is an object that JSON may have held. */
export function isBody(value: unknown): value is Body {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

/** Whether it is a list of texts, as names and keys are. */
export function isNames(value: unknown): value is readonly string[] {
  return Array.isArray(value) && value.every((one) => typeof one === 'string')
}

/** Characters of names in one message: a long list goes in several, which servers and subscribers can digest. */
const PORTION = 65_536

/** Names in portions for one message each. */
export function portions(names: readonly string[]): string[][] {
  const lists: string[][] = []
  let size = Number.POSITIVE_INFINITY
  for (const name of names) {
    size += name.length
    if (size > PORTION) {
      lists.push([])
      size = name.length
    }
    lists.at(-1)?.push(name)
  }
  return lists
}

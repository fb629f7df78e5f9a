import { isPromise, MAP_LAZILY, type MaybePromise } from '../../../src/base/maybe-promise.js'

/** Many replies that come together. */
export interface ReplySource {
  /** Resolves when they are here, or will never be. Never rejects. */
  readonly settled: Promise<void>
  /** Whether it has resolved. */
  readonly isSettled: boolean
}

/**
 * One of many replies that come together: a promise of its own for each key would cost more than the key. It becomes a
 * promise when a caller waits for it, one for all layers of a chain; it is read once. If no caller waits, a failure is no
 * unhandled rejection.
 */
export abstract class PendingReply<T> implements Promise<T> {
  declare readonly [Symbol.toStringTag]: string
  private isRead = false
  private hasFailed = false
  private outcome: unknown = undefined

  constructor(readonly source: ReplySource) {}

  protected abstract read(): MaybePromise<T>

  /** The value. To be read only once it is here. @throws the error of the batch, or of decoding. */
  value(): MaybePromise<T> {
    if (!this.isRead) {
      this.isRead = true
      try {
        this.outcome = this.read()
      } catch (error) {
        this.outcome = error
        this.hasFailed = true
      }
    }
    if (this.hasFailed) throw this.outcome
    return this.outcome as MaybePromise<T>
  }

  [MAP_LAZILY]<R, A>(change: (value: T, about: A) => MaybePromise<R>, about: A): MaybePromise<R> {
    const later = new MappedReply<T, R, A>(this, change, about)
    return this.source.isSettled ? later.value() : later
  }

  // A native promise underneath: a waiter goes on in its own asynchronous context.
  // biome-ignore lint/suspicious/noThenProperty: it stands in for a promise
  then<R = T, E = never>(
    fulfilled?: ((value: T) => R | PromiseLike<R>) | null,
    rejected?: ((reason: unknown) => E | PromiseLike<E>) | null,
  ): Promise<R | E> {
    return this.source.settled.then((): R | E | PromiseLike<R | E> => {
      let value: MaybePromise<T>
      try {
        value = this.value()
      } catch (error) {
        if (typeof rejected === 'function') return rejected(error)
        throw error
      }
      if (isPromise(value)) return value.then(fulfilled, rejected)
      return typeof fulfilled === 'function' ? fulfilled(value) : (value as unknown as R)
    })
  }

  catch<E = never>(rejected?: ((reason: unknown) => E | PromiseLike<E>) | null): Promise<T | E> {
    return this.then(undefined, rejected)
  }

  finally(whatever?: (() => void) | null): Promise<T> {
    return this.then().finally(whatever)
  }
}

/** A reply that a function makes of others. */
export class ComputedReply<T> extends PendingReply<T> {
  constructor(
    source: ReplySource,
    protected readonly read: () => MaybePromise<T>,
  ) {
    super(source)
  }
}

/** A layer's result of a reply. */
class MappedReply<T, R, A> extends PendingReply<R> {
  constructor(
    private readonly reply: PendingReply<T>,
    private readonly change: (value: T, about: A) => MaybePromise<R>,
    private readonly about: A,
  ) {
    super(reply.source)
  }

  protected read(): MaybePromise<R> {
    const { change, about } = this
    const value = this.reply.value()
    return isPromise(value) ? value.then((later) => change(later, about)) : change(value, about)
  }
}

// For proxies that ask `instanceof Promise`.
Object.setPrototypeOf(PendingReply.prototype, Promise.prototype)

import { isPromise, type MaybePromise } from '../base/maybe-promise.js'

/** The calls under way over one backend: the last region over it closes it after they have ended. */
export interface CallsUnderWay {
  /** Counts a call until its result is here. Every failure of it is that of the result. */
  count<R>(result: MaybePromise<R>): MaybePromise<R>
  begin(): void
  end(): void
  /** Resolves when no call is under way. */
  idle(): Promise<void>
}

export function callsUnderWay(): CallsUnderWay {
  let running = 0
  let whenIdle: (() => void)[] = []
  const begin = (): void => {
    running++
  }
  const end = (): void => {
    if (--running > 0) return
    for (const resolve of whenIdle) resolve()
    whenIdle = []
  }
  // The caller gets the later promise: a handler on the earlier one would hide a rejection that no caller handles.
  const passed = <R>(value: R): R => {
    end()
    return value
  }
  const failed = (error: unknown): never => {
    end()
    throw error
  }
  return {
    begin,
    end,
    count(result) {
      if (!isPromise(result)) return result
      begin()
      return result.then(passed, failed)
    },
    idle: () => (running === 0 ? Promise.resolve() : new Promise((resolve) => whenIdle.push(resolve))),
  }
}

import { NO_VALUE } from '../backend/cached-value.js'
import type { CallRegistry } from '../backend/tracker.js'

/** How many values are renewed at a time: a group must not fall upon the database all at once. */
const AT_A_TIME = 8

interface Call {
  readonly names: readonly string[]
  readonly renew: () => Promise<boolean>
}

/** Remembers the latest calls, one for each key. */
export function remembered(limit = 10_000): CallRegistry {
  const calls = new Map<string, Call>()
  /** The one key of a name, which most names have, or several. */
  const keysOf = new Map<string, string | Set<string>>()
  const forget = (key: string, { names }: Call): void => {
    calls.delete(key)
    for (const name of names) {
      const keys = keysOf.get(name)
      if (typeof keys === 'object') keys.delete(key)
      if (keys === key || (typeof keys === 'object' && keys.size === 0)) keysOf.delete(name)
    }
  }
  return {
    record(key, names, renew) {
      const former = calls.get(key)
      const [oldest] = calls
      if (former !== undefined) forget(key, former)
      else if (oldest !== undefined && calls.size >= limit) forget(...oldest)
      calls.set(key, { names, renew })
      for (const name of names) {
        const keys = keysOf.get(name)
        if (typeof keys === 'object') keys.add(key)
        else keysOf.set(name, keys === undefined || keys === key ? key : new Set([keys, key]))
      }
    },
    keys: (names) => [
      ...new Set(
        names.flatMap((name) => {
          const keys = keysOf.get(name) ?? []
          return typeof keys === 'string' ? [keys] : [...keys]
        }),
      ),
    ],
    async repeat(keys, values, onDemand) {
      const failures = new Set<unknown>()
      let pending = keys
      while (pending.length > 0) {
        const found = await values.getMulti(pending, { ignoreExpiration: true })
        const present = pending.filter((_, i) => found[i] !== NO_VALUE)
        const unsettled = await repeatOnce(present, (key) => calls.get(key)?.renew(), failures, onDemand)
        // Functions that call each other in a circle cannot wait for each other: one got the old value of another. Some of
        // the others are settled in every round; where none is settled another round won't help.
        pending = unsettled.length < present.length ? unsettled : []
      }
      for (const failure of failures) throw failure
    },
  }
}

/** Renews each key once, those first that the creators of others need. Returns the keys whose values could not be stored. */
async function repeatOnce(
  keys: readonly string[],
  renew: (key: string) => Promise<boolean> | undefined,
  failures: Set<unknown>,
  onDemand: (start: (key: string) => void) => void,
): Promise<readonly string[]> {
  const unsettled: string[] = []
  const started = new Map<string, Promise<void>>()
  const run = async (key: string): Promise<void> => {
    try {
      if ((await renew(key)) === false) unsettled.push(key)
    } catch (error) {
      failures.add(error)
    }
  }
  const start = (key: string): Promise<void> => {
    let running = started.get(key)
    if (running === undefined) started.set(key, (running = run(key)))
    return running
  }
  const wanted = new Set(keys)
  onDemand((key) => {
    if (wanted.has(key)) void start(key)
  })
  const left = keys.values()
  const worker = async (): Promise<void> => {
    for (const key of left) await start(key)
  }
  await Promise.all(Array.from({ length: AT_A_TIME }, worker))
  return unsettled
}

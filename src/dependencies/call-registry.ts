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
  const keysOf = new Map<string, Set<string>>()
  const forget = (key: string, { names }: Call): void => {
    calls.delete(key)
    for (const name of names) {
      const keys = keysOf.get(name)
      keys?.delete(key)
      if (keys?.size === 0) keysOf.delete(name)
    }
  }
  return {
    record(key, names, renew) {
      const former = calls.get(key)
      const [oldest] = calls
      if (former !== undefined) forget(key, former)
      else if (oldest !== undefined && calls.size >= limit) forget(...oldest)
      calls.set(key, { names, renew })
      for (const name of names) keysOf.set(name, (keysOf.get(name) ?? new Set()).add(key))
    },
    keys: (names) => [...new Set(names.flatMap((name) => [...(keysOf.get(name) ?? [])]))],
    async repeat(keys, values) {
      const failures: unknown[] = []
      let pending = keys
      while (pending.length > 0) {
        const found = await values.getMulti(pending, { ignoreExpiration: true })
        const present = pending.filter((_, i) => found[i] !== NO_VALUE)
        const unsettled: string[] = []
        const left = present.values()
        const worker = async (): Promise<void> => {
          for (const key of left)
            try {
              if ((await calls.get(key)?.renew()) === false) unsettled.push(key)
            } catch (error) {
              failures.push(error)
            }
        }
        await Promise.all(Array.from({ length: AT_A_TIME }, worker))
        // A whole may have got the old value of a part that was being renewed at the same time. The innermost parts are
        // settled in every round, so it is its turn sooner or later; where none is settled another round won't help.
        pending = unsettled.length < present.length ? unsettled : []
      }
      if (failures.length > 0) throw failures[0]
    },
  }
}

import type { CachedValue } from '../../src/index.js'

/** The three methods that every store has, over a map. */
export function threeMethods(values = new Map<string, CachedValue>()) {
  return {
    name: 'map',
    get: (key: string) => values.get(key),
    set: (key: string, value: CachedValue) => void values.set(key, value),
    delete: (key: string) => void values.delete(key),
  }
}

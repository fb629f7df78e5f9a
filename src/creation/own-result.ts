import type { Creation } from './types.js'

type Keep = (reason: string) => void

const keeps = new WeakMap<Creation, Keep>()

/** Lets `keepForCaller` reach the creator's region. */
export function onKeepForCaller(creation: Creation, keep: Keep): Creation {
  keeps.set(creation, keep)
  return creation
}

/**
 * Keeps the values of a creation for the caller that leads it: they are not stored, and callers that wait for the keys start
 * over with creators of their own.
 */
export function keepForCaller(creation: Creation, reason: string): void {
  keeps.get(creation)?.(reason)
}

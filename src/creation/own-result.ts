import type { Creation } from './types.js'

/** The member of a creation that keeps its values for the caller that leads it. */
export const KEEP: unique symbol = Symbol('keep')

/**
 * Keeps the values of a creation for the caller that leads it: they are not stored, and callers that wait for the keys start
 * over with creators of their own.
 * @param isCreation - `false`: nothing was created, so that it counts nowhere
 * @param key - keeps the value of this key alone, and only from being stored: callers that wait for it receive it
 */
export function keepForCaller(
  creation: Creation & { [KEEP]?(reason: string, isCreation: boolean, key?: string): void },
  reason: string,
  isCreation = true,
  key?: string,
): void {
  creation[KEEP]?.(reason, isCreation, key)
}

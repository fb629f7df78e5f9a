import type { Creation } from './types.js'

/** The member of a creation that keeps its values for the caller that leads it. */
export const KEEP: unique symbol = Symbol('keep')

/**
 * Keeps the values of a creation for the caller that leads it: they are not stored, and callers that wait for the keys start
 * over with creators of their own.
 * @param isCreation - `false`: nothing was created, so that it counts nowhere
 */
export function keepForCaller(
  creation: Creation & { [KEEP]?(reason: string, isCreation: boolean): void },
  reason: string,
  isCreation = true,
): void {
  creation[KEEP]?.(reason, isCreation)
}

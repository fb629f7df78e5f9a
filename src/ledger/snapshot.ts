import { randomUUID } from 'node:crypto'

/**
 * The epoch of a clock that starts: 48 random bits in eight letters, which an entry stores in six bytes. A lost clock would
 * revive its entries only if the next one drew the same.
 */
export function newEpoch(): string {
  // Node draws the random bytes of many UUIDs at once; six bytes alone cost more than the command that they go along with.
  const uuid = randomUUID()
  return Buffer.from(uuid.slice(0, 8) + uuid.slice(9, 13), 'hex').toString('base64url')
}

/**
 * A time on a ledger's clock. Times of different epochs cannot be compared: the clock was lost in between.
 * @example
 * ```ts
 * import type { LedgerTime } from 'corral'
 *
 * export const start: LedgerTime = { epoch: 'e', at: 0 }
 * ```
 */
export interface LedgerTime {
  readonly epoch: string
  readonly at: number
}

/**
 * Names that a part of an entry depends on, and the clock as it stood before that part was created.
 * @example
 * ```ts
 * import type { DependencyGroup } from 'corral'
 *
 * export const group: DependencyGroup = { asOf: 3, names: ['id:user:5'] }
 * ```
 */
export interface DependencyGroup {
  readonly asOf: number
  readonly names: readonly string[]
}

/**
 * Everything that an entry depends on. The entry is current while no name was invalidated after its group's `asOf`.
 * @example
 * ```ts
 * import type { DependencySnapshot } from 'corral'
 *
 * export const snapshot: DependencySnapshot = { epoch: 'e', groups: [{ asOf: 3, names: ['id:user:5'] }] }
 * ```
 */
export interface DependencySnapshot {
  readonly epoch: string
  readonly groups: readonly DependencyGroup[]
  /** Names of versions, each with its value when the entry was created. A check judges them, not the ledger. */
  readonly versions?: readonly string[]
}

/** The names of a snapshot, in the order of its groups. */
export function namesOf(snapshot: DependencySnapshot): readonly string[] {
  const { groups } = snapshot
  // Asked at each hit of a near cache: to take a list apart costs as much as the rest.
  return groups.length === 1 && groups[0] !== undefined
    ? groups[0].names
    : Object.freeze(groups.flatMap((group) => group.names))
}

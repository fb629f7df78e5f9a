import type { MaybePromise } from '../base/maybe-promise.js'

/** ms. A shorter bound is not proved in the background: every read asks for its proof. */
export const LEAST_PUSHED = 100

/** A copy's place among the changes that this process knows of, and the places up to which it is known to stand. */
export interface CopyMark {
  /** Of the read that brought it. */
  readonly place: number
  /** By its key. */
  key: number
  /** By its names. */
  names: number
}

/**
 * The latest invalidations of a ledger's store, as this process knows them. A near cache asks it whether a copy may still be
 * served. A place is a number in the order in which this process took reads and learnt of changes: a read that was sent
 * after its place was taken includes every change with a smaller one. Keys and names are those of this layer.
 */
export interface LedgerTail {
  /** Takes a place for a read of the key that is sent after this call. */
  place(key: string): number
  /** Whether a copy is still the value of its key. If so, its mark is moved on, so that the next question costs a comparison. */
  keyStands(key: string, mark: CopyMark): boolean
  /** Whether none of the names was invalidated since. Moves the mark on too. Absent where the ledger itself replies at once. */
  namesStand?: ((names: readonly string[], mark: CopyMark) => boolean) | undefined
  /** Whether a value that was read at the place may become a copy. */
  admits(key: string, since: number): boolean
  /** This process stored a newer value of the key, or got it past the copies. Reads that were sent before must not become copies. */
  filled(key: string): void
  /** Whether all changes that the store had acknowledged `within` ms ago are known here. */
  isProven(within: number): boolean
  /** ms since the question was sent that proves the present knowledge. */
  proofAge(): number
  /** Learns all changes that the store has acknowledged by now: one command for all calls of a tick. `false`: it cannot tell. */
  prove(): MaybePromise<boolean>
  /** Begins to do so in the background, unless it is under way. */
  catchUp(): void
  /** Registers a near cache with the store, until the returned function is called. */
  join(maxStaleness: number): () => void
}

/** A tail seen through functions from the keys and names of a layer to those of the layer below. */
export function mapTail(
  tail: LedgerTail,
  mapKey: (key: string) => string,
  mapNames: (names: readonly string[]) => readonly string[],
): LedgerTail {
  return {
    place: (key) => tail.place(mapKey(key)),
    keyStands: (key, mark) => tail.keyStands(mapKey(key), mark),
    namesStand: tail.namesStand && ((names, mark) => tail.namesStand?.(mapNames(names), mark) === true),
    admits: (key, since) => tail.admits(mapKey(key), since),
    filled: (key) => tail.filled(mapKey(key)),
    isProven: (within) => tail.isProven(within),
    proofAge: () => tail.proofAge(),
    prove: () => tail.prove(),
    catchUp: () => tail.catchUp(),
    join: (maxStaleness) => tail.join(maxStaleness),
  }
}

/** The order of a near cache's reads of the store. */
export interface FarRead {
  readonly key: string
  /** Its place among the changes. */
  readonly since: number
  /** Its place among the reads of this layer. */
  readonly order: number
}

/** Keys whose latest answered read is remembered, unless one call reads more of them. */
const ANSWERED = 8_192

/**
 * Which reads of the store came with which outcome last, so that no copy is older than a value that a caller got. A key may have
 * a newer value without a recorded change: it was renewed. The latest value is known to be that of the read that was sent last,
 * if it was answered last too.
 */
export class ReadOrder {
  #latest = 0
  /** Reads that were sent up to here are no longer remembered. */
  #floor = 0
  /** Of each key, the order of the latest read that was answered, or from which on reads may be compared again. */
  readonly #answered = new Map<string, number>()
  #most = ANSWERED

  /** For reads of one call, which are all answered before any of them is judged. */
  makeRoom(reads: number): void {
    this.#most = Math.max(this.#most, 2 * reads)
  }

  next(): number {
    return ++this.#latest
  }

  answered({ key, order }: FarRead): void {
    const answered = this.#answered
    const last = answered.get(key) ?? this.#floor
    answered.delete(key)
    // Overtaken by a later read: layers below may pass replies on in another order, and it is unknown which value is newer.
    answered.set(key, order > last ? order : this.next())
    if (answered.size <= this.#most) return
    let excess = this.#most / 2
    for (const [other, at] of answered) {
      if (excess-- <= 0) break
      answered.delete(other)
      this.#floor = Math.max(this.#floor, at)
    }
  }

  /** Whether no caller can have got a newer value of the key than the one of this read. */
  isLatest({ key, order }: FarRead): boolean {
    return this.#answered.get(key) === order
  }
}

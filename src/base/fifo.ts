/** A queue whose first item is removed in constant time, however long it is. */
export class Fifo<T> {
  #items: T[] = []
  /** Items before it were removed. */
  #head = 0

  get size(): number {
    return this.#items.length - this.#head
  }

  all(): readonly T[] {
    return this.#items.slice(this.#head)
  }

  get first(): T | undefined {
    return this.#items[this.#head]
  }

  push(item: T): void {
    this.#items.push(item)
  }

  shift(): T | undefined {
    if (this.size === 0) return undefined
    const first = this.#items[this.#head++]
    // Half of the list at a time, which costs less than `shift` for each item.
    if (this.#head * 2 >= this.#items.length) {
      this.#items = this.#items.slice(this.#head)
      this.#head = 0
    }
    return first
  }
}

import { type Facts, NO_FACTS } from './packed.js'

/** The record that the store keeps under a key. It is the store's own object: read it at once, it is emptied when it leaves. */
export interface Entry<T> extends Facts {
  value: T | undefined
  readonly key: string
  /** Epoch milliseconds; `Infinity` is never. `set` changes it: an entry that never expired is unknown to `sweep`. */
  expiresAt: number
  weight: number
}

export interface BoundedOptions {
  /** How many entries may live, at least 1; `Infinity` is unbounded. */
  readonly maxEntries: number
  /** The limit of the entries' total weight, in bytes; `Infinity` is unbounded. */
  readonly maxWeight: number
  /** Told of each entry that the store removes by itself. It must not call the store. */
  readonly onEvict?: ((key: string, reason: 'evicted' | 'expired') => void) | undefined
}

export interface Bounded<T> {
  /** The live entry, counting the access; undefined when absent or only a ghost. Does not look at `expiresAt`. */
  get(key: string): Entry<T> | undefined
  /** Looks without counting an access. */
  peek(key: string): Entry<T> | undefined
  /**
   * Inserts or replaces, within the limits. Answers false when `weight` alone exceeds `maxWeight`: nothing is
   * stored then, and a previous entry of the key is removed.
   * @param facts - stand in the entry beside the value, so that they need no object of their own
   */
  set(key: string, value: T, expiresAt: number, weight: number, facts?: Facts): boolean
  delete(key: string): boolean
  /**
   * Frees at most `limit` entries whose `expiresAt` is not after `now` and answers how many, continuing where the
   * last call stopped. Looks at no more than eight times `limit` entries.
   */
  sweep(now: number, limit: number): number
  /** How many entries live. */
  readonly size: number
  /** The total weight of the live entries. */
  readonly weight: number
  entries(): IterableIterator<Entry<T>>
}

/** Where an entry stands: in no queue, in one of the two, in a queue of ghosts, or removed. Up to `MAIN` it lives. */
const LOOSE = 0
const SMALL = 1
const MAIN = 2
const GHOST_OF_SMALL = 3
const GHOST_OF_MAIN = 4
const GONE = 5

/**
 * `state` is the place and, above it, the hits of a live entry or the number of a ghost's eviction: one field for both,
 * because an operation costs by the memory it touches.
 */
type Node<T> = { -readonly [K in keyof Entry<T>]: Entry<T>[K] } & { state: number }
const PLACE = 7
const ABOVE = 3
const HIT = 1 << ABOVE

function makeNode<T>(
  key: string,
  value: T | undefined,
  expiresAt: number,
  weight: number,
  place: number,
  { started, took, expiresIn, common, own }: Facts,
): Node<T> {
  return { state: place, value, expiresAt, key, weight, started, took, expiresIn, common, own }
}

function replaceFacts(node: Node<unknown>, facts: Facts): void {
  node.started = facts.started
  node.took = facts.took
  node.expiresIn = facts.expiresIn
  node.common = facts.common
  node.own = facts.own
}

/**
 * Fills the slots of a queue that hold nothing. Its `expiresAt` is no number, so that V8 keeps the field as a pointer in
 * all nodes: V8 boxes a field of doubles only in each of them.
 */
const HOLE: Node<never> = makeNode<never>('', undefined, undefined as unknown as number, 0, GONE, NO_FACTS)

/** Hits are counted no further than three, so that a hot entry is read without being written. */
const HOT = 3 * HIT

// The figures below were chosen on the traces of bench/local/eviction.ts and on random mixtures of their kinds.

/** The small queue's share of the store: where it starts, and how far it may go. */
const SHARE = 0.1
const LEAST_SHARE = 0.05
const GREATEST_SHARE = 0.9
/** Above this share the traffic is recent rather than frequent: one turn without a hit ends an entry of the main queue. */
const RECENT = 0.12
/** The largest step of the share when a ghost returns: it moves as far as the last so many returns agree. */
const STEP = 0.01
const MEMORY = 16
/** A return just missed if its age is within this part of the store; the others to the small queue weigh little. */
const MARGIN = 0.05
const FAR = 1 / 64
/** A return to the main queue weighs more: a key that was hit once is hit again. */
const TO_MAIN = 1.3
/** The age of a ghost of the main queue: in evictions; in recent traffic in turns, since going round delays the others. */
const EVICTION = 3
const TURN = 2
/** The ghosts of the small queue, as a part of the live entries: with the least small queue, a loop that fits is seen. */
const GHOSTS = 0.95

/** Eviction numbers wrap here: with the place they stay within V8's small integers. */
const WRAP = 0x7ffffff

/**
 * A map of bounded size and weight that keeps keys that are likely to be read again: S3-FIFO, whose small queue grows
 * and shrinks with the traffic.
 *
 * New keys pass through a small queue; keys that are hit there go to the main one, the rest leaves as a ghost, that is a
 * key without a value; a key that returns while it is a ghost goes to the main queue at once. So a scan never pushes
 * out keys in use, and a hit writes a counter and moves nothing.
 *
 * A fixed small queue loses to LRU wherever keys are read again after leaving it (sessions, moving windows). So its
 * share follows the ghosts, as ARC's does: a return just after leaving the small queue asks for a larger one, a return
 * just after leaving the main queue for a smaller one.
 *
 * Ghosts stay in the one map, so that each operation looks a key up once. The order of the map is never used: taking
 * the first key of a JavaScript map again and again costs the number of deleted ones.
 */
export function bounded<T>(options: BoundedOptions): Bounded<T> {
  return new Store(options)
}

/** A class, because closures over the same state measure a quarter slower. */
class Store<T> implements Bounded<T> {
  size = 0
  weight = 0
  private readonly nodes = new Map<string, Node<T>>()
  // Without limits nothing is evicted, and the main queue holds expiring entries, for the sweep alone.
  private readonly small = new Ring<T>(SMALL)
  private readonly main = new Ring<T>(MAIN)
  private readonly ghostsOfSmall = new Ring<T>(GHOST_OF_SMALL)
  private readonly ghostsOfMain = new Ring<T>(GHOST_OF_MAIN)
  /** The content of the small queue, in the unit that is limited: bytes, else entries. */
  private smallLoad = 0
  private share = SHARE
  private leaning = 0
  private evictions = 0
  private turns = 0
  private swept = this.small
  private readonly maxEntries: number
  private readonly maxWeight: number
  private readonly limited: boolean
  private readonly weighed: boolean
  private readonly onEvict: BoundedOptions['onEvict']

  constructor({ maxEntries, maxWeight, onEvict }: BoundedOptions) {
    this.maxEntries = maxEntries
    this.maxWeight = maxWeight
    this.weighed = maxWeight !== Infinity
    this.limited = this.weighed || maxEntries !== Infinity
    this.onEvict = onEvict
  }

  get(key: string): Entry<T> | undefined {
    const node = this.nodes.get(key)
    if (node === undefined) return undefined
    const { state } = node
    if ((state & PLACE) > MAIN) return undefined
    if (state < HOT) node.state = state + HIT
    return node
  }

  peek(key: string): Entry<T> | undefined {
    return this.live(key)
  }

  set(key: string, value: T, expiresAt: number, weight: number, facts: Facts = NO_FACTS): boolean {
    const node = this.nodes.get(key)
    if (weight > this.maxWeight) {
      this.delete(key)
      return false
    }
    if (node === undefined) this.insert(key, value, expiresAt, weight, facts)
    else {
      replaceFacts(node, facts)
      if ((node.state & PLACE) > MAIN) this.revive(node, value, expiresAt, weight)
      else this.replace(node, value, expiresAt, weight, facts)
    }
    return true
  }

  delete(key: string): boolean {
    const node = this.live(key)
    if (node === undefined) return false
    this.remove(node)
    return true
  }

  sweep(now: number, limit: number): number {
    let freed = 0
    let ends = 0
    for (let looks = limit * 8; looks > 0 && freed < limit; looks--) {
      const node = this.swept.next()
      if (node === undefined) {
        // Three ends: the rest of this queue, all of the other, and this one from its beginning.
        if (++ends === 3) break
        this.swept = this.swept === this.small ? this.main : this.small
      } else if (node.expiresAt <= now) {
        this.remove(node)
        freed++
        this.onEvict?.(node.key, 'expired')
      }
    }
    return freed
  }

  *entries(): IterableIterator<Entry<T>> {
    for (const node of this.nodes.values()) if ((node.state & PLACE) <= MAIN) yield node
  }

  private live(key: string): Node<T> | undefined {
    const node = this.nodes.get(key)
    return node === undefined || (node.state & PLACE) > MAIN ? undefined : node
  }

  private insert(key: string, value: T, expiresAt: number, weight: number, facts: Facts): void {
    const spare = this.makeRoom(weight)
    const place = this.limited ? SMALL : expiresAt === Infinity ? LOOSE : MAIN
    const node = makeNode(key, value, expiresAt, weight, place, facts)
    this.nodes.set(key, node)
    this.enter(node, spare)
  }

  /** Brings a ghost back, which teaches: see `bounded`. */
  private revive(node: Node<T>, value: T, expiresAt: number, weight: number): void {
    const { state } = node
    node.state = GONE
    const number = state >> ABOVE
    const margin = (this.size * MARGIN) | 0
    let place = SMALL
    if ((state & PLACE) === GHOST_OF_SMALL) {
      place = MAIN
      this.lean(1, ((this.evictions - number) & WRAP) <= margin ? 1 : FAR)
    } else if (((this.turns - number) & WRAP) <= margin * EVICTION) this.lean(-1, TO_MAIN)
    const spare = this.makeRoom(weight)
    node.state = place
    node.value = value
    node.expiresAt = expiresAt
    node.weight = weight
    this.enter(node, spare)
  }

  private lean(towards: number, weight: number): void {
    this.leaning += ((towards - this.leaning) * weight) / MEMORY
    const share = this.share + STEP * weight * this.leaning * Math.abs(this.leaning)
    this.share = Math.min(GREATEST_SHARE, Math.max(LEAST_SHARE, share))
  }

  private replace(node: Node<T>, value: T, expiresAt: number, weight: number, facts: Facts): void {
    const more = weight - node.weight
    if (this.weight + more > this.maxWeight) {
      // Making room could pick this very entry, so it leaves first.
      this.remove(node)
      this.insert(node.key, value, expiresAt, weight, facts)
      return
    }
    this.weight += more
    const place = node.state & PLACE
    if (this.weighed && place === SMALL) this.smallLoad += more
    node.value = value
    node.expiresAt = expiresAt
    node.weight = weight
    if (place === LOOSE && expiresAt !== Infinity) {
      node.state = MAIN
      this.main.push(node)
    }
  }

  /** Adds a node to the sums and to its queue. */
  private enter(node: Node<T>, spare: boolean): void {
    this.size++
    this.weight += node.weight
    if (node.state === MAIN) this.main.push(node)
    else if (node.state === SMALL) {
      this.small.push(node)
      this.smallLoad += this.weighed ? node.weight : 1
      // While there is room to spare, the excess of the small queue goes to the main one and not out.
      if (!spare || this.smallLoad <= this.share * (this.weighed ? this.weight : this.size)) return
      const oldest = this.small.shift()
      if (oldest !== undefined) this.promote(oldest, oldest.state - SMALL + MAIN)
    }
  }

  /** Evicts until one more entry of this weight fits in; answers whether none had to go. */
  private makeRoom(weight: number): boolean {
    let spare = true
    while (this.size > 0 && (this.size >= this.maxEntries || this.weight + weight > this.maxWeight)) {
      this.evict()
      spare = false
    }
    return spare
  }

  private promote(node: Node<T>, state: number): void {
    this.smallLoad -= this.weighed ? node.weight : 1
    node.state = state
    this.main.push(node)
  }

  /** Evicts one entry. It ends, because each turn lowers a count of hits. */
  private evict(): void {
    for (;;) {
      const node =
        this.smallLoad >= this.share * (this.weighed ? this.weight : this.size)
          ? (this.small.shift() ?? this.main.shift())
          : (this.main.shift() ?? this.small.shift())
      if (node === undefined) return
      const { state } = node
      if (state < HIT) {
        this.bury(node)
        return
      }
      if ((state & PLACE) === SMALL) this.promote(node, MAIN)
      else {
        if (this.share > RECENT) {
          node.state = MAIN
          this.turns += TURN
        } else node.state = state - HIT
        this.main.push(node)
      }
    }
  }

  /** Makes a ghost of an entry that has left its queue. */
  private bury(node: Node<T>): void {
    const ofSmall = node.state === SMALL
    this.retire(node)
    if (ofSmall) {
      this.evictions = (this.evictions + 1) & WRAP
      node.state = GHOST_OF_SMALL | (this.evictions << ABOVE)
      this.ghostsOfSmall.push(node)
      this.forget(this.ghostsOfSmall, (this.size * GHOSTS) | 0)
    } else {
      this.turns = (this.turns + (this.share > RECENT ? TURN : EVICTION)) & WRAP
      node.state = GHOST_OF_MAIN | (this.turns << ABOVE)
      this.ghostsOfMain.push(node)
      this.forget(this.ghostsOfMain, (this.size * MARGIN) | 0)
    }
    this.onEvict?.(node.key, 'evicted')
  }

  private forget(ghosts: Ring<T>, most: number): void {
    while (ghosts.length > most) {
      const ghost = ghosts.shift()
      if (ghost === undefined) return
      ghost.state = GONE
      this.nodes.delete(ghost.key)
    }
  }

  /** Takes a live node out before its turn: its slot in the queue becomes a hole. */
  private remove(node: Node<T>): void {
    const place = node.state & PLACE
    this.retire(node)
    node.state = GONE
    this.nodes.delete(node.key)
    if (place === SMALL) this.small.hole()
    else if (place === MAIN) this.main.hole()
  }

  /** Takes a live node out of the sums. */
  private retire(node: Node<T>): void {
    this.size--
    this.weight = this.size === 0 ? 0 : this.weight - node.weight
    if ((node.state & PLACE) === SMALL) this.smallLoad -= this.weighed ? node.weight : 1
    node.value = undefined
    if (node.common !== undefined) replaceFacts(node, NO_FACTS)
  }
}

const LEAST_SLOTS = 16

/**
 * A queue in a circular buffer of a power of two. A node whose state names another place has left: its slot is a hole,
 * passed over, and taken out when holes are half of the queue.
 */
class Ring<T> {
  length = 0
  private slots: Node<T>[] = new Array(LEAST_SLOTS).fill(HOLE)
  private mask = LEAST_SLOTS - 1
  private head = 0
  private holes = 0
  private walk = 0 // the slot at which `next` goes on
  private readonly place: number

  constructor(place: number) {
    this.place = place
  }

  push(node: Node<T>): void {
    if (this.length === this.mask) this.rebuild() // one slot stays free: the end is never the head
    this.slots[(this.head + this.length) & this.mask] = node
    this.length++
  }

  /** The oldest node. */
  shift(): Node<T> | undefined {
    while (this.length > 0) {
      const node = this.slots[this.head] as Node<T>
      this.slots[this.head] = HOLE
      this.head = (this.head + 1) & this.mask
      this.length--
      if ((node.state & PLACE) === this.place) return node
      if (this.holes > 0) this.holes--
    }
    return undefined
  }

  /** Says that a node of this queue has left it. */
  hole(): void {
    this.holes++
    if (this.holes > LEAST_SLOTS && this.holes * 2 > this.length) this.rebuild()
  }

  /** The next node of a walk from the oldest to the newest; at the end undefined, and then from the oldest again. */
  next(): Node<T> | undefined {
    const end = (this.head + this.length) & this.mask
    while (this.walk !== end) {
      const node = this.slots[this.walk] as Node<T>
      this.walk = (this.walk + 1) & this.mask
      if ((node.state & PLACE) === this.place) return node
    }
    this.walk = this.head
    return undefined
  }

  private rebuild(): void {
    let capacity = LEAST_SLOTS
    while (capacity < (this.length - this.holes) * 2) capacity *= 2
    const slots: Node<T>[] = new Array(capacity).fill(HOLE)
    let count = 0
    let walk = 0
    for (let i = 0; i < this.length; i++) {
      const slot = (this.head + i) & this.mask
      if (slot === this.walk) walk = count
      const node = this.slots[slot] as Node<T>
      if ((node.state & PLACE) === this.place) slots[count++] = node
    }
    this.slots = slots
    this.mask = capacity - 1
    this.head = 0
    this.walk = walk
    this.length = count
    this.holes = 0
  }
}

/** What the store keeps under a key. It is the store's own object: read it at once, it is emptied when it leaves. */
export interface Entry<T> {
  value: T | undefined
  readonly key: string
  /** Epoch milliseconds; `Infinity` is never. `set` changes it: an entry that never expired is unknown to `sweep`. */
  expiresAt: number
  weight: number
}

export interface BoundedOptions {
  /** How many entries may live; `Infinity` is unbounded. */
  readonly maxEntries: number
  /** What the entries may weigh together, in bytes; `Infinity` is unbounded. */
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
   */
  set(key: string, value: T, expiresAt: number, weight: number): boolean
  delete(key: string): boolean
  /**
   * Frees at most `limit` entries whose `expiresAt` is not after `now` and answers how many, continuing where the
   * last call stopped. Looks at no more than eight times `limit` entries.
   */
  sweep(now: number, limit: number): number
  /** How many entries live. */
  readonly size: number
  /** What the live entries weigh together. */
  readonly weight: number
  entries(): IterableIterator<Entry<T>>
}

/** Where an entry stands. Those up to `MAIN` are alive; a `GONE` one is at most a hole in a queue. */
const LOOSE = 0
const SMALL = 1
const MAIN = 2
const GHOST_OF_SMALL = 3
const GHOST_OF_MAIN = 4
const GONE = 5

/** `mark` counts the hits of a live entry, and is the number of its eviction in a ghost. */
type Node<T> = Entry<T> & { place: number; mark: number }

/** Hits are counted no further than this, so that a hot entry is read without being written. */
const MOST_HITS = 3

/** The small queue's share of the store: where it starts, and how far it may go. */
const SHARE = 0.1
const LEAST_SHARE = 0.05
const GREATEST_SHARE = 0.9
/** Above this share the traffic is recent rather than frequent, and one round without a hit ends an entry. */
const RECENT = 0.12

/** What a hit on a ghost moves the share by: on one that only just missed, and on any other. */
const STEP = 0.01
const FAR_STEP = STEP / 64
/** The part of the store by which an entry may have missed and still count as having only just missed. */
const MARGIN = 0.1
/** The ghosts of the small queue, as a part of the live entries; those of the main queue fill the margin. */
const GHOSTS = 0.8

/** Eviction numbers wrap here, within V8's small integers. */
const WRAP = 0x3fffffff

/**
 * A map of bounded size and weight that keeps what is likely to be read again: S3-FIFO, whose small queue grows
 * and shrinks with the traffic.
 *
 * New keys pass through a small queue; what is hit there goes to the main one, the rest leaves as a ghost, that is a
 * key without a value; a key that returns while it is a ghost goes to the main queue at once. So a scan never pushes
 * out what is in use, and a hit writes a counter and moves nothing.
 *
 * A fixed small queue loses to LRU wherever keys are read again after leaving it (sessions, moving windows). So the
 * share follows the ghosts as ARC's does: a return just after leaving the small queue asks for a larger one, a return
 * just after leaving the main queue for a smaller one.
 *
 * Ghosts stay in the one map, so that each operation looks a key up once. The order of the map is never used: taking
 * the first key of a JavaScript map again and again costs the number of deleted ones.
 */
export function bounded<T>({ maxEntries, maxWeight, onEvict }: BoundedOptions): Bounded<T> {
  const limited = maxEntries !== Infinity || maxWeight !== Infinity
  const weighed = maxWeight !== Infinity
  const nodes = new Map<string, Node<T>>()
  // Without limits nothing is evicted and the main queue holds what expires, for the sweep alone.
  const small = makeRing<Node<T>>()
  const main = makeRing<Node<T>>()
  const ghostsOfSmall = makeRing<Node<T>>()
  const ghostsOfMain = makeRing<Node<T>>()
  let size = 0
  let weight = 0
  /** What the small queue holds, in the unit that is limited: bytes, else entries. */
  let smallLoad = 0
  let share = SHARE
  let evictions = 0
  let swept = small

  function margin(): number {
    return Math.max(1, size * MARGIN)
  }

  /** Takes a live node out of the sums, not out of the map. */
  function retire(node: Node<T>, place: number): void {
    size--
    weight = size === 0 ? 0 : weight - node.weight
    if (node.place === SMALL) smallLoad -= weighed ? node.weight : 1
    node.place = place
    node.value = undefined
  }

  /** Takes a live node out before its turn: its place in the queue becomes a hole. */
  function remove(node: Node<T>): void {
    const { place } = node
    retire(node, GONE)
    nodes.delete(node.key)
    if (place === SMALL) small.hole()
    else if (place === MAIN) main.hole()
  }

  function trim(ghosts: Ring<Node<T>>, most: number): void {
    while (ghosts.length > most) {
      const ghost = ghosts.shift()
      if (ghost === undefined) return
      ghost.place = GONE
      nodes.delete(ghost.key)
    }
  }

  /** Evicts one entry. Ends, because each turn lowers a count of hits or moves an entry to the main queue. */
  function evict(): void {
    for (;;) {
      const fromSmall = smallLoad >= share * (weighed ? weight : size)
      const node = fromSmall ? (small.shift() ?? main.shift()) : (main.shift() ?? small.shift())
      if (node === undefined) return
      if (node.mark > 0) {
        if (node.place === SMALL) {
          smallLoad -= weighed ? node.weight : 1
          node.place = MAIN
          node.mark = 0
        } else node.mark = share > RECENT ? 0 : node.mark - 1
        main.push(node)
        continue
      }
      if (node.place === SMALL) {
        retire(node, GHOST_OF_SMALL)
        evictions = (evictions + 1) & WRAP
        node.mark = evictions
        ghostsOfSmall.push(node)
        trim(ghostsOfSmall, size * GHOSTS)
      } else {
        retire(node, GHOST_OF_MAIN)
        ghostsOfMain.push(node)
        trim(ghostsOfMain, margin())
      }
      onEvict?.(node.key, 'evicted')
      return
    }
  }

  /** Draws the lesson of a ghost's return. Every ghost of the main queue is within the margin. */
  function learn(ghost: Node<T>): void {
    if (ghost.place === GHOST_OF_MAIN) share = Math.max(LEAST_SHARE, share - STEP)
    else {
      const near = ((evictions - ghost.mark) & WRAP) <= margin()
      share = Math.min(GREATEST_SHARE, share + (near ? STEP : FAR_STEP))
    }
  }

  /** Puts a new node into a queue. While there is room to spare, the small queue's surplus goes to the main one. */
  function enqueue(node: Node<T>, spare: boolean): void {
    if (node.place === MAIN) main.push(node)
    else {
      smallLoad += weighed ? node.weight : 1
      small.push(node)
      if (!spare || smallLoad <= share * (weighed ? weight : size)) return
      const oldest = small.shift()
      if (oldest === undefined) return
      smallLoad -= weighed ? oldest.weight : 1
      oldest.place = MAIN
      main.push(oldest)
    }
  }

  function insert(key: string, value: T, expiresAt: number, itsWeight: number, place: number): void {
    let spare = true
    while (size > 0 && (size >= maxEntries || weight + itsWeight > maxWeight)) {
      evict()
      spare = false
    }
    const node: Node<T> = { value, key, expiresAt, weight: itsWeight, place, mark: 0 }
    nodes.set(key, node)
    size++
    weight += itsWeight
    if (place !== LOOSE) enqueue(node, spare)
  }

  function replace(node: Node<T>, value: T, expiresAt: number, itsWeight: number): void {
    const more = itsWeight - node.weight
    if (weight + more > maxWeight) {
      // Making room could pick this very entry: it leaves first, and returns to the end of its queue.
      const { place } = node
      remove(node)
      insert(node.key, value, expiresAt, itsWeight, place)
      return
    }
    weight += more
    if (weighed && node.place === SMALL) smallLoad += more
    node.value = value
    node.expiresAt = expiresAt
    node.weight = itsWeight
    if (node.place === LOOSE && expiresAt !== Infinity) {
      node.place = MAIN
      main.push(node)
    }
  }

  return {
    get(key) {
      const node = nodes.get(key)
      if (node === undefined || node.place > MAIN) return undefined
      if (node.mark < MOST_HITS) node.mark++
      return node
    },
    peek(key) {
      const node = nodes.get(key)
      return node === undefined || node.place > MAIN ? undefined : node
    },
    set(key, value, expiresAt, itsWeight) {
      const node = nodes.get(key)
      if (itsWeight > maxWeight) {
        if (node !== undefined && node.place <= MAIN) remove(node)
        return false
      }
      if (node === undefined)
        insert(key, value, expiresAt, itsWeight, limited ? SMALL : expiresAt === Infinity ? LOOSE : MAIN)
      else if (node.place <= MAIN) replace(node, value, expiresAt, itsWeight)
      else {
        learn(node)
        const place = node.place === GHOST_OF_SMALL ? MAIN : SMALL
        node.place = GONE
        insert(key, value, expiresAt, itsWeight, place)
      }
      return true
    },
    delete(key) {
      const node = nodes.get(key)
      if (node === undefined || node.place > MAIN) return false
      remove(node)
      return true
    },
    sweep(now, limit) {
      let freed = 0
      let ends = 0
      for (let looks = limit * 8; looks > 0 && freed < limit; looks--) {
        const node = swept.next()
        if (node === undefined) {
          // Three ends: the rest of this queue, all of the other, and this one from its beginning.
          if (++ends === 3) break
          swept = swept === small ? main : small
        } else if (node.expiresAt <= now) {
          remove(node)
          freed++
          onEvict?.(node.key, 'expired')
        }
      }
      return freed
    },
    get size() {
      return size
    },
    get weight() {
      return weight
    },
    *entries() {
      for (const node of nodes.values()) if (node.place <= MAIN) yield node
    },
  }
}

interface Ring<N> {
  readonly length: number
  push(node: N): void
  /** The oldest node that is not gone. */
  shift(): N | undefined
  /** Says that a node of this queue is gone. */
  hole(): void
  /** The next node of a walk that begins again after its end, where it answers undefined. */
  next(): N | undefined
}

const LEAST_SLOTS = 16

/** A queue in a circular buffer of a power of two. Nodes that are gone stay as holes until they are half of it. */
function makeRing<N extends { place: number }>(): Ring<N> {
  let slots: (N | undefined)[] = new Array(LEAST_SLOTS)
  let mask = LEAST_SLOTS - 1
  let head = 0
  let length = 0
  let holes = 0
  let walk = 0 // counted from the head

  function rebuild(): void {
    let capacity = LEAST_SLOTS
    while (capacity < (length - holes) * 2) capacity *= 2
    const kept: (N | undefined)[] = new Array(capacity)
    let count = 0
    let walked = 0
    for (let i = 0; i < length; i++) {
      if (i === walk) walked = count
      const node = slots[(head + i) & mask]
      if (node !== undefined && node.place !== GONE) kept[count++] = node
    }
    slots = kept
    mask = capacity - 1
    head = 0
    walk = walked
    length = count
    holes = 0
  }

  return {
    get length() {
      return length
    },
    push(node) {
      if (length > mask) rebuild()
      slots[(head + length) & mask] = node
      length++
    },
    shift() {
      while (length > 0) {
        const node = slots[head]
        slots[head] = undefined
        head = (head + 1) & mask
        length--
        if (walk > 0) walk--
        if (node !== undefined && node.place !== GONE) return node
        holes--
      }
      return undefined
    },
    hole() {
      if (++holes > LEAST_SLOTS && holes * 2 > length) rebuild()
    },
    next() {
      while (walk < length) {
        const node = slots[(head + walk) & mask]
        walk++
        if (node !== undefined && node.place !== GONE) return node
      }
      walk = 0
      return undefined
    },
  }
}

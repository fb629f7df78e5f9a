/**
 * A moment of a run, as a number of 64 bits. It covers the content of all shared things. For each memory that only some
 * actors have, it covers the steps that they took and the results that those saw. Two runs that reach the same moment
 * continue alike, however they came there.
 */

/** The shared things that a step touches, each under a name that the scenario gives it. */
export interface Touched {
  /** The step has seen their content. */
  readonly reads?: readonly string[]
  /** All that the step has seen of things that it does not list in `reads`. */
  readonly sees?: string
  /** Their content is known only by the step that wrote it. */
  readonly writes?: readonly string[]
  /**
   * The actor waits for this answer and for others, and continues alike in whichever order they come. Applies only if
   * the actor shares its memory with no other.
   */
  readonly asks?: true
  /** They hold the described content. */
  readonly leaves?: Readonly<Record<string, string>>
}

/** Two halves, since a number holds no 64 bits. */
export interface Fingerprint {
  readonly high: number
  readonly low: number
}

export interface Moments {
  /**
   * A step begins. `id` identifies it in the run, independent of the order of the steps. With `asks` its answer is added
   * to those under that name, independent of their order.
   */
  open(id: string, asks?: string): void
  touch(touched: Touched): void
  /** Nothing that the step set going moves any more. */
  close(): void
  /** The moment, mixed with the `rest` that distinguishes it from others. */
  now(rest: string): Fingerprint
}

interface Thing {
  readonly name: Fingerprint
  holds: Fingerprint
}

/** Read by every step, and changed by a step without a description. */
export const EVERYTHING = 'everything'

const UNIQUE = /[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}/g

export function moments(): Moments {
  const things = new Map<string, Thing>()
  const read = new Set<Thing>()
  const written = new Map<Thing, Fingerprint | undefined>()
  let seen = NOTHING
  let all = NOTHING
  const thing = (name: string): Thing => {
    let found = things.get(name)
    if (found === undefined) things.set(name, (found = { name: hashOf(name), holds: NOTHING }))
    return found
  }
  let step = ''
  let asked: string | undefined
  const uniques = new Map<string, string>()
  let named = 0
  /** Random values are named by the step that drew them: another run draws otherwise. */
  const called = (text: string): Fingerprint =>
    hashOf(
      text.replace(UNIQUE, (unique) => {
        let name = uniques.get(unique)
        if (name === undefined) uniques.set(unique, (name = `${step}#${named++}`))
        return name
      }),
    )
  const part = ({ name, holds }: Thing) => (holds === NOTHING ? NOTHING : mixed(name, holds))
  return {
    open(id, asks) {
      step = id
      asked = asks
      named = 0
    },
    touch({ reads = [], writes = [], leaves = {}, sees }) {
      for (const name of reads) read.add(thing(name))
      for (const name of writes) written.set(thing(name), undefined)
      for (const name in leaves)
        written.set(thing(name), leaves[name] === '' ? NOTHING : called(leaves[name] as string))
      if (sees !== undefined) seen = mixed(seen, called(sees))
    },
    close() {
      // A step that may have changed anything came after all steps before it.
      let before = written.has(thing(EVERYTHING)) ? mixed(all, seen) : seen
      for (const one of read) before = sum(before, part(one))
      // Content without a description may have been added to.
      for (const [one, held] of written) if (held === undefined) before = sum(before, part(one))
      const done = mixed(hashOf(step), before)
      const put = (one: Thing, held: Fingerprint) => {
        const former = part(one)
        one.holds = held
        all = sum(difference(all, former), part(one))
      }
      for (const [one, held = done] of written) put(one, held)
      if (asked !== undefined) put(thing(asked), sum(thing(asked).holds, done))
      asked = undefined
      read.clear()
      written.clear()
      seen = NOTHING
    },
    now: (rest) => mixed(all, hashOf(rest)),
  }
}

/** A map that reports reads and writes of each entry; `tell` describes its content. */
export function watched<V>(
  name: string,
  touch: (touched: Touched) => void,
  tell?: (value: V) => string,
): Map<string, V> {
  const map = new Map<string, V>()
  const read = (key: string) => touch({ reads: [`${name} ${key}`] })
  const wrote = (key: string) => {
    const thing = `${name} ${key}`
    const value = map.get(key)
    if (tell === undefined) touch({ writes: [thing] })
    else touch({ leaves: { [thing]: value === undefined ? '' : tell(value) } })
  }
  return Object.assign(new Map<string, V>(), {
    get: (key: string) => (read(key), map.get(key)),
    has: (key: string) => (read(key), map.has(key)),
    set(key: string, value: V) {
      map.set(key, value)
      wrote(key)
      return this
    },
    delete(key: string) {
      const was = map.delete(key)
      read(key)
      wrote(key)
      return was
    },
  })
}

const NOTHING: Fingerprint = { high: 0, low: 0 }

function sum(one: Fingerprint, other: Fingerprint): Fingerprint {
  return { high: (one.high + other.high) | 0, low: (one.low + other.low) | 0 }
}

function difference(one: Fingerprint, other: Fingerprint): Fingerprint {
  return { high: (one.high - other.high) | 0, low: (one.low - other.low) | 0 }
}

/** Rounds like those of MurmurHash3 on two lanes, each of which reaches into the other. */
function mixed(one: Fingerprint, other: Fingerprint): Fingerprint {
  let high = one.high ^ 0x9e3779b9
  let low = one.low ^ 0x85ebca6b
  for (const more of [other.high, other.low, one.high ^ other.low]) {
    high = (turned(high ^ more, 0xcc9e2d51) + low) | 0
    low = turned(low ^ more, 0x1b873593) ^ high
  }
  return { high: stirred((high + low) | 0), low: stirred(low ^ (high >>> 7)) }
}

function turned(value: number, factor: number): number {
  const scaled = Math.imul(value, factor)
  return (Math.imul((scaled << 15) | (scaled >>> 17), 5) + 0xe6546b64) | 0
}

function stirred(value: number): number {
  let hash = Math.imul(value ^ (value >>> 16), 0x85ebca6b)
  hash = Math.imul(hash ^ (hash >>> 13), 0xc2b2ae35)
  return hash ^ (hash >>> 16)
}

const known = new Map<string, Fingerprint>()

function hashOf(text: string): Fingerprint {
  let hash = known.get(text)
  if (hash === undefined) {
    hash = { high: 0x811c9dc5, low: text.length }
    for (let i = 0; i < text.length; i++) hash = mixed(hash, { high: text.charCodeAt(i), low: i })
    known.set(text, hash)
  }
  return hash
}

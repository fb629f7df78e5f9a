import { createHash } from 'node:crypto'
import type { Backend } from '../../src/backend/backend.js'
import type { Bytes } from '../../src/backend/cached-value.js'
import { coarseClock } from '../../src/base/clock.js'
import { report } from '../../src/base/diagnostics.js'
import { andThen, type MaybePromise, orElse } from '../../src/base/maybe-promise.js'
import { frame, readFrameOf } from '../../src/wire/frame.js'
import { isWellFormed } from '../../src/wire/text.js'

/** The field names of a record, in order. */
export type Shape = readonly string[]

/** A list of shapes. Its id is a hash of its content, so that no value is ever read with another table than its own. */
export interface ShapeTable {
  /** Eight bytes as latin1 text. */
  readonly id: string
  readonly idBytes: Uint8Array
  readonly shapes: readonly Shape[]
}

export interface ShapeStore {
  /** The table to encode with: one that was stored, or the empty one. */
  current(): ShapeTable
  /** The table with that id or one that it grew into; `undefined` when the chain has neither. */
  find(id: string): MaybePromise<ShapeTable | undefined>
  /** Tells of a shape that had to be written out. Seen twice, it is stored with the others, in the background. */
  propose(shape: Shape): void
  /** Pending work, for tests and for a clean end. */
  settled(): Promise<void>
}

/** Below every encoding's payload codecs: a table is an entry of its own, in the same frame as every other. */
const CODEC_SHAPES = 5
/** Where a table stands, as the layer below the encoding sees keys. */
export const SHAPES_KEY = 'corral:shapes'
export const ID_BYTES = 8
/** Ids of one byte: half of those that MessagePack leaves free; the other half is for records written out. */
export const MAX_SHAPES = 32
const MAX_FIELDS = 256
const MAX_TABLE_BYTES = 1 << 20
const LEASE_MS = 5000
/** How long an id that the chain does not know is believed to be unknown. */
const UNKNOWN_MS = 1000
/** How often a writer makes sure that the table it writes with is still stored. */
const VERIFY_MS = 30_000
const MAX_REMEMBERED = 1000

const EMPTY = tableOf('\0'.repeat(ID_BYTES), [])

function tableOf(id: string, shapes: readonly Shape[]): ShapeTable {
  return { id, idBytes: Buffer.from(id, 'latin1'), shapes }
}

/** The id of a table that has one shape more. */
function grow(id: string, shape: Shape): string {
  const hash = createHash('sha256').update(id, 'latin1').update(JSON.stringify(shape))
  return hash.digest().toString('latin1', 0, ID_BYTES)
}

/**
 * Keeps shapes in the backend below an encoding, so that every process can read the entries of all others. Tables only
 * grow; writers agree through a lease, and where that fails an id that is not found is a miss, never a wrong value.
 * @param now - epoch ms, injectable for tests
 */
export function shapeStore(next: Backend<Bytes>, now: () => number = coarseClock.now): ShapeStore {
  return new StoredShapes(next, now)
}

class StoredShapes implements ShapeStore {
  readonly #next: Backend<Bytes>
  readonly #now: () => number
  readonly #tables = knownTables()
  /** Ids that the chain did not know, until when this is believed. */
  readonly #unknown = new Map<string, number>()
  /** How often a shape was seen, by its text. */
  readonly #sightings = new Map<string, number>()
  /** Shapes that were seen twice, and wait for the next commit. */
  readonly #proposals = new Map<string, Shape>()
  /** Was stored when it became the current one. */
  #current = EMPTY
  #verifiedAt = 0
  /** At most one commit, and at most one load, is under way. */
  #committing: Promise<void> | undefined
  #loading: Promise<void> | undefined

  constructor(next: Backend<Bytes>, now: () => number) {
    this.#next = next
    this.#now = now
  }

  current(): ShapeTable {
    if (this.#current !== EMPTY) this.#verify()
    return this.#current
  }

  find(id: string): MaybePromise<ShapeTable | undefined> {
    return this.#tables.known.get(id) ?? this.#load(id)
  }

  propose(shape: Shape): void {
    if (this.#current.shapes.length >= MAX_SHAPES || !isShape(shape)) return
    const text = JSON.stringify(shape)
    const times = (this.#sightings.get(text) ?? 0) + 1
    if (this.#sightings.size > MAX_REMEMBERED) this.#sightings.clear()
    this.#sightings.set(text, times)
    // Once may be a dictionary with keys of its own; the table is for shapes that come again.
    if (times < 2) return
    this.#proposals.set(text, [...shape])
    this.#commitSoon()
  }

  async settled(): Promise<void> {
    while (this.#committing !== undefined || this.#loading !== undefined)
      await (this.#committing ?? this.#loading)
  }

  #verify(): void {
    if (this.#now() - this.#verifiedAt < VERIFY_MS) return
    this.#verifiedAt = this.#now()
    void inBackground(async () => {
      const stored = this.#tables.adopt(await this.#next.get(SHAPES_KEY))
      if (stored.id !== this.#current.id) this.#commitSoon()
    })
  }

  #commitSoon(): void {
    if (this.#committing !== undefined) return
    // Meanwhile values are written without the table. No caller waits for this, and a failure costs bytes only.
    this.#committing = inBackground(() => this.#commit()).finally(() => {
      this.#committing = undefined
    })
  }

  async #commit(): Promise<void> {
    const { token } = await this.#next.acquire(SHAPES_KEY, LEASE_MS)
    // Another process stores a table now. This process loads it when needed, and proposes missing shapes again.
    if (token === undefined) return
    let done = false
    try {
      const base = this.#tables.adopt(await this.#next.get(SHAPES_KEY))
      const shapes = union(base.shapes, [...this.#current.shapes, ...this.#proposals.values()])
      if (shapes.length > base.shapes.length) {
        const written = writeShapes(shapes, this.#now())
        done = (await this.#next.set(SHAPES_KEY, written, { token })) === 'stored'
        if (!done) return
      }
      this.#current = this.#tables.remember(shapes)
      this.#verifiedAt = this.#now()
      this.#proposals.clear()
      if (this.#sightings.size > MAX_REMEMBERED) this.#sightings.clear()
    } finally {
      if (!done) await this.#next.release(SHAPES_KEY, token)
    }
  }

  #load(id: string): MaybePromise<ShapeTable | undefined> {
    const until = this.#unknown.get(id)
    if (until !== undefined && this.#now() < until) return undefined
    if (this.#loading === undefined) {
      const got = orElse(
        () => andThen(this.#next.get(SHAPES_KEY), (stored) => this.#arrived(stored)),
        () => undefined,
      )
      if (!(got instanceof Promise)) return this.#concluded(id)
      this.#loading = got.finally(() => {
        this.#loading = undefined
      })
    }
    return this.#loading.then(() => this.#concluded(id))
  }

  #arrived(stored: Bytes | undefined): void {
    const table = this.#tables.adopt(stored)
    // If the stored table has all shapes of this process, using it keeps processes on one table.
    if (this.#current === EMPTY || this.#tables.known.get(this.#current.id) === table) this.#current = table
  }

  #concluded(id: string): ShapeTable | undefined {
    const found = this.#tables.known.get(id)
    if (found !== undefined) return found
    if (this.#unknown.size >= MAX_REMEMBERED) this.#unknown.clear()
    this.#unknown.set(id, this.#now() + UNKNOWN_MS)
    // The table of this process, or of the others, is gone: agree on one again.
    if (this.#current !== EMPTY) this.#commitSoon()
    return undefined
  }
}

/** The tables that this process has read or stored, each under its own id and those of all that it grew from. */
function knownTables() {
  const known = new Map<string, ShapeTable>([[EMPTY.id, EMPTY]])
  const remember = (shapes: readonly Shape[]): ShapeTable => {
    if (known.size > MAX_REMEMBERED) {
      known.clear()
      known.set(EMPTY.id, EMPTY)
    }
    const ids: string[] = []
    let id = EMPTY.id
    for (const shape of shapes) ids.push((id = grow(id, shape)))
    const before = known.get(id)
    const table = before?.shapes.length === shapes.length ? before : tableOf(id, shapes)
    for (const one of ids) known.set(one, table)
    return table
  }
  const adopt = (stored: Bytes | undefined): ShapeTable => {
    const shapes = stored && readShapes(stored)
    return shapes === undefined ? EMPTY : remember(shapes)
  }
  return { known, remember, adopt }
}

/** Runs work of which only failures are reported. */
function inBackground(work: () => Promise<void>): Promise<void> {
  return Promise.resolve()
    .then(work)
    .catch((error: unknown) => report('failure', () => ({ where: 'shapes', key: SHAPES_KEY, error })))
}

/** The first shapes, followed by the others that are not among them, as many as a table takes. */
function union(first: readonly Shape[], others: readonly Shape[]): Shape[] {
  const added = new Map(others.map((shape) => [JSON.stringify(shape), shape]))
  for (const shape of first) added.delete(JSON.stringify(shape))
  return [...first, ...added.values()].slice(0, MAX_SHAPES)
}

function writeShapes(shapes: readonly Shape[], at: number): Bytes {
  return frame(
    CODEC_SHAPES,
    { startedAt: at, createdAt: at },
    Buffer.from(JSON.stringify(shapes)),
    SHAPES_KEY,
  )
}

function readShapes(stored: Bytes): readonly Shape[] | undefined {
  const entry = readFrameOf(CODEC_SHAPES, MAX_TABLE_BYTES, stored, SHAPES_KEY)
  if (entry === undefined) return undefined
  try {
    const shapes: unknown = JSON.parse(entry.bytes.toString('utf8', entry.start, entry.end))
    return Array.isArray(shapes) && shapes.length <= MAX_SHAPES && shapes.every(isShape) ? shapes : undefined
  } catch {
    return undefined
  }
}

function isShape(shape: unknown): shape is Shape {
  return (
    Array.isArray(shape) &&
    shape.length > 0 &&
    shape.length <= MAX_FIELDS &&
    shape.every((name) => typeof name === 'string' && name !== '__proto__' && isWellFormed(name))
  )
}

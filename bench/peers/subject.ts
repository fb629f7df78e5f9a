/** The value of every entry. Its encodings are between 50 and 70 bytes long. */
export interface Value {
  readonly id: number
  readonly name: string
  readonly roles: readonly string[]
}

export type Create = (key: string) => Promise<Value>

/** One cache of a library, set up as its documentation recommends. */
export interface Cache {
  /** Returns the cached value, or creates and stores it. */
  read(key: string): Promise<unknown>
  set?(key: string, value: Value): unknown
  close?(): unknown
}

/** A cache whose entries all have one tag. */
export interface TaggedCache extends Cache {
  invalidateTag(): unknown
}

/** A library under measurement. A member that is missing is a capability that the library lacks. */
export interface Subject {
  readonly memory: (create: Create, maxEntries: number) => Cache
  readonly taggedMemory?: (create: Create, maxEntries: number) => TaggedCache
  readonly redis?: (create: Create, port: number) => Cache
  readonly taggedRedis?: (create: Create, port: number) => TaggedCache
}

/** Every entry is fresh for so long: longer than a run. */
export const LIFETIME_SECONDS = 1_800

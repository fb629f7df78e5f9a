/** How a peer is set up: argv of its process. */
export interface Peer {
  readonly file: string
  readonly role: 'region' | 'writer' | 'holder' | 'starting' | 'writing' | 'opener'
  /** ms */
  readonly lease?: number
  /** Where the truth is kept. */
  readonly truth?: string
  readonly keys?: number
}

export type Task =
  | {
      readonly kind: 'create'
      readonly key: string
      readonly callers: number
      readonly ms: number
      /** Whether the process freezes then, in its creator. Frozen from outside, it could hold LMDB's write lock. */
      readonly freezes?: boolean
    }
  | { readonly kind: 'open' }
  | { readonly kind: 'stop' }

/** Times are of the monotonic clock that all processes of a machine share, in ms. */
export type Reply =
  | { readonly kind: 'ready' }
  | { readonly kind: 'creating' }
  | {
      readonly kind: 'created'
      readonly runs: number
      /** When the creator returned, in the process where it ran. */
      readonly madeAt: number | undefined
      readonly first: number
      readonly last: number
      readonly values: readonly string[]
      readonly errors: readonly string[]
    }
  | { readonly kind: 'stopped' }
  | { readonly kind: 'opened'; readonly span: readonly [from: number, to: number] }

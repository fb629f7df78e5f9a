/** How a peer is set up: argv of its process. */
export interface Peer {
  readonly file: string
  readonly role: 'region' | 'history' | 'writer' | 'holder'
  /** ms */
  readonly lease?: number
  /** Its number, and of how many. */
  readonly me?: number
  readonly peers?: number
  /** Where the truth is kept. */
  readonly truth?: string
  readonly keys?: number
}

export type Task =
  | { readonly kind: 'create'; readonly key: string; readonly callers: number; readonly ms: number }
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
  | {
      readonly kind: 'tally'
      readonly reads: number
      readonly invalidations: number
      readonly during: number
      readonly failures: number
      readonly runs: number
    }
  | { readonly kind: 'violation'; readonly what: string }
  | { readonly kind: 'stopped' }

import { appendFileSync, existsSync, readFileSync } from 'node:fs'

/**
 * The reads and changes of a process. Times are ms on the monotonic clock that all processes of a machine share. A subject is an
 * entry (`k5`) or everything that was made from a row (`d5`).
 */
export type Event =
  | {
      readonly kind: 'read'
      readonly row: number
      /** Read from the row's own entry, not from a list. */
      readonly direct: boolean
      /** Served as fresh: neither stale nor created by the read. */
      readonly fresh: boolean
      readonly begin: number
      readonly version: number
    }
  | {
      readonly kind: 'change'
      readonly mode: 'hard' | 'soft'
      /** Reads that begin after the end find at least these versions. */
      readonly of: readonly (readonly [subject: string, version: number])[]
      readonly end: number
      /** Published on a bus while the change was made. */
      readonly messages: readonly string[]
    }
  | { readonly kind: 'creation'; readonly row: number; readonly begin: number; readonly end: number }
  /** A message of another process, or its loss. */
  | { readonly kind: 'heard'; readonly message: string; readonly end: number }
  | { readonly kind: 'gap' }
  | { readonly kind: 'failure'; readonly code: string }
  /** An outcome that no fault excuses. */
  | { readonly kind: 'wrong'; readonly text: string }

export type Happened = Event & { readonly process: number }

/** Events go to a file one by one, so that those of a process that is killed are not lost with it. */
export function eventLog(path: string): (event: Event) => void {
  return (event) => appendFileSync(path, `${JSON.stringify(event)}\n`)
}

export function readEvents(path: string, process: number): readonly Happened[] {
  if (!existsSync(path)) return []
  // A line without an end was being written when its process was killed.
  const lines = readFileSync(path, 'utf8').split('\n').slice(0, -1)
  return lines.map((line) => ({ ...(JSON.parse(line) as Event), process }))
}

/** Deeper nesting of a caller's data is refused where code goes down by recursion: the stack has an end. In levels. */
export const MAX_DEPTH = 500

/** The way to a part of a value, for messages: what is in the middle of a long one helps nobody. */
export function shortPath(path: string): string {
  return path.length <= 120 ? path : `${path.slice(0, 60)} … ${path.slice(-40)}`
}

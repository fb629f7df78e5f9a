/**
 * The list as it is now, for code that keeps it beyond its synchronous part, or hands it to user code: neither a caller that
 * reuses its list nor user code that sorts one must change it. A frozen list is its own copy.
 */
export function frozenCopy<T>(list: readonly T[]): readonly T[] {
  return Object.isFrozen(list) ? list : Object.freeze([...list])
}

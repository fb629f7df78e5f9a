/** One or several, as a list. Not `flat()`, which passes over holes: a check of the list must see each of them. */
export function oneOrMany<T>(given: T | readonly T[]): T[] {
  return Array.isArray(given) ? [...(given as readonly T[])] : [given as T]
}

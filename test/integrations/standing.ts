import { NO_VALUE, type Region } from '../../src/index.js'

/** Names by the keys of values that depend on them. */
export type Named = Readonly<Record<string, string | readonly string[]>>

/** Stores a value for each of these names. The returned function tells which of them stand. */
export async function standing(
  region: Pick<Region<unknown>, 'getMulti'> & Pick<Region<string>, 'set'>,
  names: Named,
): Promise<() => Promise<readonly string[]>> {
  for (const [key, dependencies] of Object.entries(names))
    await region.set(key, key, { dependencies, asOf: 'now' })
  return async () => {
    const found = await region.getMulti(Object.keys(names))
    return Object.keys(names).filter((_, at) => found[at] !== NO_VALUE)
  }
}

import type { Backend } from '../backend/backend.js'
import type { CachedValue } from '../backend/cached-value.js'
import { processGlobal } from '../base/process-global.js'
import { wrap } from '../chain/wrap.js'
import { closeUnused, isInUse } from '../region/stores.js'

/**
 * How a setting's text is read. `list` splits at commas.
 * @example
 * ```ts
 * import { registerBackend, type SettingKind } from 'corral'
 * import { memory } from 'corral/backends/memory'
 *
 * const settings: Record<string, SettingKind> = { maxEntries: 'integer' }
 * registerBackend('memory', (options) => memory(options), settings)
 * ```
 */
export type SettingKind = 'string' | 'number' | 'integer' | 'boolean' | 'duration' | 'list'
export type SettingValue = string | number | boolean | readonly string[]
/**
 * The options of a backend or a proxy that were set, each read as its kind.
 * @example
 * ```ts
 * import type { Settings } from 'corral'
 *
 * export const sizeIn = ({ maxEntries }: Settings): number => Number(maxEntries ?? 10_000)
 * ```
 */
export type Settings = Readonly<Record<string, SettingValue>>

/** A backend or a proxy that settings name, with its options. */
export interface ChainPart {
  readonly name: string
  readonly make: (options: Settings) => unknown
  readonly options: Settings
}

type Chain = Backend<CachedValue>
// biome-ignore lint/suspicious/noExplicitAny: a registered layer may be of any representation; the chain checks it
type Layer = (next: any) => Chain

interface SharedChain {
  readonly chain: Chain
  readonly make: ChainPart['make']
}

/** The chains that regions of this process share, by the settings of their parts. */
const shared = processGlobal('chains', () => new Map<string, SharedChain>())

/** Builds a chain of its parts. If one of them fails, those below it are closed. */
export function buildChain(parts: readonly ChainPart[], share: boolean): Chain {
  let chain: Chain | undefined
  let settings = ''
  try {
    for (const { name, make, options } of parts) {
      settings += JSON.stringify([name, options])
      const found = share ? shared.get(settings) : undefined
      // The last region over a chain has closed it. A name that is registered again stands for another part.
      if (
        found?.make === make &&
        isInUse(found.chain) &&
        (chain?.actual ?? found.chain.actual) === found.chain.actual
      )
        chain = found.chain
      else {
        chain =
          chain === undefined ? (make(options) as Chain) : (wrap(chain, make(options) as Layer) as Chain)
        if (share) shared.set(settings, { chain, make })
      }
    }
    return chain as Chain
  } catch (error) {
    closeUnused(chain)
    throw error
  }
}

import type { Backend } from '../backend/backend.js'
import type { CachedValue } from '../backend/cached-value.js'
import { layerOver } from '../backend/delegate.js'
import { attempt, ignoreRejection } from '../base/maybe-promise.js'
import { processGlobal } from '../base/process-global.js'
import { wrap } from '../chain/wrap.js'
import type { BuiltBackend } from '../region/settings-reader.js'
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
  readonly below: Chain | undefined
  readonly make: ChainPart['make']
}

/** The chains that regions of this process share, by the settings of their parts. */
const shared = processGlobal('chains', () => new Map<string, SharedChain>())

/** Builds a chain of its parts. If one of them fails, those that were made for it are closed. */
export function buildChain(parts: readonly ChainPart[], share: boolean): BuiltBackend {
  let chain: Chain | undefined
  /** The part of the chain that other regions use. */
  let used: Chain | undefined
  let settings = ''
  const added: string[] = []
  const discard = () => {
    // No later region may find a layer that is closed here over a store that stays open.
    for (const one of added) shared.delete(one)
    if (used === undefined) closeUnused(chain)
    else if (chain !== used) void ignoreRejection(attempt(() => chain?.close()))
  }
  try {
    for (const { name, make, options } of parts) {
      settings += JSON.stringify([name, options])
      const found = share ? shared.get(settings) : undefined
      // The last region over a chain has closed it. A name that is registered again stands for another part.
      if (found?.make === make && found.below === chain && isInUse(found.chain)) used = chain = found.chain
      else {
        const below = chain
        chain = (
          below === undefined
            ? make(options)
            : wrap(below === used ? keptOpen(below) : below, make(options) as Layer)
        ) as Chain
        // An application may make one backend once, and use it with its own hands elsewhere.
        if (below === undefined && isInUse(chain)) used = chain
        if (share) {
          shared.set(settings, { chain, below, make })
          added.push(settings)
        }
      }
    }
    return { backend: chain as Chain, discard }
  } catch (error) {
    discard()
    throw error
  }
}

/** A chain that a layer above it does not close while a region uses its store. */
function keptOpen(chain: Chain): Chain {
  return layerOver(chain, { close: () => (isInUse(chain) ? undefined : chain.close()) })
}

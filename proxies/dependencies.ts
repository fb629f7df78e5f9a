import type { Backend } from '../src/backend/backend.js'
import type { CachedValue } from '../src/backend/cached-value.js'
import { CorralError } from '../src/base/errors.js'
import { expectThat, ownOptions, rejectUnknownOptions } from '../src/base/options.js'
import { checkFit } from '../src/chain/map-values.js'
import type { BackendProxy } from '../src/chain/proxy.js'
import { remembered } from '../src/dependencies/call-registry.js'
import { track } from '../src/dependencies/tracking-layer.js'
import type { Ledger } from '../src/ledger/ledger.js'

/**
 * Makes entries die with anything that they were made from: names declared inside the creator, with the value, or
 * handed up by cached values that went into it. Layers below map the names, layers above do not: regions that nest
 * share a ledger only if the layers below `dependencies()` are the same.
 * @param options.ledger another backend's ledger, for a store that has none.
 * @example
 * ```ts
 * import { dep, dependsOn, makeRegion, wrap } from 'corral'
 * import { memory } from 'corral/backends/memory'
 * import { dependencies } from 'corral/proxies/dependencies'
 *
 * const pages = makeRegion<string>({ name: 'pages', backend: wrap(memory(), dependencies()) })
 * await pages.getOrCreate('start', () => {
 *   dependsOn(dep.tag('news'))
 *   return '<h1>News</h1>'
 * })
 * await pages.invalidateDependencies(dep.tag('news'))
 * ```
 * @throws CorralError `ERR_NO_LEDGER` when wrapped around a backend without a ledger; `ERR_CHAIN` over another dependencies(),
 * or when the lent ledger is this process's own and that of the chain is not.
 */
export function dependencies(options: { readonly ledger?: Ledger } = {}): BackendProxy<CachedValue> {
  options = ownOptions(options)
  rejectUnknownOptions(options, ['ledger'], 'dependencies()')
  expectThat(
    options.ledger === undefined || typeof options.ledger?.open === 'function',
    options.ledger,
    "`ledger` to be a ledger, such as memoryLedger() or another backend's",
  )
  return (next: Backend<CachedValue>) => {
    checkFit('dependencies()', 'values', next.stores)
    if (next.tracker !== undefined)
      throw new CorralError(
        'ERR_CHAIN',
        'The chain tracks dependencies already: drop the second dependencies().',
      )
    const ledger = options.ledger ?? next.ledger
    if (ledger === undefined)
      throw new CorralError(
        'ERR_NO_LEDGER',
        `Expected a backend with a ledger under dependencies(), got '${next.name}', which keeps none. Lend it one: dependencies({ ledger }) with memoryLedger() where one process uses the store, with epochLedger({ get, set, add }) over a store that all processes share, or with the ledger of another backend.`,
      )
    if (!ledger.shared && next.ledger?.shared === true)
      throw new CorralError(
        'ERR_CHAIN',
        `Processes share the ledger of '${next.name}', or tell each other of it, but the one that is lent is of this process alone: the others would not hear of an invalidation. Drop \`ledger\`.`,
      )
    return track(next, ledger, { lent: options.ledger !== undefined, calls: remembered })
  }
}

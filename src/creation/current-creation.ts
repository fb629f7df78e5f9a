import { CorralError } from '../base/errors.js'
import { currentScope } from './scope.js'
import type { Creation } from './types.js'

/**
 * The creation around the caller, for functions that Corral calls with arguments of their own.
 * @example
 * ```ts
 * import { currentCreation, makeRegion } from 'corral'
 * import { memory } from 'corral/backends/memory'
 *
 * const region = makeRegion<string>({ backend: memory() })
 * const login = region.cacheOnArguments(
 *   async (user: string) => {
 *     currentCreation().expireIn('4m')
 *     return `token of ${user}`
 *   },
 *   { namespace: 'token' },
 * )
 * await login('Ada')
 * ```
 * @throws CorralError `ERR_OUTSIDE_CREATION` outside of every creation, also in a cached function that runs uncached.
 */
export function currentCreation(): Creation {
  const creation = currentScope()?.creation
  if (creation !== undefined) return creation
  throw new CorralError(
    'ERR_OUTSIDE_CREATION',
    'Expected currentCreation() inside of a creator or a cached function, got a call outside of every creation. Call it before the function returns, and in its own async context.',
  )
}

import { CorralError } from '../base/errors.js'
import { cached } from './cached-function.js'
import { cachedMethod } from './cached-method.js'
import { type FunctionKeyGenerator, functionKeyGenerator } from './keys.js'
import { COMMON, checkOptions, DECLARATIONS, mustBeFunction, mustBeOption, namespaceFor } from './options.js'
import type { CacheOnArguments, CacheOptions, FunctionStore } from './types.js'

/** Builds `region.cacheOnArguments(options)`. */
export function makeCacheOnArguments<V>(
  store: FunctionStore<V>,
  options: CacheOptions,
  regional: FunctionKeyGenerator,
): CacheOnArguments<V> {
  checkOptions(
    'cacheOnArguments()',
    options,
    [...COMMON, ...DECLARATIONS, 'functionKeyGenerator', 'self'],
    'function',
  )
  const { functionKeyGenerator: own, self } = options
  mustBeOption('functionKeyGenerator', own, 'a function', own === undefined || typeof own === 'function')
  mustBeOption(
    'self',
    self,
    "a function of the instance, or 'shared'",
    self === undefined || self === 'shared' || typeof self === 'function',
  )
  const generator = own ?? regional
  const namespace = namespaceFor(options.namespace, generator === functionKeyGenerator)

  const decorate = (fn: unknown, context?: ClassMethodDecoratorContext): unknown => {
    mustBeFunction('cacheOnArguments()', fn)
    if (context === undefined) return cached(store, options, fn, generator(namespace, fn))
    if (context.kind !== 'method')
      throw new CorralError(
        'ERR_OPTION',
        `Expected cacheOnArguments() to decorate a method, got a ${context.kind as string}.`,
      )
    return cachedMethod(store, options, fn, (space = namespace) => generator(space, fn), namespace, context)
  }
  return decorate as CacheOnArguments<V>
}

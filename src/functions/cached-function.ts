import type { AnyFunction, Arguments } from '../base/any-function.js'
import { CorralError, formatValue } from '../base/errors.js'
import { frozenCopy } from '../base/frozen.js'
import { andThen, type MaybePromise, native } from '../base/maybe-promise.js'
import { expectBoolean, expectFunction, expectOneOf, type OptionCheck } from '../base/options.js'
import { ignoreRejections } from '../base/parts.js'
import { isPlainObject } from '../base/realms.js'
import { keysOfForms, mayCountArguments } from './arity.js'
import { cachedMethod, decorated, functionFirst } from './cached-method.js'
import { areChangeable, capturing, isByNamespace } from './captured.js'
import { copyOptions, readOptions } from './declarations.js'
import {
  checkNamespace,
  expectKeysOf,
  type FunctionKeyGenerator,
  functionKeyGenerator,
  type KeyPart,
} from './keys.js'
import { type CallForm, withMembers } from './members.js'
import { claimNamespace, type Declaring } from './namespaces.js'
import type { CacheOptions, FunctionStore } from './types.js'

/** `region.cacheOnArguments(fn, options)`, or `(options)` for a function or decorator that does the rest. */
export function makeCacheOnArguments<V>(
  storeOf: (namespace: string | undefined) => FunctionStore<V>,
  regional: FunctionKeyGenerator,
  given: Arguments,
): unknown {
  return functionFirst(
    'cacheOnArguments()',
    given,
    makeCacheOnArguments as AnyFunction,
    (options: CacheOptions, by) => cacher(storeOf, regional, options, by),
  )
}

function cacher<V>(
  storeOf: (namespace: string | undefined) => FunctionStore<V>,
  regional: FunctionKeyGenerator,
  told: CacheOptions,
  by?: Declaring,
): (...given: Arguments) => unknown {
  const options = copyOptions(told)
  const names = readOptions('cacheOnArguments()', options, OWN, (args) => frozenCopy(args))
  const { key, self } = options
  const generator = options.functionKeyGenerator ?? (key === undefined ? regional : functionKeyGenerator)
  const namespace = checkNamespace(options.namespace, isByNamespace(generator))
  const store = storeOf(options.namespace)

  const declare = (...given: Arguments): unknown => {
    const { fn, place, finish } = decorated(given)
    // A generator of the application may tell the functions of a namespace apart.
    if (isByNamespace(generator))
      claimNamespace(store.home, namespace, fn, options.sharesNamespace, {
        ...(by ?? { called: declare }),
        perInstance: self !== undefined,
        isMethod: place !== undefined,
        ...(typeof key === 'string' && { key }),
      })
    const arity = { exactArity: options.exactArity ?? mayCountArguments(fn) }
    const hasForms = key === undefined && options.exactArity === undefined && arity.exactArity
    const keysIn = (space: string) => {
      const keyOf = expectKeysOf(generator(space, fn, arity))
      if (key === undefined) return keyOf
      return (...args: Arguments) =>
        keyOf(typeof key === 'string' ? key : expectTold(key(...(args as never))))
    }
    const shared = keysIn(namespace)
    const capture = capturing(key === undefined ? generator : keysIn)
    const ofInstance = typeof self === 'function'
    const ways = { hasForms, capture, mayChange: ofInstance ? () => true : areChangeable }
    const cached = (keyOf = shared, instance?: object) =>
      withMembers(store, options, names, fn, singleForm(store, keyOf, ways), instance)
    if (place === undefined && self === undefined) return cached()
    const method = cachedMethod(fn, self, place, (instance) => {
      if (!ofInstance) return cached(shared, instance)
      // The instance belongs to the namespace: a generator may expect the method's own arguments only.
      const spaceOf = functionKeyGenerator(namespace || 'self', fn)
      const home = () => asId(self(instance as never), spaceOf)
      return cached((...args) => keysIn(home())(...args), instance)
    })
    return finish(method)
  }
  return declare
}

/** @throws CorralError `ERR_KEY_ARGUMENT` for a value that does not tell an instance from others. */
function asId(self: KeyPart, keyOf: (id: KeyPart) => string): string {
  try {
    const id = keyOf(self)
    if (!isEmpty(self) && !isMissing(self)) return id
  } catch (error) {
    // Its message is about an argument of the method.
    if (!CorralError.is(error, 'ERR_KEY_ARGUMENT')) throw error
  }
  ignoreRejections(self)
  throw new CorralError(
    'ERR_KEY_ARGUMENT',
    `Expected \`self\` to return the id of the instance, got ${formatValue(self)}: such instances would share their entries. Give the instance an id before its method is called, or say self: 'shared'.`,
  )
}

/** @throws CorralError `ERR_KEY_ARGUMENT` for a key without a value: all such calls would share one entry. */
function expectTold(key: string): string {
  if (!isMissing(key)) return key
  throw new CorralError(
    'ERR_KEY_ARGUMENT',
    `Expected \`key\` to return a text for the arguments, got ${formatValue(key)}: all such calls would share an entry.`,
  )
}

/** Whether an id is a list or an object without parts, which is equal for all instances. */
function isEmpty(self: KeyPart): boolean {
  if (typeof self !== 'object' || self === null) return false
  return (Array.isArray(self) || isPlainObject(self)) && Object.keys(self).length === 0
}

/** Whether a part of an id has no value yet. */
function isMissing(part: KeyPart): boolean {
  if (typeof part === 'object' && part !== null) return Object.values(part).some(isMissing)
  return part === undefined || part === null || Number.isNaN(part)
}

const OWN: Readonly<Record<string, OptionCheck>> = {
  functionKeyGenerator: expectFunction,
  exactArity: expectBoolean,
  enabled: expectFunction,
  self: (value, subject) =>
    value === 'shared' || expectFunction(value, subject, "a function of the instance, or 'shared'"),
  key: (value, subject) =>
    typeof value === 'string' || expectFunction(value, subject, 'a string or a function of the arguments'),
  onKeyError: (value, subject) => expectOneOf(value, subject, ['bypass', 'throw']),
  copy: (value, subject) => expectOneOf(value, subject, ['share', 'clone']),
}

/** A call has one key, made of all its arguments. */
function singleForm<V>(
  store: FunctionStore<V>,
  keyOf: (...args: Arguments) => string,
  { hasForms, ...ways }: Pick<CallForm<V>, 'capture' | 'mayChange'> & { readonly hasForms: boolean },
): CallForm<V> {
  return {
    ...ways,
    keysOf: (args) => [keyOf(...args)],
    ...(hasForms && { otherKeys: (args) => keysOfForms(keyOf, args).slice(1) }),
    kept: (args) => args,
    argsPerKey: (args) => [args],
    callOf: (own) => own,
    run: (original, [args = []]) => andThen(native(original(...args) as MaybePromise<V>), (value) => [value]),
    create: (keys, args, creatorOf, options) =>
      store.getOrCreateWith(keys[0] as string, args, creatorOf, options),
    read: ([key], options) => store.get(key as string, options),
    resultOf: (_, [value]) => value,
    splitSet: ([value, ...args]) => [args, [value as V]],
    outcomeOf: ([outcome]) => outcome,
    members: { key: keyOf },
  }
}

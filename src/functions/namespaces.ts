/** The namespaces of a region's functions: two functions with one namespace would share their entries. */
import type { AnyFunction } from '../base/any-function.js'
import { report } from '../base/diagnostics.js'
import { CorralError } from '../base/errors.js'
import { processGlobal } from '../base/process-global.js'
import { delay } from '../base/timers.js'

/** A function that took a namespace. Its text is kept and not the function, which may hold much alive. */
interface Claim {
  readonly text: string
  /** Whether the text stands for one function object alone. */
  readonly unique: boolean
  /** The function object that took it last. */
  readonly number: number
  readonly place: readonly Place[]
  readonly shares: boolean
  /** Whether the application was told that function objects of one text share it. */
  readonly told: boolean
  /** Whether the turn of the event loop that declared it is over. */
  settled: boolean
}

interface Place {
  readonly file: string
  /** Tells the evaluations of a reloaded module apart. */
  readonly query: string
  readonly position: string
}

/** The function by which an application declares another one. */
export interface Declaring {
  readonly called: AnyFunction
  /** The number of calls inside of this package that led to it. @default 0 */
  readonly inside?: number
  /** Whether its keys tell the instances of a function apart, as `self` says. @default false */
  readonly perInstance?: boolean
  /** Whether it is a method, which all instances of its class have in common. @default false */
  readonly isMethod?: boolean
  /** The one key of all its calls, so that others of its namespace may have other such keys. */
  readonly key?: string
}

/** The claims of a namespace: of functions with one key by that key, of functions with keys of their arguments by `undefined`. */
type Claims = Map<string | undefined, Claim>

const claims = processGlobal('claimed namespaces', () => new WeakMap<object, Map<string, Claims>>())

/** The homes of the keyspaces that regions of this process were given, by a text for each. */
const keyspaces = processGlobal('namespaces', () => new Map<string, object>())

const commonHomes = new WeakMap<object, object>()

/** Namespaces must differ among all regions of this process that share a keyspace: they share their entries. */
export function shareHome(home: object, keyspace: string): void {
  let common = keyspaces.get(keyspace)
  if (common === undefined) keyspaces.set(keyspace, (common = {}))
  commonHomes.set(home, common)
}

/**
 * Takes a namespace for a function.
 * @param region - the region, or another object in which namespaces must differ
 * @throws CorralError `ERR_NAMESPACE` if another function has it, and neither says that it shares it. The same function may
 * be declared again, also by a module that was edited and loaded again.
 */
export function claimNamespace(
  region: object,
  namespace: string,
  fn: AnyFunction,
  shares: boolean | undefined,
  by: Declaring,
): void {
  const home = commonHomes.get(region) ?? region
  const inHome = claims.get(home) ?? new Map<string, Claims>()
  claims.set(home, inHome)
  const taken: Claims = inHome.get(namespace) ?? new Map()
  inHome.set(namespace, taken)
  const { key } = by
  const former = taken.get(key)
  const source = Function.prototype.toString.call(fn)
  const unique = (WITHOUT_SOURCE.test(source) || READS_OUTER_THIS.test(source)) && by.perInstance !== true
  const text = `${fn.name} ${source}${unique ? numberOf(fn) : ''}`
  const number = numberOf(fn)
  const shared = shares === true || former?.shares === true
  // Each instance may have a function of its own. Another method is that of another class.
  const ofInstance = by.perInstance === true && by.isMethod !== true
  const isAnother = former !== undefined && former.number !== number && !shared && !ofInstance
  const claim: Claim = {
    text,
    unique,
    number,
    place: placeOfCall(by),
    shares: shares === true,
    told: isAnother || former?.told === true,
    settled: false,
  }
  // The one key of a function may be that of arguments of another.
  const others = key === undefined ? [...taken] : [...taken].filter(([of]) => of === key || of === undefined)
  const clashes = others.some(
    ([of, one]) =>
      !(claim.shares || one.shares) && (of !== key || one.text !== text) && !isReloaded(one, claim),
  )
  if (clashes)
    throw new CorralError(
      'ERR_NAMESPACE',
      `Expected a namespace for each function of a region, got '${namespace}' for two of them: each would return the other's results. Rename one, or say sharesNamespace: true if they return the same values. A bound function, a proxy, or an arrow function that reads \`this\` can belong to one instance: give it \`self\`, or a namespace with the id of its instance.`,
    )
  if (isAnother && !former.told) {
    const message = `Two functions have the namespace '${namespace}'. If they differ, be it only in what they close over, each returns the other's results: give each a namespace of its own, or say sharesNamespace: true, also if \`self\` tells their classes apart.`
    report('notice', () => ({
      where: `namespace: ${namespace}`,
      region: (region as { readonly name?: string }).name,
      namespace,
      message,
    }))
  }
  // A function that shares does not replace the claim of another: the next function is compared with that claim.
  if (!claim.shares || former === undefined) taken.set(key, claim)
  void delay(0, { ref: false }).then(() => {
    claim.settled = true
  })
}

/** The text of a bound function or a proxy, which is the same for all of them. */
const WITHOUT_SOURCE = /\{\s*\[native code\]\s*\}\s*$/

/** An arrow function that reads the `this` around it, as in a class field: each instance has one with the same text. */
const READS_OUTER_THIS = /^(?:async\b\s*)?(?:\(.*?\)|[\w$]+)\s*=>.*(?<![\w$.])this(?![\w$])/s

/** All copies of the package count together. */
const numbers = processGlobal('function numbers', () => ({ of: new WeakMap<object, number>(), last: 0 }))

/** Tells function objects apart. */
function numberOf(fn: AnyFunction): number {
  let number = numbers.of.get(fn)
  if (number === undefined) numbers.of.set(fn, (number = ++numbers.last))
  return number
}

/**
 * Whether a claim is an edited form of the former: declared later, at the same place or by another load of the file. The
 * callers of that place count too, since a helper may declare the functions of several.
 */
function isReloaded({ place: former, settled }: Claim, { place, unique }: Claim): boolean {
  if (!settled || place.length === 0 || former.length !== place.length) return false
  return place.every((to, i) => {
    const from = former[i] as Place
    // At one place a constructor may bind a method for each instance.
    return from.file === to.file && (from.query !== to.query || (!unique && from.position === to.position))
  })
}

/** A line of a stack: `at name (file?query:line:column)`, with or without the name. */
const LOCATION = /^ *at (?:.*? \()?(.+?)(\?[^:]*)?:(\d+:\d+)\)?$/

/** The place that called a function, and the caller of that place, as far as the stack tells them. */
function placeOfCall({ called, inside = 0 }: Declaring): readonly Place[] {
  const trace: { readonly stack?: unknown } = {}
  Error.captureStackTrace(trace, called)
  if (typeof trace.stack !== 'string') return []
  const lines = trace.stack.split('\n').slice(1 + inside, 3 + inside)
  return lines.flatMap((line) => {
    const [, file, query = '', position] = LOCATION.exec(line) ?? []
    return file === undefined || position === undefined ? [] : [{ file, query, position }]
  })
}

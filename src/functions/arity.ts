import type { AnyFunction, Arguments } from '../base/any-function.js'

/** White space and comments. */
const GAP = '(?:\\s|/\\*(?:[^*]|\\*(?!/))*\\*/|//.*[\\r\\n])*'

/**
 * The word `arguments`, also with one of its letters escaped or in code that `eval` runs, a source that is hidden, or `...` that may begin a rest
 * parameter: a name before the body, or a pattern.
 */
const MAY_COUNT = new RegExp(
  `\\barguments\\b|\\beval\\b|\\\\u(?:00|\\{0*)(?:6[157deDE]|7[2-5])|\\[native code\\]|\\.\\.\\.${GAP}(?:[[{][^]*?|[\\w$\\\\\\x80-\\uffff]+${GAP})\\)${GAP}(?:=>|\\{)`,
)

/**
 * Whether a function may tell `f()` from `f(undefined)`: by rest parameters, by `arguments`, or behind a source that is hidden.
 * `fn.length` does not show it, so the source is read. A function that is taken for one only has more keys than it needs, and an
 * invalidation reaches all of them; the reverse would be a wrong value. So text that looks like it counts, wherever it stands.
 */
export function mayCountArguments(fn: AnyFunction): boolean {
  return MAY_COUNT.test(Function.prototype.toString.call(fn))
}

/** Trailing `undefined` arguments by which the forms of a call may differ. */
const FORMS = 8

/** The keys of all calls that differ from this one by trailing `undefined` arguments alone. */
export function keysOfForms(keyOf: (...args: Arguments) => string, args: Arguments): readonly string[] {
  const form = args.slice(0, args.findLastIndex((one) => one !== undefined) + 1)
  const most = Math.max(args.length, form.length + FORMS)
  const keys = new Set([keyOf(...args)])
  try {
    for (; form.length <= most; form.push(undefined)) keys.add(keyOf(...form))
  } catch {
    // A generator of the application may refuse so many arguments. No call has such a key.
  }
  return [...keys]
}

/** The only parameter is a rest, of which the source uses nothing but members of a list: a wrapper would hand it on. */
const ONLY_REST =
  /^[^(]*\(\s*\.\.\.\s*(\w+)\s*\)(?=[\s\S]*\b\1\b)(?![\s\S]*\b\1\b(?!\s*\.\s*(?:map|filter|join|length)\b))/

/** Whether the source of a function shows that it takes many ids as `(...ids)`. */
export function showsRest(fn: AnyFunction): boolean {
  return ONLY_REST.test(Function.prototype.toString.call(fn))
}

import type { AnyFunction } from '../base/any-function.js'

/**
 * Whether a function can tell `f()` from `f(undefined)`: it has rest parameters, or reads `arguments`, as compiled rest
 * parameters do. `fn.length` does not show it, so the source is read. Native and bound functions hide theirs.
 */
export function countsArguments(fn: AnyFunction): boolean {
  const source = Function.prototype.toString.call(fn)
  if (/^(async\s+)?[\w$]+\s*=>/.test(source)) return false
  return hasRest(source) || /\barguments\s*(\.\s*length|\[)/.test(source)
}

const STRINGS_AND_COMMENTS = /\/\*[\s\S]*?\*\/|\/\/.*|(['"`])(?:\\[\s\S]|(?!\1)[^\\])*\1/g

/** Whether a parameter starts with `...`, outside of strings, comments, default values and patterns. */
function hasRest(source: string): boolean {
  const code = source.replace(STRINGS_AND_COMMENTS, "''")
  let depth = 0
  for (let i = Math.max(code.indexOf('('), 0); i < code.length; i++) {
    const character = code[i] as string
    if ('([{'.includes(character)) depth++
    else if (')]}'.includes(character)) {
      if (--depth === 0) return false
    } else if (depth === 1 && code.startsWith('...', i)) return true
  }
  return false
}

/** The only parameter is a rest, of which the source uses nothing but members of a list: a wrapper would hand it on. */
const ONLY_REST =
  /^[^(]*\(\s*\.\.\.\s*(\w+)\s*\)(?=[\s\S]*\b\1\b)(?![\s\S]*\b\1\b(?!\s*\.\s*(?:map|filter|join|length)\b))/

/** Whether the source of a function shows that it takes many ids as `(...ids)`. */
export function showsRest(fn: AnyFunction): boolean {
  return ONLY_REST.test(Function.prototype.toString.call(fn))
}

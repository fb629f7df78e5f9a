/**
 * Fails when long functions hold too much of the library: of all lines of functions at most 20 % may stand in functions
 * above 60 lines, and none of those in the rooms whose algorithms are told as one story. A function inside a function
 * counts as part of the outer one.
 */
import ts from 'typescript'
import { filesOf, LIBRARY, parse } from './sources.mjs'

const LONGEST = 60
const SHARE = 0.2
const SHORT_ONLY = ['src/dogpile/', 'src/region/']

/** @type {{ place: string, lines: number }[]} */
const functions = []

for (const file of filesOf(LIBRARY)) {
  const source = parse(file)
  const lineAt = (/** @type {number} */ position) => source.getLineAndCharacterOfPosition(position).line + 1
  /** @param {ts.Node} node @returns {void} */
  const visit = (node) => {
    if (!ts.isFunctionLike(node) || !('body' in node) || node.body === undefined)
      return ts.forEachChild(node, visit)
    const first = lineAt(node.getStart(source))
    functions.push({ place: `${file}:${first}`, lines: lineAt(node.getEnd()) - first + 1 })
  }
  visit(source)
}

const sum = (/** @type {typeof functions} */ list) => list.reduce((total, { lines }) => total + lines, 0)
const long = functions.filter(({ lines }) => lines > LONGEST).sort((a, b) => b.lines - a.lines)
const refused = long.filter(({ place }) => SHORT_ONLY.some((room) => place.startsWith(room)))
const share = sum(long) / sum(functions)

for (const { place, lines } of long) console.log(`${lines} ${place}`)
console.log(
  `${long.length} functions above ${LONGEST} lines hold ${(share * 100).toFixed(1)} % of ${sum(functions)} lines (at most ${SHARE * 100} %), ${refused.length} of them in ${SHORT_ONLY.join(' and ')} (none).`,
)
process.exitCode = share > SHARE || refused.length > 0 ? 1 : 0

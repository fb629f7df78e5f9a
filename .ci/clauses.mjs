/**
 * Fails when too many sentences hide their actor or their object behind a `what` or a `who`: at most 1.5 of these words
 * per 1,000 in comments, messages, pages and titles of tests. Questions and quotations may have them.
 *
 *   --list <path>   also prints the sentences of the files below this path; may be repeated
 */
import { parseArgs } from 'node:util'
import { sentencesOf, wordsOf } from './prose.mjs'
import { filesOf, LIBRARY, roomOf } from './sources.mjs'

const MOST = 1.5
const CLAUSE = /\b(what|whatever|who|whoever)\b/gi
const PROSE = [
  ...LIBRARY,
  'test',
  'bench',
  'examples',
  '.ci',
  'docs',
  'README.md',
  'CONTRIBUTING.md',
  'CHANGELOG.md',
]

const { values } = parseArgs({ options: { list: { type: 'string', multiple: true, default: [] } } })

/** @type {Map<string, { words: number, clauses: number }>} */
const counts = new Map()
const total = { words: 0, clauses: 0 }

for (const file of filesOf(PROSE, /\.(ts|mjs|md)$/)) {
  const room = counts.get(roomOf(file)) ?? { words: 0, clauses: 0 }
  counts.set(roomOf(file), room)
  for (const { line, text } of sentencesOf(file)) {
    const clauses = text.endsWith('?') ? 0 : (text.match(CLAUSE)?.length ?? 0)
    for (const count of [room, total]) {
      count.words += wordsOf(text)
      count.clauses += clauses
    }
    if (clauses > 0 && values.list.some((path) => file.startsWith(path)))
      console.log(`${file}:${line} ${text}`)
  }
}

const rate = (/** @type {typeof total} */ { words, clauses }) => (clauses / words) * 1000
const line = (/** @type {string} */ name, /** @type {typeof total} */ count) =>
  `${rate(count).toFixed(1).padStart(5)} ${name} (${count.clauses} in ${count.words} words)`

for (const [name, count] of [...counts].sort(([, a], [, b]) => rate(b) - rate(a)))
  if (count.clauses > 0) console.log(line(name, count))
console.log(`${line('per 1,000 words in all', total).trim()}, at most ${MOST}`)
process.exitCode = rate(total) > MOST ? 1 : 0

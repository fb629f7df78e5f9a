/**
 * Draws ten lines of code, one from each of ten rooms of `src/`, each with the line before and after it. A reader without
 * knowledge of the code names the room of each; if the rooms and names are good, nine of ten are right.
 *
 *   node .ci/ten-lines.mjs [seed] [--answers]    the same seed draws the same lines; --answers prints their places
 */
import { readdirSync, readFileSync } from 'node:fs'
import { parseArgs } from 'node:util'
import { root } from './entries.mjs'
import { codeLines, filesOf, parse } from './sources.mjs'

const LINES = 10
const SHORTEST = 30

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: { answers: { type: 'boolean', default: false } },
})
const seed = Number(positionals[0] ?? Math.floor(Math.random() * 1e6))

const random = generator(seed)
/** @template T @param {T[]} list @returns {T[]} one of them, taken out of the list */
const draw = (list) => list.splice(Math.floor(random() * list.length), 1)

const rooms = readdirSync(`${root}src`, { withFileTypes: true })
  .filter((item) => item.isDirectory())
  .map(({ name }) => `src/${name}`)
  .sort()

console.log(`seed ${seed}`)
for (let number = 1; number <= LINES; number++) {
  const room = draw(rooms).join()
  const [line] = draw(filesOf([room], /\.ts$/).flatMap(tellingLines))
  if (!line) continue
  console.log(`${String(number).padStart(2)}`)
  for (const [index, text] of line.around.entries())
    console.log(`  ${index === line.drawn ? '>' : ' '} ${text}`)
  if (values.answers) console.log(`    ${line.place}`)
}

/** Lines that say something: no import, no lone bracket. @param {string} file */
function tellingLines(file) {
  const text = readFileSync(root + file, 'utf8').split('\n')
  const code = [...codeLines(parse(file))].sort((a, b) => a - b)
  const isImport = (/** @type {string} */ line) => /^(import|export) .*from |^\} from /.test(line)
  return code.flatMap((at, index) => {
    const line = text[at]?.trim() ?? ''
    if (line.length < SHORTEST || isImport(line)) return []
    const shown = [code[index - 1], at, code[index + 1]].filter(
      (number) => number !== undefined && !isImport(text[number] ?? ''),
    )
    const around = shown.map((number) => text[number ?? at] ?? '')
    return [{ around, drawn: shown.indexOf(at), place: `${file}:${at + 1}` }]
  })
}

/** Mulberry32. @param {number} state */
function generator(state) {
  return () => {
    state = (state + 0x6d2b79f5) | 0
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state)
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32
  }
}

/**
 * Counts the lines of code of the library; comments and blank lines are not counted.
 *
 *   node .ci/code-lines.mjs            the working tree
 *   node .ci/code-lines.mjs 05cf61c    this revision and the working tree, both formatted by today's formatter
 *   node .ci/code-lines.mjs 05cf61c 0123abc    two revisions
 */
import { execFileSync } from 'node:child_process'
import { cpSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { root } from './entries.mjs'
import { codeLines, filesOf, LIBRARY, parse } from './sources.mjs'

const [revision, later] = process.argv.slice(2)
const folder = mkdtempSync(join(tmpdir(), 'corral-code-lines-'))
process.once('exit', () => rmSync(folder, { recursive: true, force: true }))

const after = count('after', later === undefined ? copyTree : checkOut(later))
if (revision === undefined) report('now', after)
else {
  const before = count('before', checkOut(revision))
  report(revision, before)
  report(later ?? 'now', after)
  const difference =
    Object.values(after).reduce((a, b) => a + b) - Object.values(before).reduce((a, b) => a + b)
  console.log(`difference: ${difference > 0 ? '+' : ''}${difference}`)
}

/** @param {string} to */
function copyTree(to) {
  for (const name of LIBRARY) cpSync(root + name, join(to, name), { recursive: true })
}

/** @param {string} from a revision @returns {(to: string) => void} */
function checkOut(from) {
  return (to) => {
    const archive = execFileSync('git', ['archive', from, ...LIBRARY], { cwd: root, maxBuffer: 2 ** 28 })
    execFileSync('tar', ['-x', '-C', to], { input: archive })
  }
}

/** @param {string} name @param {(to: string) => void} fill @returns {Record<string, number>} */
function count(name, fill) {
  const tree = join(folder, name)
  mkdirSync(tree)
  fill(tree)
  const config = JSON.parse(readFileSync(`${root}biome.json`, 'utf8'))
  writeFileSync(
    join(tree, 'biome.json'),
    JSON.stringify({ formatter: config.formatter, javascript: config.javascript }),
  )
  execFileSync(join(root, 'node_modules/.bin/biome'), ['format', '--write', '.'], {
    cwd: tree,
    stdio: 'ignore',
  })
  const lines = (/** @type {string} */ file) =>
    codeLines(parse(file, readFileSync(join(tree, file), 'utf8'))).size
  return Object.fromEntries(
    LIBRARY.map((part) => [
      part,
      filesOf([part], /\.ts$/, `${tree}/`).reduce((total, file) => total + lines(file), 0),
    ]),
  )
}

/** @param {string} name @param {Record<string, number>} counts */
function report(name, counts) {
  const total = Object.values(counts).reduce((a, b) => a + b)
  const parts = Object.entries(counts).map(([part, lines]) => `${part} ${lines}`)
  console.log(`${name}: ${total} lines of code (${parts.join(', ')})`)
}

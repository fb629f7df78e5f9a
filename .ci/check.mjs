/** All checks that need no test run. A failure does not stop the checks after it. */
import { spawnSync } from 'node:child_process'
import { appendFileSync } from 'node:fs'
import { root } from './entries.mjs'

const bin = (/** @type {string} */ name) => `node_modules/.bin/${name}`

/** The package checks look at the build, so it comes before them. @type {[title: string, command: string, ...args: string[]][]} */
const steps = [
  ['types', 'npm', 'run', '-s', 'typecheck'],
  ['lint and formatting', 'npm', 'run', '-s', 'lint', '--', '--error-on-warnings'],
  ['layers and cycles', 'npm', 'run', '-s', 'layers'],
  ['operations of a store', 'node', '.ci/operations.mjs'],
  ['lengths of functions', 'node', '.ci/function-lengths.mjs'],
  ['actors and objects in prose', 'node', '.ci/clauses.mjs'],
  ['examples of public exports', 'node', '.ci/examples.mjs'],
  ['old names are gone', 'node', '.ci/old-names.mjs'],
  ['unused code', bin('knip')],
  ['lockfile', 'node', '.ci/lockcheck.mjs'],
  ['mutants fit the sources', 'node', '.ci/mutants.mjs', '--check'],
  ['build', 'npm', 'run', '-s', 'build'],
  ['exports and files', 'node', '.ci/exports.mjs'],
  ['publint', bin('publint'), '--strict'],
  ['are the types wrong?', bin('attw'), '--pack', '.'],
  ['size budgets', bin('size-limit')],
]

let failed = 0
for (const [title, command, ...args] of steps) {
  const start = performance.now()
  const { status, stdout, stderr } = spawnSync(command, args, { cwd: root, encoding: 'utf8' })
  const ok = status === 0
  if (!ok) failed++
  console.log(`${ok ? 'ok    ' : 'FAILED'} ${title} (${((performance.now() - start) / 1000).toFixed(1)} s)`)
  if (!ok) console.log(`${stdout}${stderr}`.trimEnd())
  else if (title === 'size budgets') console.log(stdout.trimEnd())
}

if (process.env.CI_TALLY !== undefined)
  appendFileSync(process.env.CI_TALLY, `${steps.length - failed} ${failed}\n`)
process.exitCode = failed > 0 ? 1 : 0

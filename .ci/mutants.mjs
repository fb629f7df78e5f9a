/**
 * Breaks the library on purpose and demands that the tests notice: `npm run test:mutants`. Each mutant of
 * test/mutants/*.json replaces a piece of text in one file of a copy of the tree and runs the tests that it names there; with `match`, only the tests whose names match it; with `schedules`, interleavings try so many times as many orders. It is killed when one of them fails; one that survives marks
 * a promise that no test holds.
 *
 *   --only <name>   this mutant; may be repeated
 *   --short         without those marked `"long": true`
 *   --check         only whether every mutant still fits the sources
 */
import { execFileSync, spawn } from 'node:child_process'
import {
  appendFileSync,
  cpSync,
  existsSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { availableParallelism, tmpdir } from 'node:os'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { root } from './entries.mjs'

/** @typedef {{ name: string, file: string, find: string, replace: string, tests: string[], match?: string, schedules?: number, long?: boolean }} Mutant */

/** ms for the tests of one mutant, and for those of all mutants together. */
const PATIENCE = { mutant: 300_000, all: 1_800_000 }

const { values: options } = parseArgs({
  options: {
    only: { type: 'string', multiple: true, default: [] },
    short: { type: 'boolean', default: false },
    check: { type: 'boolean', default: false },
  },
})

/** The core's mutants, and those of each backend, which need its server and so are part of the long form only. */
const list = readdirSync(join(root, 'test/mutants'))
  .filter((file) => file.endsWith('.json'))
  .flatMap((file) => {
    /** @type {Mutant[]} */
    const mutants = JSON.parse(readFileSync(join(root, 'test/mutants', file), 'utf8'))
    return mutants.map((mutant) => ({ long: file !== 'core.json', ...mutant }))
  })
const named = list.filter(({ name }) => options.only.length === 0 || options.only.includes(name))
const problems = misfits(named)
for (const problem of problems) console.error(problem)
if (problems.length > 0) quit(0, problems.length)
if (options.check) process.exit()

const chosen = named.filter(({ long }) => !(options.short && long === true))

// A test that fails without a mutant would kill every one of them.
const baseline = [...new Set(chosen.flatMap(({ tests }) => tests))]
if (baseline.length > 0 && (await trial(baseline)) !== 'passed') {
  console.error(`Expected the tests to pass on the tree as it is: ${baseline.join(' ')}`)
  quit(0, chosen.length)
}

let killed = 0
let survived = 0
const queue = chosen.values()
await Promise.all(Array.from({ length: Math.min(2, availableParallelism()) }, work))
console.log(`${killed} killed, ${survived} survived`)
quit(killed, survived)

/** @param {number} passed @param {number} failed @returns {never} */
function quit(passed, failed) {
  if (process.env.CI_TALLY !== undefined && !options.check)
    appendFileSync(process.env.CI_TALLY, `${passed} ${failed}\n`)
  process.exit(failed > 0 ? 1 : 0)
}

async function work() {
  for (const mutant of queue) {
    const start = performance.now()
    const outcome = await trial(mutant.tests, mutant)
    const verdict = outcome === 'failed' || outcome === 'hung' ? 'killed  ' : 'SURVIVED'
    if (verdict === 'SURVIVED') survived++
    else killed++
    console.log(
      `${verdict} ${mutant.name} (tests ${outcome}, ${((performance.now() - start) / 1000).toFixed(1)} s)`,
    )
  }
}

/**
 * Runs tests in a copy of the tree. `broken`: no test ran, so that nothing was shown.
 * @param {string[]} tests
 * @param {Mutant} [mutant]
 * @returns {Promise<'passed' | 'failed' | 'hung' | 'broken'>}
 */
async function trial(tests, mutant) {
  const copy = mkdtempSync(join(tmpdir(), 'corral-mutant-'))
  try {
    const files = execFileSync('git', ['ls-files', '-z', '--cached', '--others', '--exclude-standard'], {
      cwd: root,
      encoding: 'utf8',
    })
    for (const file of files.split('\0').filter((path) => path !== '' && existsSync(join(root, path))))
      cpSync(join(root, file), join(copy, file))
    symlinkSync(join(root, 'node_modules'), join(copy, 'node_modules'), 'dir')
    if (mutant !== undefined) {
      const source = readFileSync(join(copy, mutant.file), 'utf8')
      writeFileSync(
        join(copy, mutant.file),
        source.replace(mutant.find, () => mutant.replace),
      )
    }
    return await vitest(
      copy,
      [...tests, ...(mutant?.match === undefined ? [] : ['-t', mutant.match])],
      mutant,
    )
  } finally {
    rmSync(copy, { recursive: true, force: true })
  }
}

/**
 * @param {string} folder
 * @param {string[]} tests
 * @param {Mutant} [mutant]
 * @returns {Promise<'passed' | 'failed' | 'hung' | 'broken'>}
 */
async function vitest(folder, tests, mutant) {
  const report = join(folder, 'report.json')
  const args = ['node_modules/vitest/vitest.mjs', 'run', '--bail', '1', '--maxWorkers', '1', ...tests]
  // The group, since vitest's workers have to end with it.
  const child = spawn(process.execPath, args, {
    cwd: folder,
    detached: true,
    env: { ...process.env, TEST_REPORT: report, CI: '1', SCHEDULES: `${mutant?.schedules ?? 1}` },
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  let output = ''
  for (const stream of [child.stdout, child.stderr]) stream.on('data', (chunk) => (output += chunk))
  let hung = false
  const end = () => child.pid !== undefined && process.kill(-child.pid, 'SIGKILL')
  const timer = setTimeout(
    () => {
      hung = true
      end()
    },
    mutant === undefined ? PATIENCE.all : PATIENCE.mutant,
  )
  await new Promise((resolve) => child.once('close', resolve))
  clearTimeout(timer)
  if (hung) return 'hung'
  const {
    numFailedTests = 0,
    numPassedTests = 0,
    success = false,
  } = existsSync(report) ? JSON.parse(readFileSync(report, 'utf8')) : {}
  if (mutant === undefined && !success) console.error(output)
  if (numFailedTests > 0) return 'failed'
  return success && numPassedTests > 0 ? 'passed' : 'broken'
}

/** @param {Mutant[]} mutants @returns {string[]} */
function misfits(mutants) {
  const unknown = options.only.filter((name) => !mutants.some((mutant) => mutant.name === name))
  return [
    ...unknown.map((name) => `No mutant is called '${name}'`),
    ...mutants.flatMap(({ name, file, find, replace, tests }) => {
      const path = join(root, file)
      const count = existsSync(path) ? readFileSync(path, 'utf8').split(find).length - 1 : 0
      return [
        ...(mutants.filter((mutant) => mutant.name === name).length > 1
          ? [`Two mutants are called '${name}'`]
          : []),
        ...(count === 1 ? [] : [`${name}: expected its text once in ${file}, found it ${count} times`]),
        ...(find === replace ? [`${name}: changes nothing`] : []),
        ...(tests.length > 0 ? [] : [`${name}: names no test`]),
        ...tests
          .filter((test) => !existsSync(join(root, test)))
          .map((test) => `${name}: ${test} does not exist`),
      ]
    }),
  ]
}

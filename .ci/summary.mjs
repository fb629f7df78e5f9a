/**
 * The closing line of a run: vitest's report, and the lines `passed failed` that the other parts left.
 * `node .ci/summary.mjs <vitest.json> <tally>`
 */
import { existsSync, readFileSync } from 'node:fs'

const [report = '', tally = ''] = process.argv.slice(2)
// A part that left nothing behind did not get as far as counting.
const counts = existsSync(tally)
  ? readFileSync(tally, 'utf8')
      .trim()
      .split('\n')
      .map((line) => line.split(' ').map(Number))
  : [[0, 1]]

if (existsSync(report)) {
  /** @type {{ numPassedTests: number, numFailedTests: number, success: boolean, testResults: { status: string, assertionResults: { status: string }[] }[] }} */
  const { numPassedTests, numFailedTests, success, testResults } = JSON.parse(readFileSync(report, 'utf8'))
  // A file can fail without a failing test: it does not load, or a hook fails.
  const bare = testResults.filter(
    ({ status, assertionResults }) =>
      status === 'failed' && assertionResults.every((test) => test.status !== 'failed'),
  )
  counts.push([numPassedTests, success ? 0 : Math.max(1, numFailedTests + bare.length)])
} else counts.push([0, 1])

const sum = (/** @type {number} */ column) => counts.reduce((total, row) => total + (row[column] ?? 0), 0)
console.log(`${sum(0)} passed, ${sum(1)} failed`)
process.exitCode = sum(1) > 0 ? 1 : 0

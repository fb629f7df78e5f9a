/**
 * The closing lines of a run: the tests that failed, with their first error, and `N passed, N failed`, from vitest's report and the
 * lines `passed failed` that the other parts left.
 * `node .ci/summary.mjs <vitest.json> <tally>`
 */
import { existsSync, readFileSync } from 'node:fs'

/** The end of a long log is often all that is kept of it, so the failures stand there. */
const printFailure = (/** @type {string} */ title, /** @type {string} */ message) =>
  console.log(`failed: ${title}\n  ${message.split('\n').slice(0, 12).join('\n  ')}`)

const [report = '', tally = ''] = process.argv.slice(2)
// A part that left nothing behind did not get as far as counting.
const counts = existsSync(tally)
  ? readFileSync(tally, 'utf8')
      .trim()
      .split('\n')
      .map((line) => line.split(' ').map(Number))
  : [[0, 1]]

if (existsSync(report)) {
  /** @type {{ numPassedTests: number, numFailedTests: number, success: boolean, testResults: { name: string, status: string, message: string, assertionResults: { status: string, fullName: string, failureMessages: string[] }[] }[] }} */
  const { numPassedTests, numFailedTests, success, testResults } = JSON.parse(readFileSync(report, 'utf8'))
  // A file can fail without a failing test: it does not load, or a hook fails.
  const bare = testResults.filter(
    ({ status, assertionResults }) =>
      status === 'failed' && assertionResults.every((test) => test.status !== 'failed'),
  )
  for (const { name, message } of bare) printFailure(name, message)
  for (const { name, assertionResults } of testResults)
    for (const { status, fullName, failureMessages } of assertionResults)
      if (status === 'failed') printFailure(`${name}\n  ${fullName}`, failureMessages.join('\n'))
  if (!success && numFailedTests + bare.length === 0)
    console.log(
      'failed: no test, so an error outside of all tests; vitest printed it under "Unhandled Errors"',
    )
  counts.push([numPassedTests, success ? 0 : Math.max(1, numFailedTests + bare.length)])
} else counts.push([0, 1])

const sum = (/** @type {number} */ column) => counts.reduce((total, row) => total + (row[column] ?? 0), 0)
console.log(`${sum(0)} passed, ${sum(1)} failed`)
process.exitCode = sum(1) > 0 ? 1 : 0

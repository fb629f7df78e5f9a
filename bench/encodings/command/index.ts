#!/usr/bin/env node
/** The command `corral bench-encodings`: size, time, cost and fidelity of every encoding on given values. */
import { writeFile } from 'node:fs/promises'
import { cpus, release, type } from 'node:os'
import { measure } from './measure.js'
import { html, type Report, rate } from './report.js'
import { loadSamples } from './samples.js'
import { candidates } from './subjects.js'
import { number, table } from './table.js'
import { hasColors, progressLine } from './terminal.js'
import { help, type Request, UsageError, understand } from './usage.js'
import { conclude, formula, percent } from './verdict.js'

async function run(args: readonly string[]): Promise<void> {
  const [command, ...rest] = args
  if (command === undefined || command === '--help' || command === '-h' || command === 'help')
    return print(help)
  if (command !== 'bench-encodings')
    throw new UsageError(`Expected a command, got '${command}'. There is one: corral bench-encodings.`)
  const request = understand(rest)
  if (request === undefined) return print(help)
  const report = await benchEncodings(request)
  try {
    await writeFile(request.out, html(report))
  } catch (error) {
    throw new UsageError(
      `Expected --out to name a file that can be written, got: ${(error as Error).message}.`,
    )
  }
  await print(request.json ? `${JSON.stringify(report, null, 2)}\n` : summary(report, request))
}

async function benchEncodings(request: Request): Promise<Report> {
  const samples = await loadSamples(request.files, request.each, request.samples)
  const { subjects, absent } = await candidates(request.codecs, request.only)
  const progress = progressLine()
  const measured = await measure(subjects, samples.values, request.rounds, request.turn, progress)
  progress.end()
  return {
    label: samples.label,
    values: samples.values.length,
    found: samples.found,
    rounds: measured.rounds,
    prices: request.prices,
    machine: `Node ${process.versions.node}, ${cpus()[0]?.model.trim() ?? 'unknown processor'} (${cpus().length} cores), ${type()} ${release()}`,
    date: new Date().toISOString().slice(0, 10),
    noise: measured.noise,
    absent,
    verdict: conclude(measured, request.prices),
  }
}

function summary(report: Report, { out, prices, files, each }: Request): string {
  const { verdict, values, found, label } = report
  const bold = (text: string) => (hasColors ? `\u001b[1m${text}\u001b[0m` : text)
  const of = found > values ? ` of ${found}` : ''
  return `
${bold(`${values}${of} ${found === 1 ? 'value' : 'values'} from ${label}`)}
${report.machine}; ${report.rounds} interleaved rounds

${table(verdict)}

→ recommended   ∘ nothing is both smaller and faster to decode   ± half the distance between the quartiles
Base line against itself: encode ${percent(report.noise.encode)}, decode ${percent(report.noise.decode)}. Smaller differences are noise.
Times are processor time of one value.
${formula.read}
${formula.memory}
${formula.processor}
With a round trip of ${number(prices.rtt)} µs, ${rate(prices.bandwidth)}, ${prices.gbPrice} for a GB and month, ${prices.corePrice} for a core and month,
${prices.reads.toLocaleString('en')} reads a second of a million entries, ${prices.readsPerWrite} reads for every write.
${notes(report)}
${bold(verdict.recommended === undefined ? 'Nothing to recommend.' : `Recommended: ${verdict.recommended.name}`)}
${verdict.reasons.join('\n')}
${formula.rule}
${formula.waiting}
${values === 1 && !each && files.length > 0 ? '\nThis was one value. If its elements are cached one by one, say --each.\n' : ''}
Report: ${out}
`
}

function notes({ absent, verdict }: Report): string {
  const losses = new Map<string, string>()
  for (const { encoding, fidelity } of verdict.rated)
    if (fidelity.example !== undefined && !losses.has(encoding))
      losses.set(encoding, `Not kept by ${encoding}: ${fidelity.example}`)
  const shared = verdict.rated
    .filter(({ sharedBytes, compression }) => sharedBytes > 0 && compression === 'none')
    .map(({ name, sharedBytes }) => `${name} also stores ${number(sharedBytes)} bytes once for all values.`)
  return [
    ...losses.values(),
    ...shared,
    ...absent.map(({ name, needs }) => `Not measured: ${name}, which needs ${needs}.`),
  ]
    .map((line) => `${line}\n`)
    .join('')
}

/** Waits until it is written: a pipe may be slower than the end of the process. */
function print(text: string): Promise<void> {
  return new Promise((resolve, reject) => {
    process.stdout.write(text, (error) => (error ? reject(error) : resolve()))
  })
}

run(process.argv.slice(2)).catch((error: unknown) => {
  const expected = error instanceof UsageError
  process.stderr.write(`${expected ? error.message : ((error as Error)?.stack ?? String(error))}\n`)
  if (expected) process.stderr.write('See: corral bench-encodings --help\n')
  process.exitCode = expected ? 2 : 1
})

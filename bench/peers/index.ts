/**
 * Corral beside other caches: hits, misses, heap, stampedes, Redis and tags, each library in a process of its own.
 * Installs the libraries into bench/peers, and Corral from its package. `--json file` saves the figures, `--page` writes
 * them into docs/performance.md, `--rounds 3` makes a run short.
 */
import { execFileSync } from 'node:child_process'
import { existsSync, mkdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { loadavg } from 'node:os'
import { join } from 'node:path'
import { root } from '../../.ci/entries.mjs'
import { pack, staleSource } from '../../test/package/pack.js'
import { fetchBinaries, locate } from '../../test/support/binaries.js'
import { machine, saveJson, table } from '../support.js'
import { type Contender, openContender } from './contender.js'
import { slower, tableOf } from './figures.js'
import { MEASURES, type Results } from './measures.js'

const folder = join(root, 'bench/peers')
const modules = join(folder, 'node_modules')

/** Column by column; the base line is last. */
const SUBJECTS = [
  'corral',
  'lru-cache',
  'async-cache-dedupe',
  'layered-loader',
  'bentocache',
  'cacheable',
  'cache-manager',
  'by-hand',
]

function install(): void {
  const locked = join(folder, 'package-lock.json')
  const installed = join(modules, '.package-lock.json')
  if (existsSync(installed) && statSync(installed).mtimeMs >= statSync(locked).mtimeMs) return
  const options = ['--ignore-scripts', '--no-audit', '--no-fund', '--loglevel', 'error']
  execFileSync('npm', ['ci', ...options], { cwd: folder, stdio: ['ignore', 'ignore', 'inherit'] })
}

/** Puts the packed package where a user's install puts it. */
async function installCorral(): Promise<void> {
  if (staleSource() !== undefined)
    execFileSync('npm', ['run', '-s', 'build'], { cwd: root, stdio: ['ignore', 'ignore', 'inherit'] })
  const { tarball, remove } = await pack()
  const target = join(modules, 'corral')
  rmSync(target, { recursive: true, force: true })
  mkdirSync(target, { recursive: true })
  execFileSync('tar', ['-xzf', tarball, '-C', target, '--strip-components', '1'])
  remove()
}

/** Each round runs every library once, in a rotating order, so a disturbance meets all of them. */
async function measure(contenders: readonly Contender[]): Promise<Results> {
  const results = resultsOf(contenders)
  const option = process.argv.indexOf('--rounds')
  const most = option === -1 ? Number.POSITIVE_INFINITY : Number(process.argv[option + 1])
  for (const { key, rounds, warmUp, counted } of MEASURES) {
    if (counted) continue
    for (let round = -warmUp; round < Math.min(rounds, most); round++) {
      for (let turn = 0; turn < contenders.length; turn++) {
        const contender = contenders[(turn + round + warmUp) % contenders.length] as Contender
        const { figure, runs = 1, trips } = await contender.measure(key, round)
        if (round < 0 || figure === undefined) continue
        const cell = results[key]?.[contender.name]
        cell?.samples.push(figure)
        if (cell !== undefined) cell.runs = Math.max(cell.runs, runs)
        if (trips !== undefined) results[`${key} trips`]?.[contender.name]?.samples.push(trips)
      }
    }
    process.stderr.write(`${key} · `)
  }
  process.stderr.write('\n')
  return results
}

const resultsOf = (contenders: readonly Contender[]): Results =>
  Object.fromEntries(
    MEASURES.map(({ key }) => [
      key,
      Object.fromEntries(contenders.map(({ name }) => [name, { samples: [], runs: 1 }])),
    ]),
  )

function versionOf(name: string): string {
  if (name === 'by-hand') return ''
  return JSON.parse(readFileSync(join(modules, name, 'package.json'), 'utf8')).version
}

function writePage(block: string): void {
  const page = `${root}docs/performance.md`
  const text = readFileSync(page, 'utf8')
  const [start, end] = ['<!-- bench:peers -->', '<!-- /bench:peers -->']
  const from = text.indexOf(start) + start.length
  writeFileSync(page, `${text.slice(0, from)}\n${block}\n${text.slice(text.indexOf(end))}`)
}

install()
if (locate('redis') === undefined) fetchBinaries(['redis'])
await installCorral()
const began = performance.now()
const contenders: Contender[] = []
try {
  for (const name of SUBJECTS) contenders.push(await openContender(name, folder))
  const results = await measure(contenders)
  const rows = tableOf(results, SUBJECTS)
  const versions = SUBJECTS.filter((name) => name !== 'by-hand').map((name) => `${name} ${versionOf(name)}`)
  const seen = `${machine()}, load average ${loadavg()[2]?.toFixed(1)}; Redis ${locate('redis')?.version ?? 'unknown'}; ${versions.join(', ')}`
  const seconds = ((performance.now() - began) / 1_000).toFixed(0)
  console.log(
    `${seen}\nProcessor time. Medians, ± half of the range of the middle half of the rounds. ${seconds} s.\n`,
  )
  console.log(table(rows))
  console.log(
    `\nCorral's figure divided by the figure of a library that is cheaper:\n${slower(results, SUBJECTS)}`,
  )
  saveJson({ machine: machine(), versions, results })
  if (process.argv.includes('--page')) writePage(markdown(seen, rows, slower(results, SUBJECTS)))
} finally {
  await Promise.all(contenders.map(({ stop }) => stop()))
}

function markdown(seen: string, rows: readonly Record<string, string>[], list: string): string {
  const columns = Object.keys(rows[0] ?? {})
  const line = (cells: readonly string[]) => `| ${cells.join(' | ')} |`
  const lines = [
    line(columns),
    `|---|${columns
      .slice(1)
      .map(() => '--:|')
      .join('')}`,
    ...rows.map((row) => line(columns.map((column) => row[column] ?? ''))),
  ]
  return `\nSeen on ${seen}.\n\n${lines.join('\n')}\n\nCorral's figure divided by the figure of a library that is cheaper:\n\n${list}\n`
}

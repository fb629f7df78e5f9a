import { bars, type Legend, mark, quoted, scatter } from './chart.js'
import type { Measured, Timing } from './measure.js'
import { style } from './style.js'
import type { Candidates } from './subjects.js'
import { kept, number, priceOf, spread } from './table.js'
import type { Prices } from './usage.js'
import { formula, money, percent, type Rated, type Verdict } from './verdict.js'

/** The content of a report. Its JSON form is embedded in the HTML, and `--json` prints it. */
export interface Report {
  readonly label: string
  readonly values: number
  readonly found: number
  readonly rounds: number
  readonly prices: Prices
  readonly machine: string
  readonly date: string
  readonly noise: Measured['noise']
  readonly absent: Candidates['absent']
  readonly verdict: Verdict
}

const WIDE = 1014
const NARROW = 332

/** One HTML file that needs nothing else: no script, font, style or picture from anywhere. */
export function html(report: Report): string {
  const { verdict, prices } = report
  const { rated, recommended } = verdict
  const legend: Legend = {
    encodings: distinct(rated, verdict, 'encoding'),
    compressions: distinct(rated, verdict, 'compression'),
  }
  const both = (draw: (width: number) => string) =>
    `<div class="wide">${draw(WIDE)}</div><div class="narrow">${draw(NARROW)}</div>`
  const chart = (time: 'decode' | 'encode') =>
    both((width) => scatter(rated, time, legend, recommended, { width, height: width === WIDE ? 430 : 330 }))
  const priced = rated.filter(
    (one) =>
      one.faithful &&
      (one.frontDecode || one.frontEncode || one.compression === 'none' || one === recommended),
  )
  return `<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Encodings for ${quoted(report.label)}</title>
<style>${style}</style>
<main>
<h1>Encodings measured on ${quoted(report.label)}</h1>
<p class="facts">${[
    `${report.values.toLocaleString('en')} ${report.values === 1 ? 'value' : 'values'}${report.found > report.values ? ` of ${report.found.toLocaleString('en')}` : ''}`,
    `${report.rounds} interleaved rounds`,
    quoted(report.machine),
    report.date,
  ].join(' · ')}</p>
${verdictCard(report)}
<h2>Size against the time to decode</h2>
<p class="soft">Every read decodes. The dashed line joins the combinations that no other beats in both size and time; the ring is the recommendation.</p>
<div class="card">${legends(legend)}${chart('decode')}</div>
<h2>Size against the time to encode</h2>
<p class="soft">Every write encodes.</p>
<div class="card">${legends(legend)}${chart('encode')}</div>
<h2>Cost of a million entries a month</h2>
<p class="soft">${prices.reads.toLocaleString('en')} reads a second, ${prices.readsPerWrite} for every write. ${quoted(formula.waiting)}</p>
<div class="card"><ul class="legend">${['memory', 'processor']
    .map((name) => `<li><span class="swatch ${name}"></span>${name}</li>`)
    .join('')}</ul>${both((width) => bars(priced, recommended, { width }))}</div>
<h2>All figures</h2>
<p class="soft">Medians; ± is half the distance between the quartiles. The base line, measured twice, differs from itself by ${percent(report.noise.encode)} (encode) and ${percent(report.noise.decode)} (decode): smaller differences mean nothing.</p>
<div class="card scroll">${figures(verdict)}</div>
${losses(rated)}
<h2>How this was measured</h2>
<ul class="plain">
<li><code>${quoted(formula.read)}</code></li>
<li><code>${quoted(formula.memory)}</code></li>
<li><code>${quoted(formula.processor)}</code></li>
<li>${quoted(formula.rule)}</li>
<li>Round trip ${number(prices.rtt)} µs, ${rate(prices.bandwidth)}, ${money(prices.gbPrice)} for a GB and month, ${money(prices.corePrice)} for a core and month, ${prices.reads.toLocaleString('en')} reads a second, ${prices.readsPerWrite} reads for every write.</li>
<li>Every value is stored and read through the layers that an application would use, over a map in memory. In each round every combination takes its turn, beginning with another one each time. Times are processor time, so that what else runs on the machine does not count.</li>
${rated
  .filter(({ sharedBytes, compression }) => sharedBytes > 0 && compression === 'none')
  .map(
    ({ name, sharedBytes }) =>
      `<li>${quoted(name)} also stores ${number(sharedBytes)} bytes once for all values, which the sizes leave out.</li>`,
  )
  .join('\n')}
${report.absent.map(({ name, needs }) => `<li>Not measured: ${quoted(name)}, which needs ${quoted(needs)}.</li>`).join('\n')}
</ul>
<details><summary>Raw figures (JSON)</summary><pre id="raw"></pre></details>
</main>
<script type="application/json" id="figures">${JSON.stringify(report).replaceAll('<', '\\u003c')}</script>
<script>${script}</script>
</html>
`
}

function distinct(
  rated: readonly Rated[],
  { base }: Verdict,
  part: 'encoding' | 'compression',
): readonly string[] {
  return [...new Set([base[part], ...rated.map((one) => one[part]).toSorted()])]
}

function verdictCard({ verdict: { recommended, reasons, base } }: Report): string {
  const why = reasons.map((reason) => `<p>${quoted(reason)}</p>`).join('')
  if (recommended === undefined)
    return `<section class="verdict"><h2>Nothing to recommend</h2>${why}</section>`
  const facts = [
    [
      'Size of a value',
      `${number(recommended.bytes)} <small>bytes, ${percent(recommended.bytes / base.bytes)} of ${quoted(base.name)}</small>`,
    ],
    ['Decode', `${number(recommended.decode.median)} <small>µs</small>`],
    ['Encode', `${number(recommended.encode.median)} <small>µs</small>`],
    ['Read', `${number(recommended.read)} <small>µs, waiting included</small>`],
    ['A million entries', `${money(recommended.cost)} <small>a month</small>`],
  ]
  return `<section class="verdict"><h2>${quoted(recommended.name)}</h2><dl class="key">${facts
    .map(([name, value]) => `<div><dt>${name}</dt><dd>${value}</dd></div>`)
    .join('')}</dl>${why}</section>`
}

function legends({ encodings, compressions }: Legend): string {
  const item = (name: string, encoding: number, compression: number) =>
    `<li><svg viewBox="-8 -8 16 16" aria-hidden="true">${mark(encoding, compression)}</svg>${quoted(name)}</li>`
  return `<ul class="legend">${encodings.map((name, i) => item(name, i, 0)).join('')}</ul><ul class="legend forms">${compressions
    .map((name, i) => item(name === 'none' ? 'not compressed' : name, 6, i))
    .join('')}</ul>`
}

function figures({ rated, recommended, base }: Verdict): string {
  const heads = [
    'combination',
    'bytes',
    `× ${quoted(base.name)}`,
    '95 % below',
    'encode µs',
    'decode µs',
    'read µs',
    'memory / month',
    'processor / month',
    'cost / month',
    'keeps',
  ]
  const rows = rated.map((one) => {
    const classes = one === recommended ? 'best' : one.faithful ? '' : 'lossy'
    const tag = one === recommended ? 'recommended' : one.frontDecode ? 'front' : ''
    const cells: readonly (readonly [number | string, string])[] = [
      [one.bytes, number(one.bytes)],
      [one.ratio, one.ratio.toFixed(2)],
      [one.bytes95, number(one.bytes95)],
      [one.encode.median, `${number(one.encode.median)}${plusMinus(one.encode)}`],
      [one.decode.median, `${number(one.decode.median)}${plusMinus(one.decode)}`],
      [one.read, one.decode.median === 0 ? '–' : number(one.read)],
      [one.memory, money(one.memory)],
      [one.processor, priceOf('processor')(one)],
      [one.cost, priceOf('cost')(one)],
      [one.fidelity.kept, kept(one)],
    ]
    return `<tr class="${classes}"><td data-v="${quoted(one.name)}">${quoted(one.name)}${tag === '' ? '' : `<span class="tag">${tag}</span>`}</td>${cells
      .map(([value, text]) => `<td data-v="${value}">${text}</td>`)
      .join('')}</tr>`
  })
  return `<table><thead><tr>${heads.map((head) => `<th scope="col"><button>${head}</button></th>`).join('')}</tr></thead><tbody>${rows.join('\n')}</tbody></table>`
}

function plusMinus(timing: Timing): string {
  return timing.median === 0 ? '' : `<i>±${spread(timing)}</i>`
}

function losses(rated: readonly Rated[]): string {
  const told = new Map<string, string>()
  for (const { encoding, fidelity } of rated)
    if (fidelity.example !== undefined && !told.has(encoding)) told.set(encoding, fidelity.example)
  if (told.size === 0) return ''
  return `<h2>Values that are not kept</h2><ul class="plain">${[...told]
    .map(([encoding, example]) => `<li><b>${quoted(encoding)}</b>: ${quoted(example)}</li>`)
    .join('')}</ul>`
}

export function rate(bitsPerSecond: number): string {
  return bitsPerSecond >= 1e9 ? `${bitsPerSecond / 1e9} Gbit/s` : `${bitsPerSecond / 1e6} Mbit/s`
}

const script = `
const raw = document.getElementById('raw')
raw.parentElement.addEventListener('toggle', () => { raw.textContent ||= JSON.stringify(JSON.parse(document.getElementById('figures').textContent), null, 2) })
for (const button of document.querySelectorAll('thead button')) button.addEventListener('click', () => {
  const head = button.closest('th'), at = head.cellIndex, up = head.getAttribute('aria-sort') !== 'ascending'
  for (const other of head.parentElement.children) other.removeAttribute('aria-sort')
  head.setAttribute('aria-sort', up ? 'ascending' : 'descending')
  const body = head.closest('table').tBodies[0], of = (row) => row.cells[at].dataset.v
  body.append(...[...body.rows].sort((a, b) => (up ? 1 : -1) * (of(a) - of(b) || of(a).localeCompare(of(b)))))
})
`

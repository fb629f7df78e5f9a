import { number } from './table.js'
import { money, type Rated } from './verdict.js'

export interface Size {
  readonly width: number
  readonly height: number
}

interface Point {
  readonly one: Rated
  readonly x: number
  readonly y: number
}

interface Box {
  readonly left: number
  readonly right: number
  readonly top: number
  readonly bottom: number
}

/** Colours stand for encodings, forms for compressions; both in the order in which they were measured. */
export interface Legend {
  readonly encodings: readonly string[]
  readonly compressions: readonly string[]
}

export function quoted(text: string): string {
  return text.replace(
    /[&<>"]/g,
    (char) => ({ '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;' })[char] ?? char,
  )
}

const FORMS: readonly string[] = [
  '<circle r="5.5"/>',
  '<path d="M0-6.5 6.2 5H-6.2Z"/>',
  '<path d="M0 6.5 6.2-5H-6.2Z"/>',
  '<rect x="-5" y="-5" width="10" height="10" rx="1"/>',
  '<path d="M0-7 7 0 0 7-7 0Z"/>',
  '<path d="M-2-6h4v4h4v4h-4v4h-4v-4h-4v-4h4Z"/>',
  '<path d="M0-7 2 -2 7 0 2 2 0 7-2 2-7 0-2-2Z"/>',
]

export function mark(encoding: number, compression: number): string {
  return `<g class="mark c${encoding % 8}">${FORMS[compression % FORMS.length]}</g>`
}

/** Size against time, both logarithmic: further down and to the left is better. */
export function scatter(
  rated: readonly Rated[],
  time: 'decode' | 'encode',
  legend: Legend,
  recommended: Rated | undefined,
  size: Size,
): string {
  const narrow = size.width < 500
  const area: Box = { left: narrow ? 42 : 52, right: size.width - 14, top: 30, bottom: size.height - 44 }
  const shown = rated.filter((one) => one.bytes > 0 && one[time].median > 0)
  const xs = scale(
    shown.map((one) => one[time].median),
    area.left + 12,
    area.right - 12,
    narrow ? 5 : 9,
  )
  const ys = scale(
    shown.map((one) => one.bytes),
    area.bottom - 12,
    area.top + 12,
    8,
  )
  const points = shown.map((one): Point => ({ one, x: xs.at(one[time].median), y: ys.at(one.bytes) }))
  const front = points
    .filter(({ one }) => (time === 'decode' ? one.frontDecode : one.frontEncode))
    .toSorted((a, b) => a.x - b.x)

  const grid = [
    ...xs.ticks.map(
      ({ at, text }) =>
        `<path class="grid" d="M${r(at)} ${area.top}V${area.bottom}"/><text class="tick" x="${r(at)}" y="${area.bottom + 17}" text-anchor="middle">${text}</text>`,
    ),
    ...ys.ticks.map(
      ({ at, text }) =>
        `<path class="grid" d="M${area.left} ${r(at)}H${area.right}"/><text class="tick" x="${area.left - 8}" y="${r(at + 4)}" text-anchor="end">${text}</text>`,
    ),
  ]
  const rest = points.filter((point) => !front.includes(point))
  const steps = front.map(({ x, y }, i) => (i === 0 ? `M${r(x)} ${r(y)}` : `H${r(x)}V${r(y)}`)).join('')
  const labels = place(
    front.toSorted((a, b) => Number(b.one === recommended) - Number(a.one === recommended)),
    points,
    area,
    recommended,
  )
  const title = time === 'decode' ? 'decode' : 'encode'
  return `<svg viewBox="0 0 ${size.width} ${size.height}" width="${size.width}" height="${size.height}" role="img" aria-label="Size against the time to ${title}">
${grid.join('\n')}
<path class="axis" d="M${area.left} ${area.top}V${area.bottom}H${area.right}"/>
<text class="name" x="${area.right}" y="${size.height - 8}" text-anchor="end">time to ${title} a value, µs</text>
<text class="name" x="0" y="12">bytes a value</text>
<path class="front" d="${steps}"/>
${rest.map((point) => dot(point, time, legend, 'rest')).join('\n')}
${front.map((point) => dot(point, time, legend, point.one === recommended ? 'best' : 'first')).join('\n')}
${labels}
</svg>`
}

function dot(
  { one, x, y }: Point,
  time: 'decode' | 'encode',
  legend: Legend,
  rank: 'best' | 'first' | 'rest',
): string {
  const form = mark(legend.encodings.indexOf(one.encoding), legend.compressions.indexOf(one.compression))
  const ring = rank === 'best' ? '<circle class="ring" r="11"/>' : ''
  const told = `${one.name}: ${number(one.bytes)} bytes, ${number(one[time].median)} µs to ${time}${one.faithful ? '' : ', does not keep every value'}`
  return `<g transform="translate(${r(x)} ${r(y)})" class="point ${rank}${one.faithful ? '' : ' lossy'}">${ring}${form}<title>${quoted(told)}</title></g>`
}

/** Writes the names of points where they cover neither a point nor another name; a point without room goes unnamed. */
function place(
  front: readonly Point[],
  points: readonly Point[],
  area: Box,
  recommended: Rated | undefined,
): string {
  const taken: Box[] = points.map(({ x, y }) => ({ left: x - 7, right: x + 7, top: y - 7, bottom: y + 7 }))
  const texts: string[] = []
  for (const { one, x, y } of front) {
    const width = one.name.length * (one === recommended ? 7.4 : 6.6) + 4
    // The line of the front leaves to the right and arrives from above.
    const spots = [
      { x: x + 9, y: y - 14, anchor: 'start', left: x + 8 },
      { x: x - 13, y: y + 4, anchor: 'end', left: x - 12 - width },
      { x: x - 8, y: y + 21, anchor: 'end', left: x - 7 - width },
      { x: x + 9, y: y + 21, anchor: 'start', left: x + 8 },
      { x: x + 9, y: y - 32, anchor: 'start', left: x + 8 },
      { x: x + 15, y: y + 4, anchor: 'start', left: x + 14 },
      { x: x - 9, y: y - 14, anchor: 'end', left: x - 8 - width },
    ]
    for (const spot of spots) {
      const box = { left: spot.left, right: spot.left + width, top: spot.y - 11, bottom: spot.y + 3 }
      const inside =
        box.left > area.left &&
        box.right < area.right + 12 &&
        box.top > area.top - 4 &&
        box.bottom < area.bottom
      if (!inside || taken.some((other) => overlap(box, other))) continue
      taken.push(box)
      texts.push(
        `<text class="label${one === recommended ? ' best' : ''}" x="${r(spot.x)}" y="${r(spot.y)}" text-anchor="${spot.anchor}">${quoted(one.name)}</text>`,
      )
      break
    }
  }
  return texts.join('\n')
}

function overlap(a: Box, b: Box): boolean {
  return a.left < b.right && b.left < a.right && a.top < b.bottom && b.top < a.bottom
}

interface Scale {
  at(value: number): number
  readonly ticks: readonly { readonly at: number; readonly text: string }[]
}

/** Logarithmic, over the range of the values and a little more. */
function scale(values: readonly number[], from: number, to: number, most: number): Scale {
  const least = Math.min(...values) / 1.04
  const greatest = Math.max(...values) * 1.04
  const span = Math.log(greatest / least)
  const at = (value: number) => from + (Math.log(value / least) / span) * (to - from)
  const round = (mantissas: readonly number[]) => {
    const ticks: number[] = []
    for (let power = Math.floor(Math.log10(least)); power <= Math.log10(greatest); power++)
      for (const mantissa of mantissas) ticks.push(mantissa * 10 ** power)
    return ticks.filter((tick) => tick >= least && tick <= greatest)
  }
  const choices = [
    [1, 1.2, 1.4, 1.6, 1.8, 2, 2.5, 3, 3.5, 4, 5, 6, 7, 8, 9],
    [1, 1.2, 1.5, 2, 2.5, 3, 4, 5, 6, 8],
    [1, 1.5, 2, 3, 4, 5, 7],
    [1, 2, 5],
    [1, 3],
    [1],
  ].map(round)
  const ticks = choices.find((choice) => choice.length <= most) ?? []
  return { at, ticks: ticks.map((tick) => ({ at: at(tick), text: short(tick) })) }
}

function short(value: number): string {
  if (value >= 1e6) return `${Number((value / 1e6).toPrecision(3))}M`
  return value >= 1e4
    ? `${Number((value / 1e3).toPrecision(3))}k`
    : Number(value.toPrecision(3)).toLocaleString('en')
}

/** The cost of a million entries a month: their memory, and the processor time of their reads and writes. */
export function bars(
  rated: readonly Rated[],
  recommended: Rated | undefined,
  size: { readonly width: number },
): string {
  const narrow = size.width < 500
  const [row, bar] = narrow ? [36, 12] : [26, 14]
  const left = narrow ? 0 : 190
  const room = size.width - left - 62
  // With prices of zero nothing costs anything.
  const longest = Math.max(...rated.map(({ cost }) => cost)) || 1
  const rows = rated.map((one, i) => {
    const top = i * row
    const parts = [
      ['memory', one.memory],
      ['processor', one.processor],
    ] as const
    let x = left
    const shapes = parts.map(([name, value]) => {
      const width = (value / longest) * room
      const shape = `<rect class="${name}" x="${r(x)}" y="${top + (narrow ? 18 : 5)}" width="${r(Math.max(0, width - 1))}" height="${bar}"><title>${quoted(`${one.name}: ${name} ${money(value)} a month`)}</title></rect>`
      x += width
      return shape
    })
    const name = narrow
      ? `<text class="label" x="0" y="${top + 13}">${quoted(one.name)}</text>`
      : `<text class="label" x="${left - 10}" y="${top + 16}" text-anchor="end">${quoted(one.name)}</text>`
    return `<g${one === recommended ? ' class="chosen"' : ''}>${name}${shapes.join('')}<text class="tick" x="${r(x + 6)}" y="${top + (narrow ? 28 : 16)}">${money(one.cost)}</text></g>`
  })
  const height = rated.length * row + 4
  return `<svg viewBox="0 0 ${size.width} ${height}" width="${size.width}" height="${height}" role="img" aria-label="Cost of a million entries a month">${rows.join('\n')}</svg>`
}

function r(value: number): string {
  return value.toFixed(1).replace(/\.0$/, '')
}

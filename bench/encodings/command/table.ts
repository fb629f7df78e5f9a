import type { Timing } from './measure.js'
import { hasColors } from './terminal.js'
import { money, percent, type Rated, type Verdict } from './verdict.js'

interface Column {
  readonly title: string
  readonly unit: string
  readonly left?: boolean
  readonly cell: (one: Rated) => string
}

export function number(value: number): string {
  if (value === 0) return '–'
  if (value >= 100) return Math.round(value).toLocaleString('en')
  return value >= 10 ? value.toFixed(1) : value.toFixed(2)
}

export function kept({ fidelity }: Rated): string {
  const { kept: whole, changed, refused, missed } = fidelity
  if (changed + refused + missed === 0) return 'all'
  const parts = [
    changed > 0 && `${changed} changed`,
    refused > 0 && `${refused} refused`,
    missed > 0 && `${missed} unread`,
  ]
  return `${whole > 0 ? '' : 'none: '}${parts.filter(Boolean).join(', ')}`
}

export function spread({ median, spread: part }: Timing): string {
  return median === 0 ? '' : percent(part)
}

/** A combination that decodes nothing has no time, and so no price. */
export function priceOf(part: 'processor' | 'cost'): (one: Rated) => string {
  return (one) => (one.decode.median === 0 ? '–' : money(one[part]))
}

const columns: readonly Column[] = [
  { title: 'encoding', unit: '', left: true, cell: ({ encoding }) => encoding },
  {
    title: 'compression',
    unit: '',
    left: true,
    cell: ({ compression }) => (compression === 'none' ? '' : compression),
  },
  { title: 'size', unit: 'bytes', cell: ({ bytes }) => number(bytes) },
  { title: '', unit: '×', cell: ({ ratio }) => ratio.toFixed(2) },
  { title: 'encode', unit: 'µs', cell: ({ encode }) => number(encode.median) },
  { title: '', unit: '±', cell: ({ encode }) => spread(encode) },
  { title: 'decode', unit: 'µs', cell: ({ decode }) => number(decode.median) },
  { title: '', unit: '±', cell: ({ decode }) => spread(decode) },
  { title: 'read', unit: 'µs', cell: ({ read, decode }) => (decode.median === 0 ? '–' : number(read)) },
  { title: 'memory', unit: 'a month', cell: ({ memory }) => money(memory) },
  { title: 'processor', unit: 'a month', cell: priceOf('processor') },
  { title: 'cost', unit: 'a month', cell: priceOf('cost') },
  { title: 'keeps', unit: '', left: true, cell: kept },
]

/** The table for a terminal. Rows are marked: → recommended, ∘ nothing is both smaller and faster to decode. */
export function table({ rated, recommended }: Verdict, color = hasColors): string {
  const head = [columns.map(({ title }) => title), columns.map(({ unit }) => unit)]
  const body = rated.map((one) => columns.map(({ cell }) => cell(one)))
  const widths = columns.map((_, i) => Math.max(...[...head, ...body].map((row) => row[i]?.length ?? 0)))
  const line = (cells: readonly string[]) =>
    cells
      .map((cell, i) => (columns[i]?.left ? cell.padEnd(widths[i] ?? 0) : cell.padStart(widths[i] ?? 0)))
      .join('  ')
      .trimEnd()
  const paint = (code: number, text: string) => (color ? `\u001b[${code}m${text}\u001b[0m` : text)
  return [
    ...head.map((cells) => paint(2, `  ${line(cells)}`)),
    ...rated.map((one, i) => {
      const text = `${one === recommended ? '→' : one.frontDecode ? '∘' : ' '} ${line(body[i] ?? [])}`
      return one === recommended ? paint(1, text) : one.faithful ? text : paint(2, text)
    }),
  ].join('\n')
}

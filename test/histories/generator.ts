/**
 * The generator of histories: one process's reads and changes at random, over any store. Rows are cached by functions of
 * three kinds, lists by a function that calls these, pairs of lists by one that calls that. A change advances the truth of a
 * row first, and then invalidates or replaces the values that were made from it.
 */
import { dependencies } from '../../proxies/dependencies.js'
import { dep, dependsOn, type LedgerTime, makeRegion, NO_VALUE, type Region, wrap } from '../../src/index.js'
import { sharedNow, sleep, turn } from '../support/waiting.js'
import type { Event } from './events.js'
import { openPlace, type Place } from './places.js'
import { openTruth } from './truth.js'

/** The ways to change a row, and their shares. */
export const SHARES = {
  delete: 28,
  deleteMulti: 7,
  set: 10,
  expire: 7,
  names: 32,
  softNames: 8,
  /** Only the name tells lists, and other processes, of the value that is set. */
  setThenNames: 5,
  invalidate: 2,
  softInvalidate: 1,
} as const

export type Way = keyof typeof SHARES
type Step = Exclude<Way, 'setThenNames'>

/** The ways that change no more than names, and those that need no names. */
export const BY_NAMES: readonly Way[] = ['names', 'softNames', 'setThenNames', 'invalidate']
export const BY_KEYS: readonly Way[] = [
  'delete',
  'deleteMulti',
  'set',
  'expire',
  'invalidate',
  'softInvalidate',
]

/** A part in a history, as plain data for a process. */
export interface Part {
  readonly place: Place
  /** The files of the truth and of the part's events. */
  readonly truth: string
  readonly log: string
  readonly index: number
  readonly processes: number
  readonly ways: readonly Way[]
  /** Whether the chain has `dependencies()`. Without it nothing but keys is read and changed. */
  readonly tracked: boolean
  /** Longest pause of a reader, in ms. */
  readonly pause: number
  /** How often a reader reads between two pauses. */
  readonly burst: number
}

interface Row {
  readonly row: number
  readonly version: number
  readonly padding: string
}

type Values = Region<Row | readonly Row[]>
type Log = (event: Event) => void

export const ROWS = 12
/** Rows that every process changes. Each of the others has one writer, because a value that is set may be an older one. */
const COMMON = [0, 4, 8]
const READERS = 6
const WRITERS = 2
/** Rows of a list. */
const LENGTH = 3
/** ms of a creation, of a lease, and of a creation that outlives its lease. */
const [CREATION, LEASE, LONG_CREATION] = [15, 500, 700]

const below = (limit: number): number => Math.floor(Math.random() * limit)
const oneOf = <T>(list: readonly T[]): T => list[below(list.length)] as T

/** Reads and changes until `over`. */
export async function takePart(part: Part, log: Log, over: () => boolean): Promise<void> {
  const { index, processes, tracked } = part
  const truth = openTruth(part.truth, index)
  const place = openPlace(part.place, log)
  const region: Values = makeRegion({
    name: 'history',
    expirationTime: '1h',
    lease: { ms: LEASE, wait: '10s' },
    backend: tracked ? wrap(place.backend, dependencies()) : place.backend,
  })
  const cached = cachedFunctions(region, tracked, async (row) => {
    const begin = sharedNow()
    if (Math.random() < 0.3) await turn()
    const version = truth.version(row)
    if (Math.random() < 0.01) await sleep(LONG_CREATION)
    else if (Math.random() < 0.7) await sleep(below(CREATION))
    log({ kind: 'creation', row, begin, end: sharedNow() })
    return { row, version, padding: 'x'.repeat(below(3_000)) }
  })
  const read = async () => {
    for (let i = 0; i < part.burst; i++) await readOnce(region, cached, tracked, log)
  }

  const change = async (own: readonly number[]) => {
    const way = drawn(part.ways)
    const row = way.startsWith('set') || Math.random() < 0.7 ? oneOf(own) : oneOf(COMMON)
    const asOf = tracked ? await region.asOf() : undefined
    const value = { row, version: truth.advance(row), padding: 'set' }
    for (const step of way === 'setThenNames' ? (['set', 'names'] as const) : [way]) {
      const of = subjectsOf(step, row).map(([subject, at]) => [subject, truth.version(at)] as const)
      const collected = place.collect()
      const done = STEPS[step](region, cached.rows(row).key(row), value, asOf)
      const messages = collected()
      if ((await done) === 'lost') return
      const mode = step.startsWith('soft') || step === 'expire' ? 'soft' : 'hard'
      log({ kind: 'change', mode, of, end: sharedNow(), messages })
    }
  }
  const loop = async (work: () => Promise<void>, rest: () => Promise<void>) => {
    for (; !over(); await rest())
      try {
        await work()
      } catch (error) {
        const { code, message } = error as { readonly code?: string; readonly message?: string }
        if (code === undefined) log({ kind: 'wrong', text: `untyped: ${String(error)}` })
        else log({ kind: 'failure', code: code === 'ERR_BACKEND' ? String(message).slice(0, 120) : code })
        await sleep(below(30))
      }
  }
  const alone = Array.from({ length: ROWS }, (_, row) => row).filter((row) => !COMMON.includes(row))
  const writers = Array.from({ length: WRITERS }, (_, writer) => index * WRITERS + writer)
  await Promise.all([
    ...Array.from({ length: READERS }, () =>
      loop(read, () => (Math.random() < 0.4 ? turn() : sleep(below(part.pause)))),
    ),
    ...writers.map((writer) => {
      const own = alone.filter((_, i) => i % (processes * WRITERS) === writer)
      return loop(
        () => change(own),
        () => sleep(below(40)),
      )
    }),
  ])
  await region.close()
  await place.close()
  truth.close()
}

type Creator = (row: number) => Promise<Row>

/** Cached rows, lists of rows, and pairs of lists. Rows of one kind always declare their name in the same way. */
function cachedFunctions(region: Values, tracked: boolean, create: Creator) {
  const options = { namespace: 'row', sharesNamespace: true }
  const ahead = region.cacheOnArguments({ ...options, dependencies: (row: number) => dep.id('row', row) })(
    create,
  )
  const after = region.cacheOnArguments({
    ...options,
    resultDependencies: (found: Row) => dep.id('row', found.row),
  })(create)
  const within = region.cacheOnArguments(options)(async (row: number) => {
    const found = await create(row)
    if (tracked) dependsOn(dep.id('row', row))
    return found
  })
  const kinds = tracked ? ([ahead, after, within] as const) : [within]
  const rows = (row: number) => kinds[row % kinds.length] as typeof within
  const list = region.cacheOnArguments({ namespace: 'list', group: { list: ([first]: [number]) => first } })(
    (first: number) => Promise.all(rowsOfList(first).map((row) => rows(row)(row))),
  )
  const pair = region.cacheOnArguments({ namespace: 'pair' })(async (first: number) =>
    (await Promise.all([list(first), list((first + LENGTH) % ROWS)])).flat(),
  )
  /** Several rows at once, by one creator. */
  const several = (wanted: readonly number[]) => {
    const keys = new Map(wanted.map((row) => [rows(row).key(row), row]))
    return region.getOrCreateMulti([...keys.keys()], (missing) =>
      Promise.all(missing.map((key) => within.original(keys.get(key) as number))),
    )
  }
  return { rows, list, pair, several }
}

const rowsOfList = (first: number) => Array.from({ length: LENGTH }, (_, i) => (first + i) % ROWS)

async function readOnce(
  region: Values,
  { rows, list, pair, several }: ReturnType<typeof cachedFunctions>,
  tracked: boolean,
  log: Log,
): Promise<void> {
  const row = below(ROWS)
  const begin = sharedNow()
  const took = (found: unknown, expected: readonly number[], fresh = false) => {
    const values = [found].flat() as readonly Row[]
    if (String(values.map((value) => value.row)) !== String(expected))
      log({ kind: 'wrong', text: `read ${values.map((value) => value.row)} for ${expected}` })
    for (const { row, version } of values)
      log({ kind: 'read', row, direct: expected.length === 1, fresh, begin, version })
  }
  const pairOfLists = [...rowsOfList(row), ...rowsOfList((row + LENGTH) % ROWS)]
  const dice = below(10)
  if (dice < 2) {
    const wanted = [...new Set([row, below(ROWS), below(ROWS)])]
    const found = await several(wanted)
    found.forEach((value, i) => {
      took(value, [wanted[i] as number])
    })
  } else if (dice < 4) {
    const found = await region.get(rows(row).key(row))
    if (found !== NO_VALUE) took(found, [row], true)
  } else if (dice < 6 || !tracked) took(await rows(row)(row), [row])
  else if (dice < 7) took(await list(row), rowsOfList(row))
  else if (dice < 8) took(await pair(row), pairOfLists)
  else if (dice < 9) {
    const found = await list.get(row)
    if (found !== NO_VALUE) took(found, rowsOfList(row), true)
  } else {
    const found = await pair.get(row)
    if (found !== NO_VALUE) took(found, pairOfLists, true)
  }
}

const STEPS: Readonly<
  Record<Step, (region: Values, key: string, value: Row, asOf: LedgerTime | undefined) => Promise<unknown>>
> = {
  delete: (region, key) => region.delete(key),
  deleteMulti: (region, key) => region.deleteMulti([key, 'nothing']),
  set: (region, key, value, asOf) =>
    region.set(key, value, asOf && { dependencies: [dep.id('row', value.row)], asOf }),
  expire: (region, key) => region.expire(key),
  names: (region, _, { row }) => region.invalidateDependencies(dep.id('row', row)),
  softNames: (region, _, { row }) =>
    region.invalidateDependencies([dep.id('row', row), dep.group('list', row)], 'soft'),
  invalidate: (region) => region.invalidate(),
  softInvalidate: (region) => region.invalidate('soft'),
}

/** The subjects whose later reads find at least the version of the change, with their rows. */
function subjectsOf(way: Step, row: number): readonly (readonly [subject: string, row: number])[] {
  if (way === 'invalidate' || way === 'softInvalidate')
    return Array.from({ length: ROWS }, (_, one) => one).flatMap((one) => [
      [`k${one}`, one],
      [`d${one}`, one],
    ])
  return [[BY_NAMES.includes(way) ? `d${row}` : `k${row}`, row]]
}

/** One of the ways, by their shares. */
function drawn(ways: readonly Way[]): Way {
  return oneOf(ways.flatMap((way) => Array.from({ length: SHARES[way] }, () => way)))
}

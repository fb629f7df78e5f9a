/** A hit over memory by the number of proxies, against a Map with the same keys and the same expiry check. */
import { spawnSync } from 'node:child_process'
import { memory } from '../../backends/memory/index.js'
import { dependencies } from '../../proxies/dependencies.js'
import { prefix } from '../../proxies/prefix.js'
import { delegate, makeRegion, type Region, type TransparentProxy, wrap } from '../../src/index.js'
import {
  budget,
  fastest,
  machine,
  ratio,
  rounds,
  type Samples,
  saveJson,
  shown,
  spread,
  table,
} from '../support.js'

const KEYS = Array.from({ length: 1_000 }, (_, i) => `key:${i}`)
const LIFETIME = 300_000
const PER_ROUND = 20_000
const ROUNDS = 101

let counted = 0
const counting: TransparentProxy = (next) =>
  delegate(next, {
    get: (key) => {
      counted++
      return next.get(key)
    },
  })

const chains = [
  { name: 'memory', backend: () => memory(), prefixed: false, counts: false },
  { name: 'memory, prefix', backend: () => wrap(memory(), prefix('p:')), prefixed: true, counts: false },
  {
    name: 'memory, dependencies, prefix',
    backend: () => wrap(memory(), dependencies(), prefix('p:')),
    prefixed: true,
    counts: false,
  },
  {
    name: 'memory, dependencies, prefix, counting',
    backend: () => wrap(memory(), dependencies(), prefix('p:'), counting),
    prefixed: true,
    counts: true,
  },
]

interface Figures {
  readonly ticks: number
  readonly samples: Readonly<
    Record<'floor' | 'again' | 'get' | 'getOrCreate' | 'ofFunction' | 'function' | 'mapGet' | 'peek', Samples>
  >
}

/** How many turns of the microtask queue it takes until a promise has settled. */
async function ticksOf(promise: Promise<unknown>): Promise<number> {
  let settled = false
  void promise.then(() => {
    settled = true
  })
  let ticks = 0
  for (; !settled; ticks++) await undefined
  return ticks
}

async function measure(index: number): Promise<Figures> {
  const chain = chains[index] as (typeof chains)[number]
  const region = makeRegion<object>({ name: 'bench', backend: chain.backend(), expirationTime: LIFETIME })
  const text = chain.prefixed ? 'p:bench:' : 'bench:'
  const map = new Map<string, { readonly value: object; readonly createdAt: number }>()
  for (const key of KEYS) {
    const value = { key }
    map.set(text + key, { value, createdAt: Date.now() })
    await region.set(key, value)
  }
  const look = chain.counts
    ? (key: string) => {
        // The layer in between gets a key of its own, and does its work by hand, too.
        const named = `bench:${key}`
        counted++
        const entry = map.get(`p:${named}`)
        return entry !== undefined && Date.now() - entry.createdAt <= LIFETIME ? entry.value : undefined
      }
    : chain.prefixed
      ? (key: string) => {
          const entry = map.get(`p:bench:${key}`)
          return entry !== undefined && Date.now() - entry.createdAt <= LIFETIME ? entry.value : undefined
        }
      : (key: string) => {
          const entry = map.get(`bench:${key}`)
          return entry !== undefined && Date.now() - entry.createdAt <= LIFETIME ? entry.value : undefined
        }
  const floor = async (key: string) => look(key)
  const loaded = await functionOver(region, map, text)
  const create = () => ({})
  const awaited = (get: (key: string) => Promise<unknown>) => async (times: number) => {
    for (let i = 0; i < times; i++) await get(KEYS[i % KEYS.length] as string)
  }
  let last: unknown
  const direct = (get: (key: string) => unknown) => (times: number) => {
    for (let i = 0; i < times; i++) last = get(KEYS[i % KEYS.length] as string)
  }
  const samples = await rounds(
    {
      floor: awaited(floor),
      get: awaited((key) => region.get(key)),
      getOrCreate: awaited((key) => region.getOrCreate(key, create)),
      ofFunction: byId(loaded.floor),
      function: byId(loaded.cached),
      again: awaited(floor),
      mapGet: direct(look),
      peek: direct((key) => region.peek(key)),
    },
    { rounds: ROUNDS, perRound: PER_ROUND },
  )
  if (last === undefined || (index === 3 && counted === 0)) throw new Error('A layer was not gone through.')
  return { ticks: await ticksOf(region.get(KEYS[0] as string)), samples }
}

/** A cached function with values for all of its ids, and its base line: the same key, made by hand. */
async function functionOver(
  region: Region<object>,
  map: Map<string, { readonly value: object; readonly createdAt: number }>,
  text: string,
) {
  const cached = region.cacheOnArguments((id: number): object => ({ id }), { namespace: 'load' })
  for (let id = 0; id < KEYS.length; id++) {
    map.set(`${text}load|${id}`, { value: await cached(id), createdAt: Date.now() })
  }
  const before = `${text}load|`
  const floor = async (id: number) => {
    const entry = map.get(before + id)
    return entry !== undefined && Date.now() - entry.createdAt <= LIFETIME ? entry.value : undefined
  }
  return { cached, floor }
}

const byId = (call: (id: number) => Promise<unknown>) => async (times: number) => {
  for (let i = 0; i < times; i++) await call(i % KEYS.length)
}

const [, script, option, which] = process.argv
if (option === '--chain') console.log(JSON.stringify(await measure(Number(which))))
else {
  console.log(
    `${machine()}\n${ROUNDS} interleaved rounds of ${PER_ROUND}; each chain in a process of its own; medians and quartiles\n`,
  )
  const all = chains.map((_, index) => {
    // A process for each: engines compile one chain better than four, and no chain should pay for another's presence.
    const { stdout, status } = spawnSync(
      process.execPath,
      ['--expose-gc', script as string, '--chain', String(index)],
      {
        encoding: 'utf8',
        stdio: ['ignore', 'pipe', 'inherit'],
      },
    )
    if (status !== 0) throw new Error(`The chain ${index} failed.`)
    return JSON.parse(stdout) as Figures
  })
  console.log(
    table(
      all.map(({ ticks, samples }, i) => ({
        chain: chains[i]?.name ?? '',
        ticks,
        'floor ns': spread(samples.floor).median.toFixed(0),
        'floor ÷ itself': shown(ratio(samples.again, samples.floor)),
        'get ÷ floor': shown(ratio(samples.get, samples.floor)),
        fastest: fastest(samples.get, samples.floor).toFixed(2),
        'getOrCreate ÷ floor': shown(ratio(samples.getOrCreate, samples.floor)),
        'fastest ': fastest(samples.getOrCreate, samples.floor).toFixed(2),
        'function ÷ its floor': shown(ratio(samples.function, samples.ofFunction)),
        'fastest  ': fastest(samples.function, samples.ofFunction).toFixed(2),
        'map.get ns': spread(samples.mapGet).median.toFixed(0),
        'peek ÷ map.get': shown(ratio(samples.peek, samples.mapGet)),
        'fastest   ': fastest(samples.peek, samples.mapGet).toFixed(2),
      })),
    ),
  )
  console.log(
    '\nThe floor is `async () => map.get(key)` with an expiry check by Date.now(), and the same concatenation: the name of the region, and a prefix where there is one. Where a layer of the application stands between the two, the floor counts and concatenates there, too.',
  )
  console.log(
    'Corral reads the time once per turn of the event loop; a loop of awaited hits is one such turn.\n',
  )
  const worst = (pick: (figures: Figures) => number) => Math.max(...all.map(pick))
  const hit = worst(({ samples }) => fastest(samples.get, samples.floor))
  const create = worst(({ samples }) => fastest(samples.getOrCreate, samples.floor))
  const called = worst(({ samples }) => fastest(samples.function, samples.ofFunction))
  const peek = worst(({ samples }) => fastest(samples.peek, samples.mapGet))
  console.log(
    budget(
      'ticks of a hit at any depth',
      String(worst(({ ticks }) => ticks)),
      '1',
      all.every(({ ticks }) => ticks === 1),
    ),
  )
  console.log(budget('awaited hit, 0–3 proxies', `${hit.toFixed(2)}×`, '1.30× (moonshot 1.10×)', hit <= 1.3))
  console.log(budget('getOrCreate that hits', `${create.toFixed(2)}×`, '1.30×', create <= 1.3))
  console.log(budget('a cached function that hits', `${called.toFixed(2)}×`, '1.30×', called <= 1.3))
  console.log(budget('peek', `${peek.toFixed(2)}×`, '2.00×', peek <= 2))
  saveJson(all)
}

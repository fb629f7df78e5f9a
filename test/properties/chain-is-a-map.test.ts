import fc from 'fast-check'
import { describe, it } from 'vitest'
import { memory } from '../../backends/memory/index.js'
import { dependencies } from '../../proxies/dependencies.js'
import { json } from '../../proxies/json.js'
import { msgpack } from '../../proxies/msgpack.js'
import { prefix } from '../../proxies/prefix.js'
import {
  type Backend,
  type CachedValue,
  defineBackend,
  makeRegion,
  mapKeys,
  NO_VALUE,
  sha256,
  wrap,
} from '../../src/index.js'

/** Three methods that answer later, as a remote store does. */
function remote(): Backend<CachedValue> {
  const values = new Map<string, CachedValue>()
  return defineBackend<CachedValue>({
    name: 'remote',
    get: async (key) => values.get(key),
    set: async (key, value) => void values.set(key, value),
    delete: async (key) => void values.delete(key),
  })
}

const chains: Record<string, () => Backend<CachedValue>> = {
  memory: () => memory(),
  'memory by copy': () => memory({ copy: 'clone' }),
  'memory, json, prefix': () => wrap(memory({ stores: 'bytes' }), json(), prefix('p:')),
  'memory, msgpack, dependencies, mapKeys, prefix': () =>
    wrap(memory({ stores: 'bytes' }), msgpack(), dependencies(), mapKeys(sha256), prefix('p:')),
  'a remote store of three methods': remote,
}

const key = fc.oneof(
  fc.constantFrom('a', 'b', 'c', '', '__proto__', 'constructor', 'toString'),
  fc.string({ maxLength: 3 }),
)
const value = fc.oneof(
  fc.integer(),
  fc.string(),
  fc.boolean(),
  fc.constant(null),
  fc.array(fc.integer(), { maxLength: 3 }),
)
const operation = fc.oneof(
  fc.record({ do: fc.constant('set' as const), key, value }),
  fc.record({
    do: fc.constant('setMulti' as const),
    pairs: fc.array(fc.tuple(key, value), { maxLength: 4 }),
  }),
  fc.record({ do: fc.constant('delete' as const), key }),
  fc.record({ do: fc.constant('deleteMulti' as const), keys: fc.array(key, { maxLength: 4 }) }),
  fc.record({ do: fc.constant('get' as const), key }),
  fc.record({ do: fc.constant('getMulti' as const), keys: fc.array(key, { maxLength: 4 }) }),
  fc.record({ do: fc.constant('getOrCreate' as const), key, value }),
  fc.record({ do: fc.constant('getOrCreateMulti' as const), keys: fc.array(key, { maxLength: 4 }), value }),
  fc.record({ do: fc.constant('has' as const), key }),
  fc.record({ do: fc.constant('invalidate' as const) }),
)

function same(found: unknown, expected: unknown): void {
  if (JSON.stringify(found) !== JSON.stringify(expected))
    throw new Error(`expected ${JSON.stringify(expected)}, got ${JSON.stringify(found)}`)
}

describe('a chain is a Map', () => {
  it.each(Object.keys(chains))('%s', async (name) => {
    await fc.assert(
      fc.asyncProperty(fc.array(operation, { maxLength: 30 }), async (operations) => {
        const region = makeRegion<unknown>({
          name: 'r',
          backend: (chains[name] as () => Backend<CachedValue>)(),
        })
        const model = new Map<string, unknown>()
        const known = (at: string) => (model.has(at) ? [model.get(at)] : 'none')
        const told = (found: unknown) => (found === NO_VALUE ? 'none' : [found])
        for (const op of operations)
          switch (op.do) {
            case 'set':
              await region.set(op.key, op.value)
              model.set(op.key, op.value)
              break
            case 'setMulti': {
              const pairs = [...new Map(op.pairs)]
              await region.setMulti(pairs)
              for (const [at, one] of pairs) model.set(at, one)
              break
            }
            case 'delete':
              await region.delete(op.key)
              model.delete(op.key)
              break
            case 'deleteMulti':
              await region.deleteMulti(op.keys)
              for (const at of op.keys) model.delete(at)
              break
            case 'get':
              same(told(await region.get(op.key)), known(op.key))
              break
            case 'getMulti':
              same((await region.getMulti(op.keys)).map(told), op.keys.map(known))
              break
            case 'getOrCreate':
              if (!model.has(op.key)) model.set(op.key, op.value)
              same(await region.getOrCreate(op.key, () => op.value), model.get(op.key))
              break
            case 'getOrCreateMulti': {
              for (const at of op.keys) if (!model.has(at)) model.set(at, op.value)
              const found = await region.getOrCreateMulti(op.keys, (missing) => missing.map(() => op.value))
              same(
                found,
                op.keys.map((at) => model.get(at)),
              )
              break
            }
            case 'has':
              same(await region.has(op.key), model.has(op.key))
              break
            default:
              await region.invalidate()
              model.clear()
          }
      }),
      { numRuns: 150 },
    )
  })
})

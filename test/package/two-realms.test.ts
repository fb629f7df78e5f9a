/** The package inside a `vm` context that has built-in classes of two realms, as all code has inside Jest. */
import { readFileSync } from 'node:fs'
import { builtinModules, createRequire } from 'node:module'
import { dirname } from 'node:path'
import { inspect } from 'node:util'
import vm from 'node:vm'
import { expect, it } from 'vitest'
import type * as Memory from '../../backends/memory/index.js'
import type * as Msgpack from '../../proxies/msgpack.js'
import type * as Corral from '../../src/index.js'

/** Of Node, as Jest's environment passes them on. */
const { process, Buffer, performance, AbortController, AbortSignal, Event, EventTarget, URL } = globalThis
const ofNode = {
  process,
  Buffer,
  performance,
  AbortController,
  AbortSignal,
  Event,
  EventTarget,
  URL,
  setTimeout,
}

/** Loads CommonJS modules into a context, of whose globals those are this realm's that Jest passes on. */
function loaderInto(given: object) {
  const context = vm.createContext({
    ...ofNode,
    TextEncoder,
    TextDecoder,
    queueMicrotask,
    setImmediate,
    ...given,
  })
  vm.runInContext('globalThis.global = globalThis', context)
  const loaded = new Map<string, { exports: unknown }>()
  const load = (file: string): unknown => {
    const found = loaded.get(file)
    if (found !== undefined) return found.exports
    const module = { exports: vm.runInContext('({})', context) as unknown }
    loaded.set(file, module)
    const host = createRequire(file)
    const require = (id: string) =>
      builtinModules.includes(id.replace(/^node:/, '')) ? host(id) : load(host.resolve(id))
    const source = `(function (exports, require, module, __filename, __dirname) {${readFileSync(file, 'utf8')}\n})`
    vm.runInContext(source, context, { filename: file })(module.exports, require, module, file, dirname(file))
    return module.exports
  }
  const host = createRequire(import.meta.url)
  return {
    load: (id: string) => load(host.resolve(id)),
    make: (code: string) => vm.runInContext(`(${code})`, context) as unknown,
  }
}

const CONTEXTS = {
  'as inside Jest': { Uint8Array, ArrayBuffer },
  'with all classes of its own': {},
}
const VIEWS = {
  numbers: 'new Float64Array([1.5, -0])',
  'signed bytes': 'new Int8Array([-1])',
  bigints: 'new BigInt64Array([5n])',
  'a part of a buffer': 'new Float32Array([1, 2, 3]).subarray(1, 2)',
  bytes: 'new Uint8Array([1, 2])',
  'bytes of Node': 'Buffer.from("abc")',
  'a view': 'new DataView(new ArrayBuffer(2))',
  shared: '((list) => ({ list, again: [list] }))(new Int16Array([7]))',
}

for (const [how, given] of Object.entries(CONTEXTS)) {
  const { load, make } = loaderInto(given)
  const { makeRegion, wrap } = load('corral') as unknown as typeof Corral
  const { memory } = load('corral/backends/memory') as unknown as typeof Memory
  const { msgpack } = load('corral/proxies/msgpack') as unknown as typeof Msgpack
  for (const profile of ['faithful', 'records', 'bundled'] as const) {
    const region = makeRegion({
      name: 'realms',
      backend: wrap(memory({ stores: 'bytes' }), msgpack({ profile })),
    })
    it.each(Object.entries(VIEWS))(`msgpack, ${profile}, ${how}: keeps %s`, async (_, code) => {
      for (const value of [make(code), vm.runInThisContext(code)]) {
        await region.set('key', value)
        const found = await region.get('key')
        if (code === VIEWS.shared) {
          const { list, again } = found as { list: unknown; again: readonly unknown[] }
          expect(again[0]).toBe(list)
        }
        expect(inspect(await region.get('key'))).toBe(inspect(vm.runInThisContext(code)))
      }
    })
  }
}

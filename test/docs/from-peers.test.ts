import { readFileSync } from 'node:fs'
import { dep, inBackground, makeRegion } from 'corral'
import { memory } from 'corral/backends/memory'
import { describe, expect, it } from 'vitest'
import { entries, manifest, root } from '../../.ci/entries.mjs'
import { snippets } from './snippets.js'

/** The pages for users of another library, and the packages whose side of each pair their blocks run. */
const PAGES: readonly (readonly [page: string, peers: readonly string[]])[] = [
  ['docs/from-bentocache.md', ['bentocache']],
  ['docs/from-cache-manager.md', ['cache-manager', 'keyv']],
  ['docs/from-lru-cache.md', ['lru-cache', 'node-cache']],
]

describe.each(PAGES)('%s', (page, peers) => {
  const text = readFileSync(root + page, 'utf8')
  const blocks = snippets().filter(({ name }) => name.startsWith(`${page}:`))
  const importing = (specifier: string) =>
    blocks.filter(({ source }) => new RegExp(`from '${specifier}(/|')`).test(source))

  it.each(peers)('states the version of %s that its blocks run against', (peer) => {
    const version = manifest().devDependencies[peer]
    expect(version).toMatch(/^\d+\.\d+\.\d+$/)
    const stated = [...text.matchAll(new RegExp(`${peer} (\\d+\\.\\d+\\.\\d+)`, 'gi'))].map(
      (match) => match[1],
    )
    expect(stated.length).toBeGreaterThan(0)
    expect(new Set(stated)).toEqual(new Set([version]))
  })

  it.each(peers)('runs blocks of %s and of Corral', (peer) => {
    expect(importing(peer).length).toBeGreaterThan(0)
    expect(importing('corral').length).toBeGreaterThan(0)
  })
})

/** The calls in the last column of a page's tables, `region.delete(key)` as `delete`. That column is Corral's. */
function callsIn(text: string): readonly string[] {
  const cells = [...text.matchAll(/^\|.*\|$/gm)].map(([row]) => row.split(/(?<!\\)\|/).at(-2) ?? '')
  const spans = cells.flatMap((cell) => [...cell.matchAll(/`([^`]+)`/g)].map(([, span = '']) => span))
  return [...new Set(spans.flatMap((span) => [...span.matchAll(/(\w+)\(/g)].map(([, name = '']) => name)))]
}

/** Every name that a user can call: exports, and the members of the objects that they return. */
async function callable(): Promise<ReadonlySet<string>> {
  const modules = await Promise.all(entries().map(({ source }) => import(root + source) as Promise<object>))
  const region = makeRegion<unknown>({ name: 'terms', backend: memory() })
  const fn = region.cacheOnArguments({ namespace: 'terms' })(async () => 1)
  let creation: object = {}
  await region.getOrCreate('terms', (given) => {
    creation = given
  })
  const objects = [...modules, region, fn, creation, inBackground(), dep]
  return new Set([...objects.flatMap((one) => Object.keys(one)), ...membersOf(creation)])
}

/** A creation has its members by its class. */
const membersOf = (object: object): readonly string[] =>
  Object.getOwnPropertyNames(Object.getPrototypeOf(object))

describe('the terms of Corral', () => {
  it.each(PAGES)('in the tables of %s are names that can be called', async (page) => {
    const known = await callable()
    const calls = callsIn(readFileSync(root + page, 'utf8'))
    expect(calls.length).toBeGreaterThan(10)
    expect(calls.filter((name) => !known.has(name))).toEqual([])
  })
})

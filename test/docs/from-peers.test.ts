import { readFileSync } from 'node:fs'
import { describe, expect, it } from 'vitest'
import { manifest, root } from '../../.ci/entries.mjs'
import { snippets } from './snippets.js'

/** The pages for users of another library, and the packages whose side of each pair their blocks run. */
const PAGES: readonly (readonly [page: string, peers: readonly string[]])[] = [
  ['docs/from-bentocache.md', ['bentocache']],
  ['docs/from-cache-manager.md', ['cache-manager', 'keyv']],
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

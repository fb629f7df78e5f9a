import { mkdirSync, mkdtempSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, inject, it } from 'vitest'
import { manifest, root } from '../../.ci/entries.mjs'
import { type Addresses, addresses } from './addresses.js'
import { compile, examples, execute, FLAGS, PATIENCE, type Snippet, snippets } from './snippets.js'

/**
 * The code blocks of README.md and docs/ compile and run; the `@example` blocks of the sources compile. A `js` block only
 * runs. The words after the language change this: `servers` leads the addresses in the block to real servers, `fails` must
 * not compile, `continues` starts with the blocks before it, up to the last without `continues`.
 */
const { redis, memcached } = inject('servers')
const served = redis !== null && memcached !== null
const all = snippets()
const shown = examples()
const compiled = [...all, ...shown].filter(({ language }) => language === 'ts')
const run = all.filter(({ language, flags }) => ['ts', 'js'].includes(language) && !flags.includes('fails'))
const needsServers = ({ flags }: Snippet) => flags.includes('servers')

/** Npm packages resolve from it. */
function temporaryFolder(): string {
  const cache = `${root}node_modules/.cache`
  mkdirSync(cache, { recursive: true })
  return mkdtempSync(join(cache, 'snippets-'))
}

describe('the code blocks of the documentation', () => {
  it.each([...all, ...shown])('$name is of a known kind', ({ language, flags }) => {
    expect(['ts', 'js', 'json', 'sh']).toContain(language)
    expect(FLAGS).toEqual(expect.arrayContaining([...flags]))
  })

  it.each(all.filter(({ language }) => language === 'json'))('$name is JSON', ({ source }) => {
    expect(() => JSON.parse(source)).not.toThrow()
  })

  it.each(all.filter(({ language }) => language === 'sh'))('$name runs scripts that exist', ({ source }) => {
    const scripts = [...source.matchAll(/npm run (?:-s )?([\w:-]+)/g)].map((match) => match[1])
    expect(Object.keys(manifest().scripts)).toEqual(expect.arrayContaining(scripts))
  })

  describe('compile', () => {
    let problems: ReadonlyMap<string, readonly string[]>
    let folder: string
    beforeAll(async () => {
      folder = temporaryFolder()
      problems = await compile(compiled, folder)
    }, 300_000)
    afterAll(() => rmSync(folder, { recursive: true, force: true }))

    it.each(compiled.filter(({ flags }) => !flags.includes('fails')))('$name', (snippet) => {
      expect(problems.get(snippet.name)).toEqual([])
    })
    it.each(compiled.filter(({ flags }) => flags.includes('fails')))('$name is refused', (snippet) => {
      expect(problems.get(snippet.name)).not.toEqual([])
    })
  })

  describe.runIf(run.length > 0)('run', () => {
    let folder: string
    let outcomes: Map<Snippet, string>
    let servers: Addresses | undefined
    beforeAll(
      async () => {
        folder = temporaryFolder()
        servers = served ? await addresses() : undefined
        outcomes = await execute(
          run.filter((snippet) => served || !needsServers(snippet)),
          folder,
          servers,
        )
      },
      PATIENCE * (1 + run.length),
    )
    afterAll(async () => {
      await servers?.stop()
      rmSync(folder, { recursive: true, force: true })
    })

    it.each(run.filter((snippet) => !needsServers(snippet)))('$name', (snippet) => {
      expect(outcomes.get(snippet)).toBe('exit 0')
    })
    it.skipIf(!served).each(run.filter(needsServers))('$name, against real servers', (snippet) => {
      expect(outcomes.get(snippet)).toBe('exit 0')
    })
  })
})

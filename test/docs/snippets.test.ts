import { mkdirSync, mkdtempSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, inject, it } from 'vitest'
import { manifest, root } from '../../.ci/entries.mjs'
import { type Addresses, addresses } from './addresses.js'
import { compile, execute, FLAGS, PATIENCE, type Snippet, snippets } from './snippets.js'

/**
 * Every code block of README.md and docs/ does what it shows. A `ts` block compiles and runs, a `js` block runs, unless
 * the words after the language say otherwise: `servers` runs against real ones, to which the addresses in it lead, `fails`
 * must not compile, `continues` takes the blocks before it, up to the last that does not continue, as its beginning.
 */
const { redis, memcached } = inject('servers')
const served = redis !== null && memcached !== null
const all = snippets()
const compiled = all.filter(({ language }) => language === 'ts')
const run = all.filter(({ language, flags }) => ['ts', 'js'].includes(language) && !flags.includes('fails'))
const needsServers = ({ flags }: Snippet) => flags.includes('servers')

describe('the code blocks of the documentation', () => {
  it.each(all)('$name is of a known kind', ({ language, flags }) => {
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
    let problems: (snippet: Snippet) => string[]
    beforeAll(() => {
      problems = compile(compiled)
    }, 60_000)

    it.each(compiled.filter(({ flags }) => !flags.includes('fails')))('$name', (snippet) => {
      expect(problems(snippet)).toEqual([])
    })
    it.each(compiled.filter(({ flags }) => flags.includes('fails')))('$name is refused', (snippet) => {
      expect(problems(snippet)).not.toEqual([])
    })
  })

  describe.runIf(run.length > 0)('run', () => {
    const cache = `${root}node_modules/.cache`
    let folder: string
    let outcomes: Map<Snippet, string>
    let servers: Addresses | undefined
    beforeAll(
      async () => {
        mkdirSync(cache, { recursive: true })
        folder = mkdtempSync(join(cache, 'snippets-'))
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

import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import ts from 'typescript'
import { describe, expect, it } from 'vitest'
import dogpile from './dogpile-map.json' with { type: 'json' }
import matroska from './matroska-map.json' with { type: 'json' }
import smarter from './smarter-map.json' with { type: 'json' }
import versionedLru from './versioned-lru-map.json' with { type: 'json' }

const root = join(import.meta.dirname, '../..')

interface Entry {
  readonly upstream: string
  readonly section: string
  readonly tests?: readonly string[]
  readonly elsewhere?: string
  readonly dropped?: string
  readonly note?: string
}

interface Found {
  /** Titles from the outermost group inwards, joined by ` > `. */
  readonly ran: ReadonlySet<string>
  /** Titles of tests that do not run, or run instead of others. */
  readonly held: readonly string[]
}

/** Each map with how many behaviours every section of it has: none gets lost. */
const maps: Record<string, { readonly entries: readonly Entry[]; readonly counts: Record<string, number> }> =
  {
    'dogpile.cache': {
      entries: dogpile,
      counts: { '6.2': 25, '6.3': 10, '6.4': 50, '6.5': 19, '6.6': 42, '6.7': 39, '6.8': 17 },
    },
    Matroska: { entries: matroska, counts: { '1.6': 7, '1.7': 3, '1.8': 16 } },
    Smarter: { entries: smarter, counts: { '3.1': 16, '3.3': 14, '3.4': 12, '3.5': 1 } },
    versioned_lru_cache: { entries: versionedLru, counts: { '2.3': 5, '2.4': 9 } },
  }

const GROUPS = new Set(['describe', 'inEveryRegion'])

/** Reads the titles of a test file from its source: tests that stand there unconditionally run. */
function titlesOf(file: string): Found {
  const source = ts.createSourceFile(
    file,
    readFileSync(join(root, file), 'utf8'),
    ts.ScriptTarget.ES2022,
    true,
  )
  const ran = new Set<string>()
  const held: string[] = []
  const visit = (node: ts.Node, groups: readonly string[]): void => {
    let inside = groups
    if (ts.isCallExpression(node)) {
      const callee = node.expression.getText(source)
      const [title] = node.arguments
      const path = [...groups, (title && literal(title)) ?? '']
      if (/^(?:it|test|describe)\.(?!each|for)\w/.test(callee)) held.push(path.join(' > '))
      if (callee === 'it' || callee.startsWith('it.each')) ran.add(path.join(' > '))
      if (GROUPS.has(callee)) inside = path
    }
    ts.forEachChild(node, (child) => visit(child, inside))
  }
  if (file.startsWith('src/testing/')) for (const name of casesOf(source)) ran.add(name)
  else visit(source, [])
  return { ran, held }
}

/** The names of contract cases, which test/contract runs on every backend: methods whose name is a text. */
function casesOf(source: ts.SourceFile): string[] {
  const names: string[] = []
  const visit = (node: ts.Node): void => {
    if (ts.isMethodDeclaration(node) && ts.isStringLiteral(node.name)) names.push(node.name.text)
    ts.forEachChild(node, visit)
  }
  visit(source)
  return names
}

/** The text of a title, with `${}` for each expression. */
function literal(node: ts.Expression): string | undefined {
  if (ts.isStringLiteralLike(node)) return node.text
  if (ts.isTemplateExpression(node))
    return node.head.text + node.templateSpans.map(({ literal: { text } }) => `\${}${text}`).join('')
  return undefined
}

const files = new Map<string, Found>()
const foundIn = (file: string): Found => {
  let found = files.get(file)
  if (found === undefined) files.set(file, (found = titlesOf(file)))
  return found
}

describe.each(Object.entries(maps))('the map of the tests of %s', (_, { entries, counts }) => {
  const tests = entries.flatMap(({ tests = [] }) => tests)

  it('lists every section, and nothing twice', () => {
    const names = entries.map(({ section, upstream }) => `${section} ${upstream}`)
    expect(names.filter((name, i) => names.indexOf(name) !== i)).toEqual([])
    const found: Record<string, number> = {}
    for (const { section } of entries) found[section] = (found[section] ?? 0) + 1
    expect(found).toEqual(counts)
  })

  it('names for each its tests, or the reason why there is none', () => {
    for (const { upstream, tests = [], elsewhere, dropped } of entries) {
      const ways = [tests.length > 0, elsewhere !== undefined, dropped !== undefined].filter(Boolean)
      expect(ways.length, upstream).toBeGreaterThan(0)
      if (dropped !== undefined) expect(ways.length, upstream).toBe(1)
    }
  })

  it('names tests that exist', () => {
    expect(tests.length).toBeGreaterThan(0)
    const missing = tests.filter((test) => {
      const [file = '', ...path] = test.split(' > ')
      return !foundIn(file).ran.has(path.join(' > '))
    })
    expect(missing).toEqual([])
  })

  it('names tests in files of which all tests run', () => {
    for (const file of new Set(tests.map((test) => test.split(' > ')[0] ?? ''))) {
      expect(file).toMatch(/^(?:test\/.*\.test|src\/testing\/.*-cases)\.ts$/)
      expect(foundIn(file).held, file).toEqual([])
    }
  })
})

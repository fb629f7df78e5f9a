import { join } from 'node:path'
import ts from 'typescript'
import { describe, expect, it } from 'vitest'

const root = join(import.meta.dirname, '../..')
const file = join(root, 'test/types/snippet.ts')

const HEAD = `
import { memory } from '../../backends/memory/index.js'
import { dependencies } from '../../proxies/dependencies.js'
import { json } from '../../proxies/json.js'
import { msgpack } from '../../proxies/msgpack.js'
import { prefix } from '../../proxies/prefix.js'
import { type BackendProxy, type Bytes, dep, makeRegion, wrap } from '../../src/index.js'
const bytes = () => memory({ stores: 'bytes' })
const scopes = dep.scopes<{ a: string; b: string }>('x').describes(['a', 'b'], ({ a, b }) => ({ a, b }))
const region = makeRegion()
const load = async (id: number) => [{ id }]
const rows = async (...ids: number[]) => ids
const texts = new Map<string, number>()
const list = async (ids: number[]) => ids
const compress = null as unknown as BackendProxy<Bytes>
`

const UNDESCRIBED = 'no extractor describes lists by exactly these fields'
const DESCRIBED = `scopes.condition({ b: '1', a: '1' }), scopes.describes([], () => ({})).condition({})`

const MISFIT = 'does not take the arguments, result or instance of this function: put the function first'
const SHAPE = "ids: 'array' if it takes one array instead of (...ids), asMap: true if it returns a Map"

const LIST = "takes them as (...ids), or as one array with ids: 'array'"
const NOTHING_ELSE = 'a function of (...ids) takes nothing else: close over its other arguments'
const KEYS = 'the keys of the Map that a function of many ids returns are its ids'

/** Options that do not fit the function. */
const FUNCTIONS: readonly (readonly [code: string, sentence: string])[] = [
  [
    `region.cacheOnArguments({ namespace: 'n', dependencies: (of: { id: number }) => dep.id('u', of.id) })(load)`,
    `the option \`dependencies\` ${MISFIT}`,
  ],
  [
    `region.cacheOnArguments({ namespace: 'n', dependencies: (id) => dep.id('u', id) })(load)`,
    `the option \`dependencies\` ${MISFIT}`,
  ],
  [
    `region.cacheOnArguments({ namespace: 'n', shouldCache: (found: string) => found !== '' })(load)`,
    `the option \`shouldCache\` ${MISFIT}`,
  ],
  [
    `class A { @region.cacheOnArguments({ namespace: 'n', self: (of: { a: 1 }) => of.a }) async m() {} }`,
    `the option \`self\` ${MISFIT}`,
  ],
  [
    `region.cacheMultiOnArguments({ namespace: 'n', dependencies: (id: string) => id })(rows)`,
    `the option \`dependencies\` ${MISFIT}`,
  ],
  [`region.cacheMultiOnArguments({ namespace: 'n' })(list)`, SHAPE],
  [`region.cacheMultiOnArguments({ namespace: 'n', ids: 'array' })(rows)`, SHAPE],
  [`region.cacheMultiOnArguments({ namespace: 'n', asMap: true })(rows)`, SHAPE],
  [`region.cacheMultiOnArguments(load, { namespace: 'n' })`, LIST],
  [`region.cacheMultiOnArguments(async () => [1], { namespace: 'n', ids: 'array' })`, LIST],
  [`region.cacheMultiOnArguments(async (ids: [1, 2]) => ids, { namespace: 'n', ids: 'array' })`, LIST],
  [`region.cacheMultiOnArguments({ namespace: 'n', ids: 'array' })(async (ids: [1, 2]) => ids)`, LIST],
  [
    `region.cacheMultiOnArguments({ namespace: 'n', ids: 'array' })(async (...ids: readonly 1[]) => ids)`,
    SHAPE,
  ],
  [`region.cacheMultiOnArguments(async (l: string, ...ids: 1[]) => ids, { namespace: 'n' })`, NOTHING_ELSE],
  [`region.cacheMultiOnArguments({ namespace: 'n' })(async (l: string, ...ids: 1[]) => ids)`, NOTHING_ELSE],
  [`region.cacheMultiOnArguments(async (...ids: number[]) => texts, { namespace: 'n', asMap: true })`, KEYS],
  [`region.cacheMultiOnArguments({ namespace: 'n', asMap: true })(async (...ids: number[]) => texts)`, KEYS],
  [
    `region.cacheMultiOnArguments(async (ids: number[], tenant: string) => ids.map(() => tenant), { namespace: 'n', ids: 'array' })`,
    'a function of one array of ids takes nothing else: close over its other arguments',
  ],
]

/** Chains that cannot work, and the sentence of the compiler about each. */
const WRONG: readonly (readonly [code: string, sentence: string])[] = [
  [
    'wrap(bytes(), dependencies())',
    'the 1st proxy works on values, but below it are bytes: put an encoding such as msgpack() below it',
  ],
  [
    `wrap(bytes(), prefix('p'), dependencies(), msgpack())`,
    'the 2nd proxy works on values, but below it are bytes: put an encoding such as msgpack() below it',
  ],
  [
    'wrap(memory(), msgpack())',
    'the 1st proxy works on bytes, but below it are values already: move it below the encoding, or drop it',
  ],
  [
    `wrap(bytes(), msgpack(), prefix('p'), json())`,
    'the 3rd proxy works on bytes, but below it are values already: move it below the encoding, or drop it',
  ],
  [
    'wrap(bytes(), msgpack(), compress)',
    'the 2nd proxy works on bytes, but below it are values already: move it below the encoding, or drop it',
  ],
  [
    `wrap(bytes(), prefix('1'), prefix('2'), prefix('3'), prefix('4'), prefix('5'), prefix('6'), prefix('7'), dependencies())`,
    'the 8th proxy works on values, but below it are bytes',
  ],
  [
    `wrap(bytes(), prefix('1'), prefix('2'), prefix('3'), prefix('4'), prefix('5'), prefix('6'), prefix('7'), prefix('8'), dependencies())`,
    'a proxy after the 8th works on values, but below it are bytes',
  ],
  ['makeRegion({ backend: bytes() })', 'put an encoding such as msgpack() around a backend of bytes'],
  ...FUNCTIONS,
  [`scopes.condition({ a: '1' })`, UNDESCRIBED],
  ['scopes.condition({})', UNDESCRIBED],
  [`scopes.condition({ a: '1', c: '1' })`, UNDESCRIBED],
]

/** The compiler's messages for each line of a program, which it reads once. */
function messages(lines: readonly string[]): string[][] {
  const source = HEAD + lines.join('\n')
  const { config } = ts.readConfigFile(join(root, 'tsconfig.json'), ts.sys.readFile) as { config: unknown }
  const { options } = ts.parseJsonConfigFileContent(config, ts.sys, root)
  const host = ts.createCompilerHost(options)
  const { getSourceFile, fileExists, readFile } = host
  host.fileExists = (name) => name === file || fileExists(name)
  host.readFile = (name) => (name === file ? source : readFile(name))
  host.getSourceFile = (name, ...more) =>
    name === file ? ts.createSourceFile(name, source, ts.ScriptTarget.ES2022) : getSourceFile(name, ...more)
  const program = ts.createProgram([file], options, host)
  const parsed = program.getSourceFile(file)
  if (parsed === undefined) throw new Error('the snippet was not read')
  const head = HEAD.split('\n').length - 1
  const found: string[][] = lines.map(() => [])
  for (const { start = 0, messageText } of program.getSemanticDiagnostics(parsed))
    found[parsed.getLineAndCharacterOfPosition(start).line - head]?.push(
      ts.flattenDiagnosticMessageText(messageText, '\n'),
    )
  return found
}

describe('the compiler', () => {
  it('names the mistake in a sentence', () => {
    const right = `wrap(bytes(), compress, msgpack(), prefix('p'), dependencies())`
    const said = messages([...WRONG.map(([code]) => code), right, DESCRIBED])
    WRONG.forEach(([code, sentence], i) => {
      expect(said[i]?.join('\n'), code).toContain(sentence)
    })
    expect(said.slice(-2)).toEqual([[], []])
  }, 120_000)
})

/**
 * Fails when the comment of a public export has no `@example` with a block of code, and lists those exports. The docs tests
 * compile the blocks.
 */
import ts from 'typescript'
import { entries, root } from './entries.mjs'

const offered = entries()
const program = ts.createProgram(
  offered.map(({ source }) => root + source),
  { module: ts.ModuleKind.NodeNext, target: ts.ScriptTarget.ES2022, skipLibCheck: true, noEmit: true },
)
const checker = program.getTypeChecker()

/** @param {ts.Symbol} symbol */
const declared = (symbol) => (symbol.flags & ts.SymbolFlags.Alias ? checker.getAliasedSymbol(symbol) : symbol)

/** @type {Map<ts.Symbol, string>} */
const exported = new Map()
for (const { specifier, source } of offered) {
  const file = program.getSourceFile(root + source)
  const module = file && checker.getSymbolAtLocation(file)
  for (const symbol of module ? checker.getExportsOfModule(module) : [])
    exported.set(declared(symbol), `${symbol.name} of ${specifier}`)
}

const without = [...exported].filter(
  ([symbol]) =>
    !symbol
      .getJsDocTags(checker)
      .some(({ name, text }) => name === 'example' && ts.displayPartsToString(text).includes('```ts\n')),
)

for (const [symbol, name] of without) {
  const [at] = symbol.declarations ?? []
  console.log(`${name}, ${at?.getSourceFile().fileName.replace(root, '')}`)
}
console.log(`${without.length} of ${exported.size} public exports have no @example.`)
process.exitCode = without.length > 0 ? 1 : 0

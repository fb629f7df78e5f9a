/**
 * Fails when the operations of a store are enumerated in more than five files: an operation that is added has to be added in
 * each of them. Contracts are not counted, because they test each operation, nor are the stores themselves.
 */
import ts from 'typescript'
import { filesOf, parse } from './sources.mjs'

const OPERATIONS = 'get set delete getMulti setMulti deleteMulti acquire renew release held'.split(' ')
const MOST = 5

const places = filesOf(['src', 'proxies'])
  .filter((file) => !file.startsWith('src/testing/'))
  .filter((file) => {
    const names = new Set()
    /** @param {ts.Node} node */
    const visit = (node) => {
      if (ts.isIdentifier(node) || ts.isStringLiteral(node)) names.add(node.text)
      ts.forEachChild(node, visit)
    }
    visit(parse(file))
    return OPERATIONS.every((operation) => names.has(operation))
  })
console.log(`${places.length} files name every operation of a store (at most ${MOST}): ${places.join(', ')}`)
process.exitCode = places.length > MOST ? 1 : 0

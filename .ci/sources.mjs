/** The TypeScript files of the tree, parsed, for the checks that look into them. */
import { readdirSync, readFileSync, statSync } from 'node:fs'
import { join } from 'node:path'
import ts from 'typescript'
import { root } from './entries.mjs'

/** The library's own folders. */
export const LIBRARY = ['src', 'backends', 'proxies']

/** @param {readonly string[]} paths files or folders below `tree` @returns {string[]} */
export const filesOf = (paths, kind = /\.(ts|mjs|cjs)$/, tree = root) =>
  paths
    .flatMap((path) =>
      statSync(tree + path).isFile()
        ? [path]
        : readdirSync(tree + path, { recursive: true, encoding: 'utf8' }).map((file) => join(path, file)),
    )
    .filter((file) => kind.test(file) && !/(^|\/)(node_modules|dist)\//.test(file))
    .sort()

/** @param {string} file @param {string} text */
export const parse = (file, text = readFileSync(root + file, 'utf8')) =>
  ts.createSourceFile(file, text, ts.ScriptTarget.Latest, true)

/** The folder that a figure is counted for: a room of `src/`, a backend, a proxy, a folder of tests. @param {string} file */
export const roomOf = (file) => file.split('/').slice(0, -1).slice(0, 2).join('/') || '.'

/** Zero-based numbers of the lines that hold code. @param {ts.SourceFile} source @returns {Set<number>} */
export function codeLines(source) {
  /** @type {Set<number>} */
  const lines = new Set()
  /** @param {ts.Node} node */
  const visit = (node) => {
    if (ts.isJSDoc(node)) return
    const children = node.getChildren(source)
    if (children.length > 0) return children.forEach(visit)
    if (node.getWidth(source) === 0) return
    const first = source.getLineAndCharacterOfPosition(node.getStart(source)).line
    const last = source.getLineAndCharacterOfPosition(node.getEnd()).line
    for (let line = first; line <= last; line++) lines.add(line)
  }
  visit(source)
  return lines
}

/**
 * The prose of the tree, sentence by sentence: comments, messages, titles of tests, pages. Code, quotations and examples
 * are no prose and are left out.
 */
import { readFileSync } from 'node:fs'
import ts from 'typescript'
import { root } from './entries.mjs'
import { parse } from './sources.mjs'

/** @typedef {{ file: string, line: number, text: string }} Sentence */

/** @param {string} file @returns {Sentence[]} */
export function sentencesOf(file) {
  const text = readFileSync(root + file, 'utf8')
  return (file.endsWith('.md') ? ofPage(text) : ofSource(file, text))
    .flatMap(split)
    .map((passage) => ({ file, ...passage }))
}

export const wordsOf = (/** @type {string} */ text) =>
  text.match(/[\p{L}\p{N}][\p{L}\p{N}'’-]*/gu)?.length ?? 0

/** @typedef {{ line: number, text: string }} Passage */

/** Paragraphs, items, headings and cells of tables; the line is the one-based line of the first word. @param {string} page @returns {Passage[]} */
function ofPage(page) {
  const prose = blank(page, /^(`{3,})[^\n]*\n[\s\S]*?^\1$/gm)
  return paragraphs(prose, 1)
}

/** @param {string} file @param {string} text @returns {Passage[]} */
function ofSource(file, text) {
  const source = parse(file, text)
  const lineAt = (/** @type {number} */ at) => source.getLineAndCharacterOfPosition(at).line + 1
  /** @type {Passage[]} */
  const found = []
  /** Comments by their start: the one before a node is also the one before its first child. */
  const seen = new Set()
  const comments = (/** @type {number} */ at) => {
    for (const { pos, end } of [
      ...(ts.getLeadingCommentRanges(text, at) ?? []),
      ...(ts.getTrailingCommentRanges(text, at) ?? []),
    ]) {
      if (seen.has(pos)) continue
      seen.add(pos)
      found.push({ line: lineAt(pos), text: text.slice(pos, end) })
    }
  }
  /** @param {ts.Node} node */
  const visit = (node) => {
    if (ts.isJSDoc(node)) return
    comments(node.getFullStart())
    comments(node.getEnd())
    if (isMessage(file, node)) found.push({ line: lineAt(node.getStart()), text: `${messageOf(node)}\n\n` })
    else for (const child of node.getChildren(source)) visit(child)
  }
  visit(source)
  return joined(found.sort((a, b) => a.line - b.line)).flatMap(({ line, text }) =>
    paragraphs(withoutMarks(text), line),
  )
}

/** Line comments that follow each other are one text. @param {Passage[]} passages @returns {Passage[]} */
function joined(passages) {
  /** @type {Passage[]} */
  const result = []
  let next = -1
  for (const { line, text } of passages) {
    const last = result.at(-1)
    const follows = line === next && text.startsWith('//') && last?.text.startsWith('//')
    if (follows && last) last.text += `\n${text}`
    else result.push({ line, text })
    next = line + 1
  }
  return result
}

/** @param {string} comment */
const withoutMarks = (comment) =>
  blank(
    comment.replace(/^\s*(\/\*\*?|\/\/|\*(?!\/))/gm, ' ').replace(/\*\/\s*$/, ''),
    /^\s*@example\b[\s\S]*?(?=^\s*@\w|$(?![\s\S]))/gm,
  )
    .replace(/@(param|returns|type|typedef|throws|template|default|property)\b(\s*\{[^}]*\})?/g, '')
    .replace(/\{@link ([^}]*)\}/g, '$1')

/** A literal with a space is a message; in tests only the titles count. @param {string} file @param {ts.Node} node */
function isMessage(file, node) {
  const literal =
    ts.isStringLiteral(node) || ts.isNoSubstitutionTemplateLiteral(node) || ts.isTemplateExpression(node)
  if (!literal || !/[a-z] [a-z]/i.test(node.getText())) return false
  return !file.startsWith('test/') || isTitle(node)
}

/** `it('…')`, `describe.each(…)('…')` and the like. @param {ts.Node} node */
function isTitle(node) {
  const call = node.parent
  if (!ts.isCallExpression(call) || call.arguments[0] !== node) return false
  return /^(it|test|describe)\b/.test(call.expression.getText())
}

/** @param {ts.Node} node */
const messageOf = (node) =>
  node
    .getText()
    .slice(1, -1)
    .replaceAll(/\$\{[^}]*\}/g, '…')
    .replaceAll('\\n', ' ')

/** @param {string} text @param {number} first @returns {Passage[]} */
function paragraphs(text, first) {
  /** @type {Passage[]} */
  const found = []
  let open = false
  for (const [at, line] of text.split('\n').entries()) {
    const last = found.at(-1)
    const begins = /^\s*([-*+]|\d+\.|#+|\||>|@)\s?/.test(line)
    if (line.trim() === '') open = false
    else if (open && !begins && last) last.text += ` ${line.trim()}`
    else found.push({ line: first + at, text: line.trim() })
    open = line.trim() !== '' && !line.trim().startsWith('#')
  }
  return found.flatMap(({ line, text: passage }) =>
    (passage.startsWith('|') ? passage.split('|') : [passage]).map((cell) => ({ line, text: cell })),
  )
}

/** @param {Passage} passage @returns {Passage[]} */
const split = ({ line, text }) =>
  text
    .replace(/(`+)[\s\S]*?\1/g, ' x ')
    .replace(/\]\([^)]*\)/g, ']')
    .replace(/"[^"]*"|“[^”]*”/g, ' x ')
    .split(/(?<=[.!?][)\]*_]*)\s+/)
    .map((sentence) => ({ line, text: sentence.trim() }))
    .filter((sentence) => wordsOf(sentence.text) > 0)

/** Keeps the lines, so that the rest stays at its line. @param {string} text @param {RegExp} pattern */
const blank = (text, pattern) => text.replace(pattern, (match) => match.replace(/[^\n]/g, ''))

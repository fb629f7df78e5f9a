/**
 * Fails when a public name that was given up stands in the library, the examples, the README or the pages. The changelog
 * and the records of decisions may have it.
 */
import { readFileSync } from 'node:fs'
import ts from 'typescript'
import { root } from './entries.mjs'
import { filesOf, LIBRARY, parse } from './sources.mjs'

/** Texts, each with its successor. @type {[old: RegExp, name: string][]} */
const TEXTS = [
  [/\binvalidateKey\b/, 'region.expire(key), or region.delete(key)'],
  [/\w*[rR]egion\.lease\b/, 'region.guarantees'],
  [/\bdep\.primaryKey\b|(?<!\.)\bprimaryKey\b/, 'dep.id(type, ...key)'],
  [/\bntag\b/, 'dep.tag(name, ...parts)'],
  [/\bproxies\/mangle\b|\bmangle\((\)|\(|sha|when)/, 'mapKeys(mangler)'],
  [/\bsignals\/broadcast\b|\{[^{}]*\bbroadcast\b[^{}]*\} from 'corral\/signals'/, 'corral/proxies/broadcast'],
  [
    /\{[^{}]*\b(dogpile|Dogpile\w*|Lookup|Renewed|RunOptions|FillResult)\b[^{}]*\} from 'corral'/,
    'corral/dogpile',
  ],
  [/\bundecodableCount\b/, 'the total in a message of the channel corral:undecodable'],
  [/\bversioned\(\{[^{}]*\bttl\b|\bcacheResults\(\{[^{}]*\btimeout\b/, 'expirationTime'],
  [/'dead'/, "'invalid'"],
]

/** Types, and members of types, as code has them. @type {Record<string, string>} */
const IDENTIFIERS = {
  Basis: 'DependencySnapshot',
  Cause: 'InvalidationReason',
  Filled: 'FillResult',
  Found: 'Lookup',
  Group: 'DependencyGroup',
  Instant: 'LedgerTime',
  Missed: 'MissedEvents',
  PileOptions: 'DogpileOptions',
  Reading: 'LedgerReading',
  Remembered: 'CallRegistry',
  Steps: 'DogpileDriver',
  basis: 'snapshot',
  blame: 'invalidatedNames',
  makes: 'isCreating',
  untold: 'untracked',
}

/** @type {string[]} */
const found = []
const places = [...LIBRARY, 'examples', 'docs', 'README.md']
for (const file of filesOf(places, /\.(ts|md)$/).filter((path) => !path.startsWith('docs/decisions/'))) {
  const text = readFileSync(root + file, 'utf8')
  /** @param {number} at @param {string} name */
  const report = (at, name) => found.push(`${file}:${text.slice(0, at).split('\n').length} now: ${name}`)
  for (const [old, name] of TEXTS)
    for (const { index, 0: hit } of text.matchAll(new RegExp(old, 'g')))
      report(index + hit.search(/\S/), name)
  if (file.endsWith('.md'))
    for (const { index, 1: word = '' } of text.matchAll(/`(\w+)(?:\(\))?`/g)) {
      if (Object.hasOwn(IDENTIFIERS, word)) report(index, IDENTIFIERS[word] ?? '')
    }
  else {
    /** @param {ts.Node} node */
    const visit = (node) => {
      if (ts.isIdentifier(node) && Object.hasOwn(IDENTIFIERS, node.text))
        report(node.getStart(), IDENTIFIERS[node.text] ?? '')
      ts.forEachChild(node, visit)
    }
    visit(parse(file, text))
  }
}
for (const line of found) console.log(line)
process.exitCode = found.length > 0 ? 1 : 0

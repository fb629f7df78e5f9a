/** Lists the benches, each with the first sentence of its essay: `npm run bench`. */
import { readFileSync } from 'node:fs'
import { manifest, root } from './entries.mjs'

console.log('How to read a figure: bench/README.md. Options of a bench follow `--`.\n')
for (const [name, command] of Object.entries(manifest().scripts)) {
  const [, file] = /^node \.ci\/run-ts\.mjs (bench\/\S+\.ts)/.exec(command) ?? []
  if (file === undefined) continue
  const [, essay = ''] = /\/\*\*(.*?)\*\//s.exec(readFileSync(root + file, 'utf8')) ?? []
  const [sentence = ''] = essay
    .replace(/^\s*\* ?/gm, '')
    .replace(/\s+/g, ' ')
    .trim()
    .split(/(?<=\.) /)
  console.log(`npm run ${name.padEnd(24)} ${sentence}`)
}

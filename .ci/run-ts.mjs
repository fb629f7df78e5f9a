/**
 * Runs one TypeScript file: `node .ci/run-ts.mjs bench/local/layers.ts [arguments]`. The library's sources are bundled
 * into it and plain node runs the bundle, so that a bench measures compiled code and no loader.
 */
import { spawn } from 'node:child_process'
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs'
import { constants } from 'node:os'
import { basename, join, resolve } from 'node:path'
import { build } from 'esbuild'
import { aliases, root } from './entries.mjs'

const [source, ...args] = process.argv.slice(2)
if (source === undefined)
  throw new Error('Expected a TypeScript file to run: node .ci/run-ts.mjs <file.ts> [arguments]')

// Inside node_modules, so that the bundle resolves npm packages as the project does.
const cache = join(root, 'node_modules/.cache/run-ts')
mkdirSync(cache, { recursive: true })
const folder = mkdtempSync(`${cache}/`)
const outfile = join(folder, basename(source).replace(/\.ts$/, '.mjs'))
process.once('exit', () => rmSync(folder, { recursive: true, force: true }))

await build({
  entryPoints: [resolve(source)],
  outfile,
  bundle: true,
  format: 'esm',
  platform: 'node',
  target: 'node20.19',
  packages: 'external',
  alias: aliases(),
  sourcemap: 'inline',
  logLevel: 'warning',
})

const child = spawn(process.execPath, ['--enable-source-maps', '--expose-gc', outfile, ...args], {
  stdio: 'inherit',
})
for (const signal of /** @type {const} */ (['SIGINT', 'SIGTERM']))
  process.on(signal, () => child.kill(signal))
child.once('exit', (code, signal) => {
  process.exitCode = code ?? 128 + (signal === null ? 0 : constants.signals[signal])
})

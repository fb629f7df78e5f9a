/**
 * Fails when a backend or a proxy has no export, an export no source, or the build misses a file an export names.
 * `--write` brings package.json into line with the folders instead.
 */
import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { entries, manifest, root } from './entries.mjs'

/** @param {string} folder */
const members = (folder) =>
  readdirSync(root + folder, { withFileTypes: true })
    .filter((item) =>
      item.isDirectory() ? existsSync(`${root}${folder}/${item.name}/index.ts`) : item.name.endsWith('.ts'),
    )
    .map((item) => `./${folder}/${item.name.replace(/\.ts$/, '')}`)

/** @param {unknown} target @returns {string[]} */
const files = (target) =>
  typeof target === 'string' ? [target] : Object.values(/** @type {object} */ (target)).flatMap(files)

/** @param {string} output */
const conditions = (output) => ({
  import: { types: `./dist/${output}.d.ts`, default: `./dist/${output}.js` },
  require: { types: `./dist/${output}.d.cts`, default: `./dist/${output}.cjs` },
})

const present = ['backends', 'proxies'].flatMap((folder) => [...new Set(members(folder))].sort())

if (process.argv.includes('--write')) {
  const own = entries().filter(
    ({ subpath, source }) => !/^\.\/(backends|proxies)\//.test(subpath) && existsSync(root + source),
  )
  const outputs = [
    ...own.map(({ subpath, output }) => [subpath, output]),
    ...present.map((path) => [path, path.slice(2)]),
  ]
  const wanted = Object.fromEntries(
    outputs.map(([subpath = '', output = '']) => [subpath, conditions(output)]),
  )
  const path = `${root}package.json`
  const content = {
    ...JSON.parse(readFileSync(path, 'utf8')),
    exports: { ...wanted, './package.json': './package.json' },
  }
  writeFileSync(path, `${JSON.stringify(content, undefined, 2)}\n`)
  console.log('Wrote "exports" of package.json; `npm run format` makes it readable again.')
} else {
  const { exports } = manifest()
  const problems = [
    ...present
      .filter((path) => !(path in exports))
      .map(
        (path) => `${path} is in the tree, but not in package.json "exports": node .ci/exports.mjs --write`,
      ),
    ...entries()
      .filter(({ source }) => !existsSync(root + source))
      .map(({ subpath, source }) => `${subpath} is exported, but ${source} does not exist`),
    ...files(exports)
      .filter((file) => !existsSync(root + file))
      .map((file) => `${file} is exported, but the build does not make it`),
  ]
  for (const problem of problems) console.error(problem)
  process.exitCode = problems.length > 0 ? 1 : 0
}

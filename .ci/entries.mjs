/**
 * The one list of the package's entries is the `exports` map of package.json. Everything else that needs to
 * know it (the build, the aliases of tests and snippets, the check that no file is forgotten) derives it here.
 */
import { existsSync, readFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'

/** The nearest folder upwards with a package.json: this module is also bundled, into files elsewhere. */
export const root = `${nearestManifest(dirname(fileURLToPath(import.meta.url)))}/`

/** @typedef {{ subpath: string, specifier: string, output: string, source: string }} Entry */

/** @returns {{ name: string, exports: Record<string, unknown>, scripts: Record<string, string>, peerDependencies: Record<string, string>, devDependencies: Record<string, string> }} */
export const manifest = () => JSON.parse(readFileSync(`${root}package.json`, 'utf8'))

/**
 * `./backends/redis` is built from `backends/redis.ts` or `backends/redis/index.ts`; `./testing`, which names
 * neither folder, from `src/testing.ts` or `src/testing/index.ts`; `.` from `src/index.ts`.
 * @returns {Entry[]}
 */
export function entries() {
  const { name, exports } = manifest()
  return Object.keys(exports)
    .filter((subpath) => subpath !== './package.json')
    .map((subpath) => {
      const output = subpath === '.' ? 'index' : subpath.slice(2)
      const stem = /^(backends|proxies)\//.test(output) ? output : `src/${output}`
      const candidates = [`${stem}.ts`, `${stem}/index.ts`]
      const source = candidates.find((file) => existsSync(root + file)) ?? `${stem}.ts`
      return { subpath, specifier: name + subpath.slice(1), output, source }
    })
}

/** Specifiers to absolute source files, so that tests, benches and snippets import the package by its name. */
export const aliases = () =>
  Object.fromEntries(entries().map(({ specifier, source }) => [specifier, root + source]))

/** @param {string} folder @returns {string} */
function nearestManifest(folder) {
  if (existsSync(join(folder, 'package.json'))) return folder
  if (folder === dirname(folder)) throw new Error('Expected a package.json above this file')
  return nearestManifest(dirname(folder))
}

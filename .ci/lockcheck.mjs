/**
 * Fails when a lockfile, of the package or of bench/peers, could not be installed elsewhere: a platform's optional package is missing (`npm ci`
 * then refuses the whole lockfile), or the registry of its writer is recorded.
 */
import { readFileSync } from 'node:fs'
import { root } from './entries.mjs'

for (const lockfile of ['package-lock.json', 'bench/peers/package-lock.json']) {
  /** @type {{ packages: Record<string, { optionalDependencies?: Record<string, string>, resolved?: string }> }} */
  const { packages } = JSON.parse(readFileSync(root + lockfile, 'utf8'))
  const names = new Set(Object.keys(packages).map((path) => path.replace(/^.*node_modules\//, '')))
  const wanted = Object.values(packages).flatMap((entry) => Object.keys(entry.optionalDependencies ?? {}))
  const missing = [...new Set(wanted)].filter((name) => !names.has(name))
  const resolved = Object.keys(packages).filter((path) => packages[path]?.resolved !== undefined)

  if (missing.length > 0) console.error(`${lockfile} lacks ${missing.join(', ')}: pin a complete release.`)
  if (resolved.length > 0)
    console.error(
      `${lockfile} records a registry for ${resolved.length} packages: set omit-lockfile-registry-resolved.`,
    )
  if (missing.length + resolved.length > 0) process.exitCode = 1
}

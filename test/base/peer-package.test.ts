import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import { afterAll, expect, it } from 'vitest'
import { importError, isNotInstalled } from '../../src/base/peer-package.js'

const folder = mkdtempSync(join(tmpdir(), 'corral-peer-'))
afterAll(() => rmSync(folder, { recursive: true, force: true }))

function install(name: string, source: string): void {
  const dir = join(folder, 'node_modules', name)
  mkdirSync(dir, { recursive: true })
  writeFileSync(join(dir, 'package.json'), JSON.stringify({ name, main: 'index.cjs' }))
  writeFileSync(join(dir, 'index.cjs'), source)
}
install('broken', 'throw new Error(\'Dynamic require of "events" is not supported\')')
install('lacking', "require('its-own-dependency')")
const importer = join(folder, 'importer.mjs')
writeFileSync(importer, 'export const load = (name) => import(name)')

const ways: Readonly<Record<string, (name: string) => Promise<unknown>>> = {
  import: async (name) => (await import(/* @vite-ignore */ pathToFileURL(importer).href)).load(name),
  require: async (name) => createRequire(importer)(name),
}

it.each(Object.keys(ways))('only a package that is not there is told to be missing: %s', async (way) => {
  const failure = async (name: string) => {
    const error = await ways[way]?.(name).then(
      () => undefined,
      (reason: unknown) => reason,
    )
    expect(error).toBeDefined()
    const told = importError(name, 'redis() makes its connections', error)
    expect(told).toMatchObject({ code: 'ERR_OPTION', cause: error })
    expect(told.message.includes('not installed')).toBe(isNotInstalled(name, error))
    return told.message
  }
  expect(await failure('absent')).toBe(
    'redis() makes its connections with the package absent, which is not installed: npm install absent.',
  )
  expect(await failure('broken')).toMatch(/could not be loaded: Dynamic require of "events".*external/)
  expect(await failure('lacking')).toMatch(/could not be loaded: .*'its-own-dependency'/s)
})

import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { entries, root } from '../../.ci/entries.mjs'
import { makeProject, type Project, pack, peers } from './pack.js'

const compilers = [
  { version: '5.4.5', alias: 'typescript-5.4' },
  { version: '5.9.3', alias: 'typescript-5.9' },
  { version: '6.0.3', alias: 'typescript' },
  { version: '7.0.2', alias: 'typescript-7.0' },
]
const cases = compilers.flatMap((compiler) => [
  { ...compiler, skipLibCheck: true, moduleResolution: 'node16' },
  { ...compiler, skipLibCheck: false, moduleResolution: 'node16' },
  ...(compiler.version === '5.4.5' || compiler.version === '7.0.2'
    ? [{ ...compiler, skipLibCheck: true, moduleResolution: 'bundler' }]
    : []),
  { ...compiler, skipLibCheck: true, moduleResolution: 'node16', experimentalDecorators: true },
])

describe('a project that uses the packed package', () => {
  let project: Project
  beforeAll(async () => {
    const { tarball, remove } = await pack()
    project = await makeProject(tarball, { lend: [...peers(), '@types/node', 'undici-types'] })
    remove()
    // One program holds both: .mts resolves the package as ESM, .cts as CJS.
    for (const name of ['right', 'wrong', 'functions', 'decorators'])
      for (const extension of ['mts', 'cts'])
        project.write(
          `${name}.${extension}`,
          readFileSync(join(root, `test/package/consumers/${name}.ts`), 'utf8'),
        )
  }, 60_000)
  afterAll(() => project?.remove())

  it.concurrent.each(cases)(
    'compiles under TypeScript $version, $moduleResolution, skipLibCheck $skipLibCheck, legacy decorators $experimentalDecorators, and its mistakes do not',
    async ({ version, alias, ...options }) => {
      const compiler = join(root, 'node_modules', alias, 'bin/tsc')
      expect((await project.node(compiler, '--version')).output).toContain(version)
      const file = project.write(`tsconfig-${alias}-${Object.values(options).join('-')}.json`, {
        compilerOptions: {
          target: 'es2022',
          lib: ['es2022'],
          types: ['node'],
          strict: true,
          exactOptionalPropertyTypes: true,
          noEmit: true,
          module: options.moduleResolution === 'bundler' ? 'esnext' : 'node16',
          ...options,
        },
        include: options.moduleResolution === 'bundler' ? ['*.mts'] : ['*.mts', '*.cts'],
      })
      expect(await project.node(compiler, '--project', file)).toEqual({ code: 0, output: '' })
    },
    120_000,
  )

  // The resolution by default of `module: commonjs` until TypeScript 6. It does not read `exports`.
  it('finds the types of every entry under TypeScript 5.4.5, node10', async () => {
    const names = entries().map(({ specifier }, i) => ({ specifier, name: `entry${i}` }))
    const imports = names.map(({ specifier, name }) => `import * as ${name} from '${specifier}'`)
    const used = `export const all: object[] = [${names.map(({ name }) => name).join(', ')}]`
    project.write('node10.ts', [...imports, used].join('\n'))
    const options = { target: 'es2022', types: ['node'], strict: true, noEmit: true, module: 'commonjs' }
    const files = ['node10.ts', 'right.cts', 'wrong.cts']
    const file = project.write('tsconfig-node10.json', { compilerOptions: options, files })
    const compiler = join(root, 'node_modules/typescript-5.4/bin/tsc')
    expect(await project.node(compiler, '--project', file)).toEqual({ code: 0, output: '' })
  }, 120_000)
})

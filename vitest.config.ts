import { transform } from 'esbuild'
import { defineConfig, type Plugin } from 'vitest/config'
import { aliases } from './.ci/entries.mjs'

/** Vitest's own transformer cannot parse TC39 decorators yet; esbuild lowers them. */
const decorators: Plugin = {
  name: 'tc39-decorators',
  enforce: 'pre',
  async transform(code, id) {
    if (!/\.ts$/.test(id) || !/^\s*@[a-z]\w*[.(\s]/im.test(code.replace(/\/\*[\s\S]*?\*\//g, ''))) return null
    const { code: lowered, map } = await transform(code, {
      loader: 'ts',
      target: 'es2022',
      sourcefile: id,
      sourcemap: true,
    })
    return { code: lowered, map }
  },
}

export default defineConfig({
  plugins: [decorators],
  resolve: {
    alias: Object.entries(aliases()).map(([find, replacement]) => ({
      find: new RegExp(`^${find}$`),
      replacement,
    })),
  },
  test: {
    include: ['test/**/*.test.ts'],
    globalSetup: ['test/support/global-setup.ts'],
    environment: 'node',
    pool: 'forks',
    maxWorkers: '100%',
    maxConcurrency: 2,
    testTimeout: 30_000,
    hookTimeout: 30_000,
    reporters: ['default', ...(process.env.TEST_REPORT ? ['json'] : [])],
    ...(process.env.TEST_REPORT ? { outputFile: { json: process.env.TEST_REPORT } } : {}),
    typecheck: {
      include: ['test/**/*.test-d.ts'],
      tsconfig: './tsconfig.json',
      // By path: other TypeScript versions are installed beside this one, and any of them may own `.bin/tsc`.
      checker: 'node_modules/typescript-7.0/bin/tsc',
    },
    coverage: {
      provider: 'v8',
      include: ['src/**', 'backends/**', 'proxies/**'],
      reporter: ['text', 'json-summary'],
    },
  },
})

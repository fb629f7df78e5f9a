import { defineConfig } from 'tsup'
import { entries, manifest } from './.ci/entries.mjs'

const library = Object.fromEntries(entries().map(({ output, source }) => [output, source]))

export default defineConfig({
  entry: { ...library, cli: 'bench/encodings/command/index.ts' },
  format: ['esm', 'cjs'],
  target: 'node20',
  platform: 'node',
  // tsup splits ESM only unless told to: every CJS entry would then carry its own copy of the core's classes.
  splitting: true,
  // TypeScript 6 rejects the `baseUrl` that tsup sets.
  dts: { entry: library, compilerOptions: { ignoreDeprecations: '6.0' } },
  external: Object.keys(manifest().peerDependencies),
  silent: true,
  clean: true,
  removeNodeProtocol: false,
  esbuildOptions(options, { format }) {
    if (format !== 'cjs') return
    // To split CJS, tsup has esbuild write ESM and another tool turn that into CJS, which leaves `import.meta` in place
    // and makes closures of every `?.` and `??`, on the path of every cache hit. Done here first, neither is left.
    options.define = { ...options.define, 'import.meta.url': 'undefined' }
    options.supported = { 'nullish-coalescing': false, 'optional-chain': false }
  },
})

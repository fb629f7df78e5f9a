/** The layering of the library as rules: whoever breaks one reads the sentence that explains it. */
module.exports = {
  forbidden: [
    {
      name: 'no-cycles',
      comment: 'No cycles, type imports included.',
      severity: 'error',
      from: {},
      to: { circular: true },
    },
    {
      name: 'core-stands-alone',
      comment:
        "src/ imports its own files and Node's built-in modules: no backend, no proxy, no npm package.",
      severity: 'error',
      from: { path: '^src/' },
      to: { pathNot: '^src/', dependencyTypesNot: ['core'] },
    },
    {
      name: 'siblings-are-strangers',
      comment:
        'A backend or a proxy imports no other backend or proxy; files inside one folder may know each other.',
      severity: 'error',
      from: { path: '^(backends|proxies)/([^/]+?)(?:\\.ts)?(?:/|$)' },
      to: { path: '^(backends|proxies)/', pathNot: '^$1/$2(?:\\.ts$|/)' },
    },
    {
      name: 'index-is-for-users',
      comment: 'Nothing inside imports the package index: name the file that has what you need.',
      severity: 'error',
      from: { path: '^(src|backends|proxies)/' },
      to: { path: '^src/index\\.ts$' },
    },
    {
      name: 'dogpile-is-an-algorithm',
      comment: 'The dogpile is handed functions; it knows no backend.',
      severity: 'error',
      from: { path: '^src/dogpile' },
      to: { path: '^src/backend\\.ts$' },
    },
    {
      name: 'no-unresolvable',
      comment: 'Every import can be resolved.',
      severity: 'error',
      from: {},
      to: { couldNotResolve: true },
    },
  ],
  options: {
    tsPreCompilationDeps: true,
    tsConfig: { fileName: 'tsconfig.json' },
    doNotFollow: { path: 'node_modules' },
    enhancedResolveOptions: {
      exportsFields: ['exports'],
      conditionNames: ['import', 'require', 'node', 'default', 'types'],
    },
  },
}

/**
 * The doors between the rooms of the library. A rule that is broken prints the sentence that explains it.
 *
 * Each room may import the rooms that stand beside its name, and its own files. A path with a file means that file alone.
 */
const MAY = {
  base: [],
  ledger: ['base'],
  backend: ['base', 'ledger'],
  freshness: ['base', 'ledger', 'backend'],
  chain: ['base', 'ledger', 'backend'],
  wire: ['base', 'ledger', 'backend', 'chain'],
  creation: ['base', 'ledger', 'backend'],
  versions: ['base', 'ledger', 'creation'],
  dogpile: ['base', 'backend/lease.ts', 'creation'],
  events: ['base', 'ledger', 'creation'],
  dependencies: ['base', 'ledger', 'backend', 'chain', 'creation', 'versions'],
  functions: ['base', 'ledger', 'backend', 'creation', 'dependencies'],
  region: [
    'base',
    'ledger',
    'backend',
    'freshness',
    'chain',
    'creation',
    'dogpile',
    'dependencies',
    'events',
    'functions',
  ],
  settings: ['base', 'backend', 'chain', 'region'],
  signals: ['base', 'ledger', 'creation', 'dependencies', 'events', 'functions'],
  session: ['base', 'ledger', 'backend', 'creation', 'versions', 'dependencies', 'functions', 'region'],
  testing: ['base', 'ledger', 'backend', 'chain', 'creation', 'region'],
  integrations: [
    'base',
    'ledger',
    'backend',
    'freshness',
    'creation',
    'events',
    'dependencies',
    'functions',
    'region',
    'signals',
    'session',
  ],
}

/** The rooms of `src/` that are open to the folders beside it. */
const OUTSIDE = {
  backends: ['base', 'ledger', 'backend', 'signals/bus.ts'],
  proxies: [
    'base',
    'ledger',
    'backend',
    'freshness',
    'chain',
    'wire',
    'dependencies',
    'signals/bus.ts',
    'signals/bus-link.ts',
  ],
}

/** Rooms whose imports still contradict the table: their rules warn. */
const RED = []

const inside = (/** @type {string[]} */ rooms) =>
  `^src/(${rooms.map((room) => (room.endsWith('.ts') ? room.replace('.', '\\.') : `${room}/`)).join('|')})`

const severity = (/** @type {string} */ room) => (RED.includes(room) ? 'warn' : 'error')

const doors = [
  ...Object.entries(MAY).map(([room, others]) => ({
    name: `door-of-${room}`,
    comment: `src/${room} imports ${others.length > 0 ? `only ${others.join(', ')} and its own files` : 'only its own files'}.`,
    severity: severity(room),
    from: { path: `^src/${room}/` },
    to: { path: '^src/', pathNot: inside([room, ...others]) },
  })),
  ...Object.entries(OUTSIDE).map(([folder, rooms]) => ({
    name: `door-of-${folder}`,
    comment: `${folder}/ imports only ${rooms.join(', ')} of src/.`,
    severity: severity(folder),
    from: { path: `^${folder}/` },
    to: { path: '^src/', pathNot: inside(rooms) },
  })),
]

const LOOSE = { path: '^src/', pathNot: `^src/(index\\.ts$|(${Object.keys(MAY).join('|')})/)` }

module.exports = {
  forbidden: [
    ...doors,
    {
      name: 'no-loose-file',
      comment:
        'In src/ only index.ts stands outside the rooms. Add a room to the table, or move the file into one.',
      severity: 'error',
      from: LOOSE,
      to: {},
    },
    {
      name: 'no-loose-file-imported',
      comment:
        'In src/ only index.ts stands outside the rooms. Add a room to the table, or move the file into one.',
      severity: 'error',
      from: {},
      to: LOOSE,
    },
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
      name: 'integrations-are-strangers',
      comment:
        'An integration imports no other integration; those with a database share files of orm/, telemetry shares files of telemetry/.',
      severity: 'error',
      from: { path: '^src/integrations/((?:orm/)?[^/]+?)(?:\\.ts)?(?:/|$)' },
      to: {
        path: '^src/integrations/',
        pathNot:
          '^src/integrations/(?:$1|orm/(?:cascades|core|failed-commits|hooks|outbox|query-cache|reads|rows|units|written-tables)|telemetry/(?:counts|once))(?:\\.ts$|/)',
      },
    },
    {
      name: 'index-is-for-users',
      comment: 'Nothing inside imports an index. Import the file that declares the name.',
      severity: 'error',
      from: {},
      to: { path: '/index\\.ts$', pathNot: 'node_modules' },
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

import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import { afterAll, beforeAll, describe, expect, inject, it } from 'vitest'
import { entries } from '../../.ci/entries.mjs'
import { startRedis } from '../support/servers.js'
import { makeProject, type Project, pack, packUnbuilt, peers } from './pack.js'

/** The modules that an entry itself loads beside those of Node. The others load in a project where no peer is installed. */
const NEEDS: Record<string, readonly string[]> = {
  './backends/lmdb': ['lmdb'],
  './proxies/msgpack': ['msgpackr'],
}

const offered = entries().map(({ subpath, specifier }) => ({ specifier, needs: NEEDS[subpath] ?? [] }))
const formats = [
  { format: 'import', load: (specifier: string) => `await import('${specifier}')` },
  {
    format: 'require',
    load: (specifier: string) => `createRequire(process.cwd() + '/x.js')('${specifier}')`,
  },
] as const

/** Records which file loads which package, by either module system; `$` stands for the file to write to. */
const tracer = `
import { appendFileSync } from 'node:fs'
import Module, { register } from 'node:module'
const hooks = \`import { appendFileSync } from 'node:fs'
export async function resolve(specifier, context, next) {
  appendFileSync('$', context.parentURL + ' ' + specifier + '\\\\n')
  return next(specifier, context)
}\`
register('data:text/javascript,' + encodeURIComponent(hooks))
const load = Module._load
Module._load = function (specifier, parent, ...rest) {
  appendFileSync('$', parent?.filename + ' ' + specifier + '\\n')
  return load.call(this, specifier, parent, ...rest)
}
`

describe('the packed package', () => {
  let packed: Awaited<ReturnType<typeof pack>>
  let bare: Project
  let equipped: Project
  beforeAll(async () => {
    packed = await pack()
    ;[bare, equipped] = await Promise.all([
      makeProject(packed.tarball),
      makeProject(packed.tarball, { lend: peers() }),
    ])
  }, 60_000)
  afterAll(() => {
    for (const thing of [bare, equipped, packed]) thing?.remove()
  })

  /** The JSON that a script printed. */
  const evaluate = async (project: Project, script: string, ...flags: string[]): Promise<unknown> => {
    const file = project.write('script.mjs', `import { createRequire } from 'node:module'\n${script}`)
    const { code, output } = await project.node(...flags, file)
    expect(code, output).toBe(0)
    return JSON.parse(output)
  }

  it('contains the build, the docs, the manifest, the licence and the README, and nothing else', () => {
    const others = packed.files.filter(
      (file) => !/^dist\/.+\.(c?js|d\.c?ts)$|^docs\/.+\.(md|png)$/.test(file),
    )
    expect(others.sort()).toEqual(['LICENSE', 'README.md', 'package.json'])
    expect(packed.files).toContain('docs/stampedes.md')
  })

  it('contains the build although nothing was built before', { timeout: 600_000 }, async () => {
    const files = await packUnbuilt()
    const built = packed.files.filter((file) => file.startsWith('dist/') && !file.includes('chunk'))
    expect(files).toEqual(expect.arrayContaining(built))
  })

  it('brings no other package along', () => {
    expect(readdirSync(join(bare.folder, 'node_modules')).filter((name) => !name.startsWith('.'))).toEqual([
      'corral',
    ])
  })

  describe.each(offered)('$specifier', ({ specifier, needs }) => {
    it('offers the same names to import and to require', async () => {
      const names = await evaluate(
        equipped,
        `const names = (module) => Object.keys(module).filter((name) => !['default', 'module.exports'].includes(name)).sort()
        console.log(JSON.stringify([names(${formats[0].load(specifier)}), names(${formats[1].load(specifier)})]))`,
      )
      const [imported, required] = names as [string[], string[]]
      expect(imported.length).toBeGreaterThan(0)
      expect(imported).not.toContain('default')
      expect(required).toEqual(imported)
    })

    it.each(formats)('loads only the files that it needs by $format', async ({ load }) => {
      const folder = mkdtempSync(join(tmpdir(), 'corral-trace-'))
      try {
        const trace = join(folder, 'trace')
        const project = needs.length === 0 ? bare : equipped
        const hook = project.write('tracer.mjs', tracer.replaceAll('$', trace))
        await evaluate(project, `${load(specifier)}\nconsole.log(true)`, '--import', hook)
        const loads = readFileSync(trace, 'utf8')
          .split('\n')
          .map((line) => line.split(' '))
        expect(loads.map(([, name]) => name)).toContain(specifier)
        // The modules that a peer loads in its turn do not count.
        const ours = loads.filter(([parent]) => parent?.includes('/node_modules/corral/'))
        const packages = ours.map(([, name = '']) => name).filter((name) => !/^(node:|\.)/.test(name))
        expect([...new Set(packages.map((name) => name.split('/')[0]))]).toEqual([...needs])
      } finally {
        rmSync(folder, { recursive: true, force: true })
      }
    })
  })

  describe('as ESM and as CJS in one process', () => {
    const both = `
      const require = createRequire(import.meta.url)
      const esm = { ...(await import('corral')), ...(await import('corral/backends/memory')) }
      const cjs = { ...require('corral'), ...require('corral/backends/memory') }
      const failure = (copy) => { try { copy.wrap(null) } catch (error) { return error } }`

    it('has one NO_VALUE', async () => {
      expect(
        await evaluate(
          bare,
          `${both}\nconsole.log(esm.NO_VALUE === cjs.NO_VALUE && esm.makeRegion !== cjs.makeRegion)`,
        ),
      ).toBe(true)
    })

    it('recognises the errors of the other copy by their code', async () => {
      const script = `${both}
        const errors = [failure(esm), failure(cjs)]
        const known = [esm, cjs].flatMap((copy) => errors.map((error) => copy.CorralError.is(error, 'ERR_CHAIN')))
        console.log(JSON.stringify([known, errors[0] instanceof cjs.CorralError, esm.CorralError.is(new Error('other'))]))`
      expect(await evaluate(bare, script)).toEqual([[true, true, true, true], false, false])
    })

    it('shows in either the names that are written, not those of the bundler', async () => {
      const script = `${both}
        const { inspect } = await import('node:util')
        const shown = [esm, cjs].map((copy) => {
          const calls = [
            () => copy.makeRegion({ asyncCreationRunner: copy.inBackground }),
            () => copy.makeRegion({ functionKeyGenerator: copy.optionsKeyGenerator }),
            () => copy.mapKeys(copy.whenLongerThan),
          ]
          const called = calls.map((call) => { try { call() } catch ({ message }) { return /call it: (\\w+)/.exec(message)[1] } })
          return [copy.CorralError.name, inspect(failure(copy)).split(':')[0], ...called]
        })
        console.log(JSON.stringify(shown))`
      const names = ['CorralError', 'CorralError', 'inBackground', 'optionsKeyGenerator', 'whenLongerThan']
      expect(await evaluate(bare, script)).toEqual([names, names])
    })

    it('makes regions over the backends of the other copy', async () => {
      const script = `${both}
        const region = esm.makeRegion({ backend: cjs.wrap(cjs.memory()) })
        const values = [await region.getOrCreate('a', () => 1), await region.getOrCreate('a', () => 2), region.peek('a'), region.peek('b') === cjs.NO_VALUE]
        console.log(JSON.stringify(values))`
      expect(await evaluate(bare, script)).toEqual([1, 1, 1, true])
    })

    const plain = `
      const plain = (close = () => {}) => {
        const map = new Map()
        return esm.defineBackend({ name: 'plain', get: (k) => map.get(k), set: (k, v) => void map.set(k, v), delete: (k) => void map.delete(k), close })
      }`

    it.each([
      ['ESM', 'CJS'],
      ['CJS', 'ESM'],
    ])('an entry of %s dies when %s invalidates its region within the same millisecond', async (...order) => {
      const script = `${both}${plain}
        const [writing, invalidating] = ${JSON.stringify(order)}.map((format) => ({ ESM: esm, CJS: cjs })[format])
        let lost = 0
        for (const mode of ['hard', 'soft'])
          for (let i = 0; i < 200; i++) {
            const backend = plain()
            const [writer, invalidator] = [writing, invalidating].map(({ makeRegion }) => makeRegion({ name: 'x', backend }))
            // More stamps than the milliseconds in which they are taken.
            for (let j = 0; j < 10; j++) await writer.set('warm' + j, 1)
            await writer.set('k', 'old')
            await invalidator.invalidate(mode)
            for (const region of [writer, invalidator]) if ((await region.get('k')) !== esm.NO_VALUE) lost++
            await writer.set('k', 'new')
            if ((await invalidator.get('k')) !== 'new') lost++
          }
        console.log(lost)`
      expect(await evaluate(bare, script)).toBe(0)
    })

    it.each([
      ['ESM', 'CJS'],
      ['CJS', 'ESM'],
    ])('the last region of %s leaves a backend open that a region of %s uses', async (...order) => {
      const script = `${both}${plain}
        const [first, second] = ${JSON.stringify(order)}.map((format) => ({ ESM: esm, CJS: cjs })[format])
        let closed = 0
        const backend = plain(() => void closed++)
        const [one, two] = [first.makeRegion({ name: 'one', backend }), second.makeRegion({ name: 'two', backend })]
        const seen = []
        await one.close()
        seen.push(closed, await two.set('k', 1), await two.get('k'))
        await two.close()
        seen.push(closed)
        console.log(JSON.stringify(seen))`
      expect(await evaluate(bare, script)).toEqual([0, 'stored', 1, 1])
    })

    it.each([
      ['ESM', 'CJS'],
      ['CJS', 'ESM'],
    ])('a region of %s knows the registrations, methods and codecs of %s', async (...order) => {
      const script = `${both}${plain}
        const [home, guest] = ${JSON.stringify(order)}.map((format) => ({ ESM: esm, CJS: cjs })[format])
        guest.registerBackend('plain', () => plain())
        guest.registerProxy('upper', () => guest.mapKeys((key) => key.toUpperCase()))
        const region = home.makeRegion({ name: 'r' }).configureFromConfig({ backend: 'plain', proxies: 'upper' }, '')
        const seen = [await region.set('a', 1), await region.get('a')]
        class Shop { async price() { return 1 } }
        const context = { kind: 'method', name: 'price', static: false, private: false, access: {}, metadata: {}, addInitializer() {} }
        Shop.prototype.price = region.cacheOnArguments({ namespace: 'p', self: 'shared' })(Shop.prototype.price, context)
        const shop = new Shop()
        await shop.price()
        seen.push(await guest.methodOf(shop, 'price').get())
        const codec = (name) => ({ id: 200, name, encode: () => new Uint8Array(), decode: () => 1 })
        guest.defineCodec(codec('theirs'))
        try { home.defineCodec(codec('ours')) } catch ({ code }) { seen.push(code) }
        console.log(JSON.stringify(seen))`
      expect(await evaluate(bare, script)).toEqual(['stored', 1, 1, 'ERR_OPTION'])
    })

    it.each([
      ['ESM', 'CJS'],
      ['CJS', 'ESM'],
    ])('has in a creation of %s the names that the code of %s declares', async (...order) => {
      const script = `${both}
        const { dependencies } = await import('corral/proxies/dependencies')
        const [home, guest] = ${JSON.stringify(order)}.map((format) => ({ ESM: esm, CJS: cjs })[format])
        const region = home.makeRegion({ name: 'r', backend: home.wrap(home.memory(), dependencies()) })
        let row = 'old'
        const load = (id) => { guest.dependsOn(guest.dep.id('row', id)); return row }
        const cached = region.cacheOnArguments({ namespace: 'n' })(async (id) => load(id))
        const seen = [await cached(5)]
        row = 'new'
        seen.push(await cached(5))
        await region.invalidateDependencies(home.dep.id('row', 5))
        seen.push(await cached(5))
        console.log(JSON.stringify(seen))`
      expect(await evaluate(bare, script)).toEqual(['old', 'old', 'new'])
    })

    it.each([
      ['ESM', 'CJS'],
      ['CJS', 'ESM'],
    ])(
      'a transaction of %s holds back the invalidations of a broker of %s, until its commit',
      async (...order) => {
        const script = `${both}
        const signals = { ESM: await import('corral/signals'), CJS: require('corral/signals') }
        const { dependencies } = await import('corral/proxies/dependencies')
        const [outer, inner] = ${JSON.stringify(order)}.map((format) => signals[format])
        const region = esm.makeRegion({ name: 'r', backend: esm.wrap(esm.memory(), dependencies()) })
        const cached = region.cacheOnArguments({ namespace: 'n', dependencies: (id) => esm.dep.id('book', id) })(async () => 'v')
        await cached(1)
        const books = inner.broker('book', { regions: [region], id: ({ id }) => id })
        const seen = []
        let told = 0
        region.on('invalidate', () => void told++)
        await outer.afterCommit(async () => {
          await books.apply({ id: 1 }, () => {})
          // Marked already, and invalidated after the commit.
          seen.push(await cached.get(1) === esm.NO_VALUE, told)
        })
        seen.push(await cached.get(1) === esm.NO_VALUE, told)
        console.log(JSON.stringify(seen))`
        expect(await evaluate(bare, script)).toEqual([true, 0, true, 1])
      },
    )

    it.each([
      ['ESM', 'CJS'],
      ['CJS', 'ESM'],
    ])(
      'checks in a region of %s a version that %s declares, once in a session of either',
      async (...order) => {
        const script = `${both}
        const { dependencies } = await import('corral/proxies/dependencies')
        const sessions = { ESM: (await import('corral/session')).session, CJS: require('corral/session').session }
        const order = ${JSON.stringify(order)}
        const [home, guest] = order.map((format) => ({ ESM: esm, CJS: cjs })[format])
        let now = 1, asked = 0
        const schema = guest.dep.version('schema', () => { asked++; return now })
        const region = home.makeRegion({ name: 'r', backend: home.wrap(home.memory(), dependencies()) })
        const cached = region.cacheOnArguments({ namespace: 'n', dependencies: () => schema() })(async () => now)
        const seen = [await cached()]
        now = 2
        seen.push(await cached())
        asked = 0
        for (const format of order) await sessions[format].run(async () => {
          await cached()
          now++
          seen.push(await cached())
          sessions[format === 'ESM' ? 'CJS' : 'ESM'].forget()
          seen.push(await cached())
        })
        console.log(JSON.stringify([seen, asked]))`
        expect(await evaluate(bare, script)).toEqual([[1, 2, 2, 3, 3, 4], 4])
      },
    )
  })

  describe.skipIf(inject('servers').redis === null)('in three copies in one process, over one Redis', () => {
    it('shares dependencies, whichever copy declares, reads or invalidates them', async () => {
      const server = await startRedis()
      const second = await makeProject(packed.tarball, { lend: peers() })
      const names = ['corral', 'corral/backends/redis', 'corral/proxies/json', 'corral/proxies/dependencies']
      const again = second.write('again.mjs', names.map((name) => `export * from '${name}'`).join('\n'))
      const script = `
        const require = createRequire(import.meta.url)
        const names = ${JSON.stringify(names)}
        const copies = [
          Object.assign({}, ...(await Promise.all(names.map((name) => import(name))))),
          Object.assign({}, ...names.map((name) => require(name))),
          await import(${JSON.stringify(pathToFileURL(again).href)}),
        ]
        const [one, two, three] = copies
        const apart = new Set(copies.map(({ makeRegion }) => makeRegion)).size
        const opened = []
        const open = (copy, name) => {
          const backend = copy.wrap(copy.redis('redis://127.0.0.1:${server.port}'), copy.json(), copy.dependencies())
          const region = copy.makeRegion({ name, backend, expirationTime: '1h' })
          opened.push(region)
          return region
        }
        const seen = []
        for (const home of copies) for (const guest of copies) {
          const third = copies.find((copy) => copy !== home && copy !== guest)
          const name = 'rows ' + copies.indexOf(home) + copies.indexOf(guest)
          const [mine, theirs, pages] = [open(home, name), open(guest, name), open(third, name + ' pages')]
          const here = (value) => value !== three.NO_VALUE
          const row = mine.cacheOnArguments({ namespace: name, group: { user: ([id]) => id } })(async (id) => {
            guest.dependsOn(third.dep.id('row', id))
            return 'row ' + id
          })
          const page = pages.cacheOnArguments({ namespace: name + ' page' })(async (id) => '<' + (await row(id)) + '>')
          const state = async () => [here(await theirs.get(row.key(1))), here(await pages.get(page.key(1)))]
          await page(1)
          const states = [await state()]
          await theirs.invalidateDependencies(guest.dep.id('row', 1))
          states.push(await state())
          await page(1)
          await third.makeRegion({ name: 'any', backend: third.wrap(third.redis('redis://127.0.0.1:${server.port}'), third.json(), third.dependencies()) })
            .invalidateDependencies(third.dep.group('user', '1')).then(async () => states.push(await state()))
          await page(1)
          await mine.getOrCreate(name + ' late', async () => {
            await theirs.invalidateDependencies(guest.dep.tag('late'))
            guest.dependsOn(third.dep.tag('late'))
            return 'late'
          })
          states.push([here(await theirs.get(name + ' late')), (await theirs.explain(row.key(1))).verdict === 'hit'])
          seen.push(JSON.stringify(states))
        }
        console.log(JSON.stringify([apart, seen.length, [...new Set(seen)]]))
        process.exit(0)`
      try {
        expect(await evaluate(equipped, script)).toEqual([
          3,
          9,
          ['[[true,true],[false,false],[false,false],[false,true]]'],
        ])
      } finally {
        second.remove()
        await server.stop()
      }
    }, 120_000)
  })

  it.each(offered.filter(({ needs }) => needs.length > 0))(
    '$specifier says which package it misses',
    async ({ specifier, needs }) => {
      for (const [type, load] of [
        ['module', `await import('${specifier}')`],
        ['commonjs', `require('${specifier}')`],
      ]) {
        const { code, output } = await bare.node(`--input-type=${type}`, '-e', `${load}`)
        expect(code).not.toBe(0)
        expect(output).toMatch(new RegExp(`Cannot find (package|module) '${needs[0]}`))
      }
    },
  )
})

import { execFileSync, spawn } from 'node:child_process'
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { connect } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { gunzipSync } from 'node:zlib'
import memjs from 'memjs'
import { afterAll, describe, expect, inject, it } from 'vitest'
import { ring } from '../../../backends/memcached/client/ring.js'
import { type MemcachedOptions, memcached } from '../../../backends/memcached/index.js'
import { settingsOf } from '../../../backends/memcached/options.js'
import type { Backend, Bytes } from '../../../src/index.js'
import { type Server, startMemcached } from '../../support/servers.js'
import { sleep } from '../../support/waiting.js'
import { bytes, text } from './start.js'

const named = (...names: string[]) => names.map((name) => ({ name }))
const KEYS = Array.from({ length: 20_000 }, (_, i) => `users:${i}`)

describe('the ring of servers', () => {
  const four = named('a:11211', 'b:11211', 'c:11211', 'd:11211')

  it('spreads keys evenly', () => {
    const serverOf = ring(four)
    const counts = new Map<string, number>()
    for (const key of KEYS) counts.set(serverOf(key).name, (counts.get(serverOf(key).name) ?? 0) + 1)
    for (const count of counts.values()) expect(Math.abs(count - 5_000)).toBeLessThan(300)
  })

  it('moves a fifth of the keys to a fifth server, and none between the others', () => {
    const [smaller, larger] = [ring(four), ring([...named('e:11211'), ...four])]
    const moved = KEYS.filter((key) => smaller(key).name !== larger(key).name)
    expect(moved.length / KEYS.length).toBeCloseTo(0.2, 1)
    for (const key of moved) expect(larger(key).name).toBe('e:11211')
  })

  it('does not depend on the order of the list', () => {
    const [one, other] = [ring(four), ring([...four].reverse())]
    for (const key of KEYS.slice(0, 1_000)) expect(one(key).name).toBe(other(key).name)
  })
})

describe('the options of memcached()', () => {
  const names = (given: Parameters<typeof settingsOf>[0]) =>
    settingsOf(given).addresses.map(({ name }) => name)

  it('take servers in every form', () => {
    expect(names('localhost')).toEqual(['localhost:11211'])
    expect(names('a:1, b:2')).toEqual(['a:1', 'b:2'])
    expect(names(['a', '[::1]:5', '10.0.0.1:6', '/run/memcached.sock'])).toEqual([
      'a:11211',
      '[::1]:5',
      '10.0.0.1:6',
      '/run/memcached.sock',
    ])
    expect(settingsOf('me:p@ss:word@a:1').addresses[0]).toMatchObject({
      name: 'a:1',
      credentials: { username: 'me', password: 'p@ss:word' },
    })
  })

  it('take a client of memjs', () => {
    const client = memjs.Client.create('me:secret@a:1,b:2')
    expect(settingsOf(client).addresses).toMatchObject([
      { name: 'a:1', credentials: { username: 'me', password: 'secret' } },
      { name: 'b:2', credentials: undefined },
    ])
    expect(names({ servers: client, timeout: '2s' })).toEqual(['a:1', 'b:2'])
  })

  it('take the patience of a client of memjs, unless told otherwise', () => {
    const patience = (given: Parameters<typeof settingsOf>[0]) => settingsOf(given).timeout
    expect(patience(memjs.Client.create('a:1', { timeout: 1.5 }))).toBe(1500)
    expect(patience(memjs.Client.create('a:1'))).toBe(500)
    expect(patience({ servers: memjs.Client.create('a:1', { timeout: 1.5 }), timeout: 70 })).toBe(70)
  })

  it.each<[string, Parameters<typeof memjs.Client.create>[1]]>([
    ['failover', { failover: true }],
    ['expires', { expires: 60 }],
    ['serializer', { serializer: { serialize() {}, deserialize() {} } as never }],
  ])('refuse a client of memjs that would be misunderstood: %s', (name, options) => {
    expect(() => memcached(memjs.Client.create('a:1,b:2', options))).toThrow(
      expect.objectContaining({
        code: 'ERR_OPTION',
        message: expect.stringContaining(`without \`${name}\``),
      }),
    )
  })

  it('take a client of memjs that could fail over, had it anywhere to go', () => {
    expect(names(memjs.Client.create('a:1', { failover: true }))).toEqual(['a:1'])
  })

  it.each<[string, unknown]>([
    ['nothing', undefined],
    ['no server', []],
    ['an empty one', ''],
    ['a port that is none', 'a:99999'],
    ['a port of letters', 'a:b'],
    ['the same twice', 'a,a:11211'],
    ['a number', [11211]],
    ['a port that is none, from memjs', { servers: [{ host: 'a', port: 'b' }] }],
    ['half of the credentials', { servers: 'a', username: 'me' }],
    ['an unknown option', { servers: 'a', retries: 3 }],
    ['no time at all', { servers: 'a', timeout: 0 }],
    ['a list as TLS', { servers: 'a', tls: [] }],
    ['text as TLS', { servers: 'a', tls: 'true' }],
    ['no deadline', { servers: 'a', timeout: Number.POSITIVE_INFINITY }],
  ])('refuse %s', (_, given) => {
    expect(() => memcached(given as MemcachedOptions)).toThrow(
      expect.objectContaining({ code: 'ERR_OPTION' }),
    )
  })

  it('never show a password', () => {
    expect(() => memcached('me:secret@a:b:c')).toThrow(
      expect.not.objectContaining({ message: expect.stringMatching(/secret/) }),
    )
  })
})

describe.skipIf(inject('servers').memcached === null)('servers of memcached', () => {
  const stops: (() => unknown)[] = []
  afterAll(async () => {
    for (const stop of stops.reverse()) await stop()
  })
  const start = async (options: Parameters<typeof startMemcached>[0] = {}): Promise<Server> => {
    const server = await startMemcached(options)
    stops.push(() => server.stop())
    return server
  }
  const open = (options: MemcachedOptions): Backend<Bytes> => {
    const backend = memcached(options)
    stops.push(() => backend.close())
    return backend
  }
  const memcachedOver = (client: memjs.Client): Backend<Bytes> => {
    const backend = memcached(client)
    stops.push(() => backend.close())
    return backend
  }
  const folder = () => {
    const path = mkdtempSync(join(tmpdir(), 'corral-memcached-'))
    stops.push(() => rmSync(path, { recursive: true, force: true }))
    return path
  }

  it('share the keys; one that dies takes only its own with it, and none of them elsewhere', async () => {
    const servers = [await start(), await start(), await start()] as const
    const backend = open({
      servers: servers.map(({ port }) => `127.0.0.1:${port}`),
      timeout: 300,
      probe: 100,
    })
    const keys = KEYS.slice(0, 300)
    await backend.setMulti(keys.map((key) => [key, bytes(key), {}]))
    expect((await backend.getMulti(keys)).map((value) => text(value))).toEqual(keys)
    await servers[1].kill('SIGKILL')
    const read = async () => Promise.allSettled(keys.map(async (key) => text(await backend.get(key))))
    const results = await read()
    const lost = results.filter(({ status }) => status === 'rejected').length
    expect(lost).toBeGreaterThan(60)
    expect(lost).toBeLessThan(140)
    results.forEach((result, i) => {
      if (result.status === 'fulfilled') expect(result.value).toBe(keys[i])
    })
    const began = performance.now()
    await read()
    expect(performance.now() - began).toBeLessThan(250)
  })

  it('are reached through a Unix socket', async () => {
    const path = join(folder(), 'socket')
    const binary = inject('servers').memcached
    if (binary === null) return
    const user = process.getuid?.() === 0 ? ['-u', 'root'] : []
    const server = spawn(binary.path, ['-s', path, ...user], {
      env: { ...process.env, ...binary.env },
      stdio: 'ignore',
    })
    stops.push(() => server.kill('SIGKILL'))
    // The file of a socket exists before the server listens on it.
    const listens = () =>
      new Promise<boolean>((resolve) => {
        const probe = connect(path, () => (probe.destroy(), resolve(true))).once('error', () =>
          resolve(false),
        )
      })
    while (!existsSync(path) || !(await listens())) await sleep(5)
    const backend = open({ servers: path })
    await backend.set('key', bytes('value'), {})
    expect(text(await backend.get('key'))).toBe('value')
  })

  it('take SASL credentials', async (context) => {
    const config = folder()
    writeFileSync(join(config, 'sasldb'), gunzipSync(readFileSync(new URL('./sasldb.gz', import.meta.url))))
    writeFileSync(join(config, 'memcached.conf'), `mech_list: plain\nsasldb_path: ${config}/sasldb\n`)
    const binary = inject('servers').memcached
    if (binary === null) return
    let server: Server
    try {
      server = await start({
        args: ['-S'],
        ready: 'connection',
        binary: { ...binary, env: { ...binary.env, SASL_CONF_PATH: config } },
      })
    } catch (error) {
      // It needs the SASL plug-ins of the system (libsasl2-modules).
      return context.skip(`memcached does not start with SASL here: ${String(error)}`)
    }
    const servers = `127.0.0.1:${server.port}`
    const backend = open({ servers, username: 'user@corral', password: 'secret' })
    const { token } = await backend.acquire('key', 1_000)
    expect(await backend.set('key', bytes('value'), { token: token as string })).toBe('stored')
    expect(text(await backend.get('key'))).toBe('value')
    const client = memjs.Client.create(servers, { username: 'user@corral', password: 'secret' })
    expect(text(await memcachedOver(client).get('key'))).toBe('value')
    await expect(
      open({ servers, username: 'user@corral', password: 'wrong' }).get('key'),
    ).rejects.toMatchObject({
      code: 'ERR_UNAVAILABLE',
      message: expect.stringMatching(/refused `username` and `password`/),
    })
    await expect(open({ servers }).get('key')).rejects.toMatchObject({
      message: expect.stringMatching(/Give memcached\(\) `username`/),
    })
  })

  it('say so when credentials are given to one that takes none', async () => {
    const { port } = await start()
    const backend = open({ servers: `127.0.0.1:${port}`, username: 'me', password: 'secret' })
    await expect(backend.get('key')).rejects.toMatchObject({
      message: expect.stringMatching(/does not take credentials/),
    })
  })

  it('are reached over TLS, and their certificate is verified', async (context) => {
    const path = folder()
    const [key, certificate] = [join(path, 'key.pem'), join(path, 'cert.pem')]
    try {
      const subject = ['-subj', '/CN=localhost', '-addext', 'subjectAltName=DNS:localhost,IP:127.0.0.1']
      execFileSync(
        'openssl',
        [
          'req',
          '-x509',
          '-newkey',
          'rsa:2048',
          '-nodes',
          '-days',
          '2',
          '-keyout',
          key,
          '-out',
          certificate,
          ...subject,
        ],
        { stdio: 'ignore' },
      )
    } catch {
      return context.skip('openssl is needed to make a certificate')
    }
    const { port } = await start({
      args: ['-Z', '-o', `ssl_chain_cert=${certificate},ssl_key=${key}`],
      ready: 'connection',
    })
    for (const host of ['localhost', '127.0.0.1']) {
      const backend = open({ servers: `${host}:${port}`, tls: { ca: readFileSync(certificate) } })
      await backend.set('key', Buffer.alloc(100_000, 5), {})
      expect((await backend.get('key'))?.length).toBe(100_000)
    }
    await expect(open({ servers: `127.0.0.1:${port}`, tls: true }).get('key')).rejects.toMatchObject({
      code: 'ERR_UNAVAILABLE',
      message: expect.stringMatching(/self.signed/),
    })
    await expect(open({ servers: `127.0.0.1:${port}`, timeout: 200 }).get('key')).rejects.toThrow()
  })
})

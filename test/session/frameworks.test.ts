/** The middlewares in the real frameworks, which are installed beside the project where the registry can be reached. */
import { once } from 'node:events'
import { createServer, type RequestListener, type Server } from 'node:http'
import { createRequire } from 'node:module'
import type { AddressInfo } from 'node:net'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest'
import { session, versioned } from '../../src/session/index.js'
import { fetchPackage } from '../proxies/compress/fetched-packages.js'
import { sleep } from '../support/waiting.js'

/** A server's work for every request: it calls a versioned function twice, with time in between. */
type Answer = () => Promise<unknown>

interface Running {
  readonly port: number
  stop(): Promise<unknown> | unknown
}
type Start = (load: (name: string) => unknown, answer: Answer) => Promise<Running>

const called = <T>(value: unknown): T => value as T
const listening = async (server: Server): Promise<Running> => {
  if (!server.listening) await once(server, 'listening')
  return {
    port: (server.address() as AddressInfo).port,
    stop: () => {
      server.closeAllConnections()
      server.close()
    },
  }
}

interface ExpressApp {
  use(...handlers: unknown[]): void
  all(
    path: string,
    handler: (
      request: unknown,
      response: { json(value: unknown): void },
      next: (error: unknown) => void,
    ) => void,
  ): void
  listen(port: number, host: string): Server
}
const express: Start = async (load, answer) => {
  const make = called<(() => ExpressApp) & { json(): unknown }>(load('express'))
  const app = make()
  app.use(make.json())
  app.use(session.express())
  app.all('/', (_request, response, next) => {
    answer().then((value) => response.json(value), next)
  })
  return listening(app.listen(0, '127.0.0.1'))
}

const frameworks: Record<string, { readonly spec: string; readonly start: Start }> = {
  'Express 4': { spec: 'express@4', start: express },
  'Express 5': { spec: 'express@5', start: express },
  Fastify: {
    spec: 'fastify@5',
    async start(load, answer) {
      interface App {
        register(plugin: unknown): void
        all(path: string, handler: Answer): void
        listen(options: object): Promise<unknown>
        close(): Promise<unknown>
        readonly server: Server
      }
      const app = called<() => App>(load('fastify'))()
      app.register(session.fastify())
      app.all('/', answer)
      await app.listen({ port: 0, host: '127.0.0.1' })
      return { ...(await listening(app.server)), stop: () => app.close() }
    },
  },
  Koa: {
    spec: 'koa@3',
    async start(load, answer) {
      interface App {
        use(middleware: unknown): void
        callback(): RequestListener
      }
      const found = load('koa') as { default?: new () => App } & (new () => App)
      const app = new (found.default ?? found)()
      app.use(session.koa())
      app.use(async (context: { body: unknown }) => {
        context.body = await answer()
      })
      return listening(createServer(app.callback()).listen(0, '127.0.0.1'))
    },
  },
  Hono: {
    spec: '@hono/node-server@1',
    async start(load, answer) {
      interface App {
        use(middleware: unknown): void
        all(path: string, handler: (context: { json(value: unknown): unknown }) => unknown): void
        readonly fetch: unknown
      }
      const { Hono } = called<{ Hono: new () => App }>(load('hono'))
      const { serve } = called<{ serve(options: object): Server }>(load('@hono/node-server'))
      const app = new Hono()
      app.use(session.hono())
      app.all('/', async (context) => context.json(await answer()))
      return listening(serve({ fetch: app.fetch, port: 0, hostname: '127.0.0.1' }))
    },
  },
}

for (const [name, { spec, start }] of Object.entries(frameworks))
  describe(`the session middleware of ${name}`, () => {
    const state = { version: 1, asked: 0, made: 0, failing: false }
    const cached = versioned({
      namespace: `framework ${name}`,
      version: async () => {
        state.asked++
        return state.version
      },
    })(async () => ++state.made)
    const left: Promise<boolean>[] = []
    const answer = async () => {
      const first = await cached()
      // The version changes while the request is answered; the request keeps its version.
      state.version++
      await sleep(5)
      const again = await cached()
      const span = session.current()
      left.push(
        new Promise((resolve) => {
          const look = () =>
            span?.over === true ? resolve(session.current() === undefined) : setTimeout(look, 5)
          setTimeout(look, 5)
        }),
      )
      if (state.failing) throw new Error('no answer')
      return { first, again, asked: state.asked, inSession: span !== undefined }
    }
    let running: Running | undefined
    let problem = ''
    beforeAll(async () => {
      const fetched = await fetchPackage(spec)
      if ('problem' in fetched) {
        if (!fetched.unreachable) throw new Error(`${spec}: ${fetched.problem}`)
        problem = fetched.problem
        return
      }
      running = await start(createRequire(pathToFileURL(join(fetched.folder, 'index.js'))), answer)
    }, 320_000)
    afterAll(() => running?.stop())

    const ask = async (body?: object) => {
      const response = await fetch(
        `http://127.0.0.1:${running?.port}/`,
        body && {
          method: 'POST',
          body: JSON.stringify(body),
          headers: { 'content-type': 'application/json' },
        },
      )
      expect(response.status).toBe(200)
      return (await response.json()) as { first: number; again: number; asked: number; inSession: boolean }
    }

    it('asks for the version once in a request, and again in the next', async ({ skip }) => {
      if (running === undefined) return skip(`the registry cannot be reached: ${problem}`)
      const one = await ask()
      expect(one).toMatchObject({ again: one.first, inSession: true, asked: 1 })
      const two = await ask()
      expect(two).toMatchObject({ first: one.first + 1, again: one.first + 1, asked: 2 })
    })

    it('keeps a request with a body in its session, and those of several apart', async ({ skip }) => {
      if (running === undefined) return skip(`the registry cannot be reached: ${problem}`)
      const before = state.asked
      const all = await Promise.all([1, 2, 3, 4].map((n) => ask({ text: 'x'.repeat(20_000 * n) })))
      for (const { first, again, inSession } of all)
        expect({ again, inSession }).toEqual({ again: first, inSession: true })
      expect(state.asked).toBe(before + 4)
    })

    it('ends when the handler fails, which is the framework’s to answer', async ({ skip }) => {
      if (running === undefined) return skip(`the registry cannot be reached: ${problem}`)
      const quiet = vi.spyOn(console, 'error').mockImplementation(() => {})
      state.failing = true
      const response = await fetch(`http://127.0.0.1:${running.port}/`)
      await response.text()
      state.failing = false
      quiet.mockRestore()
      expect(response.status).toBe(500)
      expect(await left.at(-1)).toBe(true)
      const { asked } = state
      expect((await ask()).asked).toBe(asked + 1)
    })

    it('ends when the request does: work that it left behind is in no session', async ({ skip }) => {
      if (running === undefined) return skip(`the registry cannot be reached: ${problem}`)
      expect(left.length).toBeGreaterThan(5)
      expect(await Promise.all(left)).toEqual(left.map(() => true))
    })
  })

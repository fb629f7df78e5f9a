/** The middlewares on Node's own server: a client that is gone, and a body that arrives in events of its connection. */
import { once } from 'node:events'
import { createServer, get, type RequestListener, request } from 'node:http'
import type { AddressInfo } from 'node:net'
import { afterEach, describe, expect, it } from 'vitest'
import { type Session, session } from '../../src/session/index.js'
import { deferred, gate } from '../support/waiting.js'

type Hook = Parameters<Parameters<ReturnType<typeof session.fastify>>[0]['addHook']>[1]

/** The plugin's hooks, to be called as Fastify calls them. */
function fastifyHooks(): Record<'onRequest' | 'preValidation', Hook> {
  const hooks: Partial<Record<string, Hook>> = {}
  session.fastify()({ addHook: (name, hook) => Object.assign(hooks, { [name]: hook }) }, {}, () => {})
  return hooks as ReturnType<typeof fastifyHooks>
}

const stops: (() => void)[] = []
afterEach(() => {
  for (const stop of stops.splice(0)) stop()
})

async function listen(listener: RequestListener): Promise<number> {
  const server = createServer(listener).listen(0, '127.0.0.1')
  stops.push(() => {
    server.closeAllConnections()
    server.close()
  })
  await once(server, 'listening')
  return (server.address() as AddressInfo).port
}

describe('the session of a client that was gone before the middleware ran', () => {
  const middlewares: Record<string, (...args: [...Parameters<RequestListener>, () => void]) => void> = {
    Express: session.express(),
    Fastify: (incoming, response, next) => fastifyHooks().onRequest(incoming, { raw: response }, next),
  }
  it.each(Object.entries(middlewares))('of %s is over', async (_name, middleware) => {
    const arrived = gate()
    const found = deferred<Session | undefined>()
    const port = await listen((incoming, response) => {
      response.once('close', () =>
        setImmediate(() => middleware(incoming, response, () => found.resolve(session.current()))),
      )
      arrived.open()
    })
    const client = get({ port, host: '127.0.0.1' })
    client.on('error', () => {})
    await arrived.opened
    client.destroy()
    expect(await found.promise).toBeUndefined()
  })
})

it('Fastify’s session reaches a handler that runs when the body has arrived', async () => {
  const hooks = fastifyHooks()
  const spans: (Session | undefined)[] = []
  const port = await listen((incoming, response) => {
    const reply = { raw: response }
    hooks.onRequest(incoming, reply, () => {
      spans.push(session.current())
    })
    incoming.resume().on('end', () => {
      hooks.preValidation(incoming, reply, () => {
        spans.push(session.current())
        response.end()
      })
    })
  })
  const client = request({ port, host: '127.0.0.1', method: 'POST' })
  client.write('x'.repeat(20_000))
  setImmediate(() => client.end('more'))
  const [response] = await once(client, 'response')
  response.resume()
  await once(response, 'end')
  expect(spans[0]).toBeDefined()
  expect(spans[1]).toBe(spans[0])
})

import type { RedisClient } from './client.js'

// biome-ignore lint/suspicious/noExplicitAny: the arguments of an event are its own
type Listener = (...args: any[]) => void

interface Shared {
  readonly listeners: Set<Listener>
  readonly all: Listener
}

/** The listeners of this package, by connection and event. */
const listening = new WeakMap<RedisClient, Map<string, Shared>>()

/**
 * Listens to an event of a connection. Backends over one client share one listener for each event, because an emitter
 * warns of a leak when it has more than ten. Returns a function that ends it.
 */
export function listenTo(connection: RedisClient, event: string, listener: Listener): () => void {
  const events = listening.get(connection) ?? new Map<string, Shared>()
  listening.set(connection, events)
  let shared = events.get(event)
  if (shared === undefined) {
    shared = sharedListener()
    events.set(event, shared)
    connection.on(event, shared.all)
  }
  const { listeners, all } = shared
  listeners.add(listener)
  return () => {
    if (!listeners.delete(listener) || listeners.size > 0) return
    events.delete(event)
    connection.off(event, all)
  }
}

function sharedListener(): Shared {
  const listeners = new Set<Listener>()
  return {
    listeners,
    all: (...args) => {
      for (const listener of [...listeners]) listener(...args)
    },
  }
}

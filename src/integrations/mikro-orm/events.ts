/** Events of MikroORM in the order that an integration needs, whenever the subscribers of the application were registered. */
import { hookMethods } from '../orm/hooks.js'
import type { EventManager, Manager, MikroOrmHost, Subscriber } from './host.js'

type Listener = (args: unknown) => Promise<void>
type Dispatch = (event: string, args: unknown, ...more: unknown[]) => unknown

/**
 * Subscribes in each event manager of a database: in the one of all, and in those of `fork({ freshEventManager: true })`, which has no
 * subscribers but those of the configuration. Returns a function that subscribes in no more of them.
 */
export function inEventManagers(orm: MikroOrmHost, subscribeIn: (events: EventManager) => void): () => void {
  subscribeIn(orm.em.getEventManager())
  return hookMethods(orm.em as unknown as Manager, (em) => em.getDriver(), {
    fork(_, args, run) {
      const fork = run(...args) as MikroOrmHost['em']
      const [options] = args as readonly [{ readonly freshEventManager?: boolean }?]
      if (options?.freshEventManager) subscribeIn(fork.getEventManager())
      return fork
    },
  })
}

/**
 * Subscribes to the events of MikroORM. The subscriber hears of a commit before the subscribers of the application do: MikroORM calls
 * them one by one, and stops at the first that throws. It hears of a flush after them, because they may add changes.
 */
export function subscribe(manager: EventManager, subscriber: Subscriber): void {
  // MikroORM does not dispatch events of entities that no subscriber has.
  manager.registerSubscriber({ afterUpsert: async () => {} } as never)
  dispatchTo(manager, subscriber)
}

function dispatchTo(manager: EventManager, subscriber: Subscriber): void {
  const [dispatch, clone] = [manager.dispatchEvent as Dispatch, manager.clone]
  const listeners = subscriber as unknown as Readonly<Record<string, Listener | undefined>>
  const dispatchEvent: Dispatch = (event, ...given) => {
    const others = () => dispatch.call(manager, event, ...given)
    const listener = Object.hasOwn(listeners, event) ? listeners[event] : undefined
    if (listener === undefined) return others()
    const own = () => listener(given[0])
    return isDone(event) ? both(own, others) : inTurn(others, own)
  }
  // The managers of transactions have clones.
  const cloned = (): EventManager => {
    const copy = clone.call(manager)
    dispatchTo(copy, subscriber)
    return copy
  }
  Object.assign(manager, { dispatchEvent, clone: cloned })
}

/** A rollback that is about to begin may follow a commit that failed. */
const isDone = (event: string): boolean => event.startsWith('after') || event === 'beforeTransactionRollback'

async function inTurn(first: () => unknown, then: () => unknown): Promise<void> {
  await first()
  await then()
}

/** Runs both. If both fail, the failure of the first is thrown: it can be repeated. */
async function both(first: () => Promise<void>, then: () => unknown): Promise<void> {
  const failed = await first().then(
    () => undefined,
    (error: unknown) => ({ error }),
  )
  try {
    await then()
  } catch (error) {
    throw failed === undefined ? error : failed.error
  }
  if (failed !== undefined) throw failed.error
}

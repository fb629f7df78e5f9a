import type { Commands } from '../../backends/memcached/client/commands.js'
import type { Step } from './real-store.js'

/** Commands each of which is a step. */
export function stepped(commands: Commands, who: string, step: Step): Commands {
  return {
    get: (key) => step(`${who} get ${key}`, () => commands.get(key)),
    set: (key, value, seconds, guard) =>
      step(`${who} ${guard === 'absent' ? 'add' : guard === undefined ? 'set' : 'cas'} ${key}`, () =>
        commands.set(key, value, seconds, guard),
      ),
    delete: (key, guard) => step(`${who} delete ${key}`, () => commands.delete(key, guard)),
    increment: (key, start, by) => step(`${who} increment ${key}`, () => commands.increment(key, start, by)),
    ping: () => commands.ping(),
    close() {},
  }
}

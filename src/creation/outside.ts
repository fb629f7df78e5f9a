/** Names that are declared outside of every creation, and the creations that may have lost them. */
import { asyncContext, type ContextFrame } from '../base/async-context.js'
import { diagnostics } from '../base/diagnostics.js'
import { CorralError, formatValue } from '../base/errors.js'
import { processGlobal } from '../base/process-global.js'

interface UncachedRun extends ContextFrame<UncachedRun> {}

const uncached = asyncContext<UncachedRun>('uncached')

/** Runs a cached function uncached, outside of every creation. The names that it declares belong to no entry. */
export function runWithoutEntry<R>(run: () => R | Promise<R>): Promise<R> {
  return uncached.during({ parent: uncached.current(), over: false }, run)
}

/** A creation that tracks dependencies while its creator runs. */
interface TrackedCreation {
  readonly keys: readonly string[]
  /** The loss of names was reported: once is enough. */
  reported: boolean
}

const tracked = processGlobal('tracked', () => new Set<TrackedCreation>())

/** Records that a creation which tracks dependencies runs. The returned function ends it. */
export function beginTracked(keys: readonly string[]): () => void {
  const creation = { keys, reported: false }
  tracked.add(creation)
  return () => void tracked.delete(creation)
}

const REMEDY =
  'Call creation.dependsOn(key, names), which needs no async context, or keep the context of the callback: AsyncResource.bind(callback).'

/**
 * Handles names that were declared outside of every creation.
 * @throws CorralError `ERR_OUTSIDE_CREATION` unless they may be ignored
 */
export function declaredOutside(names: readonly string[], ignore: boolean): void {
  if (uncached.current() !== undefined) return
  const shown = formatList(names)
  if (!ignore)
    throw new CorralError(
      'ERR_OUTSIDE_CREATION',
      `Expected dependsOn() inside a creation, got a call with ${shown} outside of every creation, or after the end of its creation. ${REMEDY} If the function also runs uncached, pass { outside: 'ignore' } behind the names.`,
    )
  const notices = diagnostics('notice')
  if (!notices.hasSubscribers) return
  for (const creation of tracked) {
    if (creation.reported) continue
    creation.reported = true
    const [key, ...more] = creation.keys
    const others = more.length === 0 ? '' : ` and ${more.length} more keys`
    notices.publish({
      where: 'dependsOn',
      key,
      message: `While '${key}'${others} was being created, dependsOn() ignored ${shown} outside of every creation. If the call belongs to this creation, the value does not depend on these names. ${REMEDY}`,
    })
  }
}

function formatList([first, ...more]: readonly string[]): string {
  if (first === undefined) return 'no names'
  return more.length === 0 ? formatValue(first) : `${formatValue(first)} and ${more.length} more names`
}

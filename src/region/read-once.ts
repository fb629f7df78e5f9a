/** Refuses values that can be read once only: all callers share a value, and the second would find it consumed. */
import { CorralError } from '../base/errors.js'
import { ignoreRejections, partThat } from '../base/parts.js'
import { type ReadOnceKind, readOnceKind } from '../base/read-once-kind.js'

/** So many parts are looked at, half of them at each depth: a forgotten `await` is in the first ones. */
const PARTS = 200

/**
 * Looks at the value and at the parts of its lists, maps, sets and plain objects.
 * @param key - names the value in the message
 * @throws CorralError `ERR_UNENCODABLE` with the remedy
 */
export function refuseReadOnce(value: unknown, key: string): void {
  if (typeof value !== 'object' || value === null) return
  const whole = readOnceKind(value)
  const found =
    whole === undefined
      ? partThat(value, (part) => readOnceKind(part) !== undefined, { parts: PARTS })
      : undefined
  if (whole === undefined && found === undefined) return
  ignoreRejections(value)
  const [kind, remedy] = (whole ?? readOnceKind(found?.part)) as ReadOnceKind
  const part = found === undefined ? '' : ` in \`${found.name}\``
  throw new CorralError(
    'ERR_UNENCODABLE',
    `Expected a value for '${key}' that every caller can read, got ${kind}${part}. ${remedy}`,
  )
}

import { isCachedValue } from '../../src/backend/cached-value.js'
import { cloned } from '../../src/base/cloned.js'
import { frozen } from '../../src/base/frozen-value.js'
import { expectOneOf } from '../../src/base/options.js'

/** How a store of objects keeps callers from changing each other's values. */
export type CopyMode = 'share' | 'clone' | 'freeze'

export interface Copier {
  in(value: unknown): unknown
  out(value: unknown): unknown
  /** The value for a caller that shares a creation; absent where callers share objects. */
  readonly shared?: (value: unknown) => unknown
}

/** @throws CorralError `ERR_OPTION` on an unknown mode. */
export function copier(mode: CopyMode): Copier {
  expectOneOf(mode, '`copy`', ['share', 'clone', 'freeze'])
  return MODES[mode]
}

const same = (value: unknown) => value

const MODES: Readonly<Record<CopyMode, Copier>> = {
  share: { in: same, out: same },
  clone: { in: copyOf, out: copyOf, shared: copyOf },
  // A value that is handed out without having been stored is not frozen yet.
  freeze: { in: frozen, out: same, shared: frozen },
}

/** Metadata never changes, so only the payload of an entry is copied. */
function copyOf(value: unknown): unknown {
  return isCachedValue(value)
    ? { payload: cloned(value.payload), metadata: { ...value.metadata } }
    : cloned(value)
}

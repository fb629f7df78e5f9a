import { CorralError, formatValue } from '../../src/base/errors.js'
import { expectOneOf } from '../../src/base/options.js'

/** How a store of objects keeps callers from changing each other's values. */
export type CopyMode = 'share' | 'clone' | 'freeze'

interface Copier {
  in(value: unknown): unknown
  out(value: unknown): unknown
}

/** @throws CorralError `ERR_OPTION` on an unknown mode. */
export function copier(mode: CopyMode): Copier {
  expectOneOf(mode, '`copy`', ['share', 'clone', 'freeze'])
  return MODES[mode]
}

const same = (value: unknown) => value

const MODES: Readonly<Record<CopyMode, Copier>> = {
  share: { in: same, out: same },
  clone: { in: clone, out: clone },
  freeze: { in: freeze, out: same },
}

function clone(value: unknown): unknown {
  try {
    return structuredClone(value)
  } catch (cause) {
    throw new CorralError(
      'ERR_UNENCODABLE',
      `Expected a value that can be cloned, as copy: 'clone' says: ${cause instanceof Error ? cause.message : formatValue(cause)}`,
      { cause },
    )
  }
}

/** Freezes objects through and through. Bytes cannot be frozen, and are left as they are. */
function freeze(root: unknown): unknown {
  const open = [root]
  for (let value = open.pop(); value !== undefined || open.length > 0; value = open.pop()) {
    if (typeof value !== 'object' || value === null || Object.isFrozen(value) || ArrayBuffer.isView(value))
      continue
    Object.freeze(value)
    for (const name of Reflect.ownKeys(value)) {
      const part = Object.getOwnPropertyDescriptor(value, name)
      if (part !== undefined && 'value' in part) open.push(part.value)
    }
  }
  return root
}

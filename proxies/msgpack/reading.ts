import { Packr, Unpackr } from 'msgpackr'
// @ts-expect-error: this entry of msgpackr has no types; it is the same class, which compiles nothing.
import { Unpackr as UncompiledUnpackr } from 'msgpackr/unpack-no-eval'
import type { CachedValue } from '../../src/backend/cached-value.js'
import type { Entry } from '../../src/wire/frame.js'
import { hasProtoKey, hasRegExp } from '../../src/wire/guards.js'
import { FAITHFUL } from './faithful.js'
import { OTHER, readFlat } from './flat.js'
import { countProto, definesMany, mayDefineWide, mayHoldRegExp, mentionsProto } from './packed.js'
import type { Settings } from './settings.js'
import type { Shape } from './shapes.js'

/** Reads the payload of an entry, after `skip` bytes of something else. */
export type Read = (entry: Entry, skip: number) => CachedValue | undefined

/** A function that unpacks, and knows the given shapes of records. */
export function reading({ regExp, maxBytes }: Settings, shapes?: readonly Shape[]): Read {
  const compiling = unpacking(new Unpackr(FAITHFUL), shapes)
  const plain = unpacking(new UncompiledUnpackr(FAITHFUL), shapes)
  return ({ bytes, start, end, metadata }, skip) => {
    if (end - start > maxBytes) return undefined
    const flat = shapes === undefined ? readFlat(bytes, start + skip, end) : OTHER
    if (flat !== OTHER) return { payload: flat, metadata }
    // A view of its own: msgpackr leaves a DataView on it, and the stored bytes belong to the backend.
    const packed = bytes.subarray(start + skip, end)
    const payload = (definesMany(packed) ? plain : compiling)(packed)
    if (payload === TRAILING) return undefined
    // No entry of ours has a key `__proto__`: no writer accepts one.
    if (mentionsProto(packed) && hasProtoKey(payload, '__proto_') && wasRenamed(packed, payload))
      return undefined
    if (!regExp && mayHoldRegExp(packed) && hasRegExp(payload)) return undefined
    return { payload, metadata }
  }
}

/**
 * Whether msgpackr read a key `__proto__` and called it `__proto_`: the value packed once more then has fewer of them.
 * A value may have keys of the latter name by its own right, beside the former as text. What is packed with the text
 * in one place may name a key once less often, so both ways are tried.
 */
function wasRenamed(packed: Buffer, payload: unknown): boolean {
  const count = countProto(packed)
  return ![false, true].some((bundleStrings) => {
    const again = new Packr({ ...FAITHFUL, bundleStrings })
    return countProto(again.pack(payload)) === count
  })
}

/** There are bytes behind the value. */
const TRAILING = Symbol('trailing')

type Structures = string[][] & { sharedLength?: number }

function unpacking(
  unpackr: Unpackr & { structures?: Structures },
  shapes?: readonly Shape[],
): (packed: Buffer) => unknown {
  if (shapes === undefined) return (packed) => unpackOne(unpackr, packed)
  const known = shapes.map((shape) => [...shape])
  const list = fresh(known)
  unpackr.structures = list
  return (packed) => {
    if (mayDefineWide(packed)) {
      // Such records would stay on the list for good: they get one to themselves.
      unpackr.structures = fresh(known)
      try {
        return unpackOne(unpackr, packed)
      } finally {
        unpackr.structures = list
      }
    }
    // An entry may redefine any record; the next entry does not see that.
    for (let i = 0; i < known.length; i++) if (list[i] !== known[i]) list[i] = known[i] as string[]
    if (list.length !== known.length) list.length = known.length
    return unpackOne(unpackr, packed)
  }
}

function fresh(structures: readonly string[][]): Structures {
  const list: Structures = [...structures]
  list.sharedLength = list.length
  return list
}

let value: unknown
let ended = -1

function take(first: unknown, _start?: number, end = -1): false {
  value = first
  ended = end
  return false
}

/**
 * Not with `unpack`: for bytes behind the value that makes an error with the whole value in it as JSON, and 400 bytes
 * of shared references can ask for more JSON than there is memory and time.
 */
function unpackOne(unpackr: Unpackr, packed: Buffer): unknown {
  unpackr.unpackMultiple(packed, take)
  const found = ended === packed.length ? value : TRAILING
  value = undefined
  return found
}

import { Unpackr } from 'msgpackr'
// @ts-expect-error: this entry of msgpackr has no types; it is the same class, which compiles nothing.
import { Unpackr as UncompiledUnpackr } from 'msgpackr/unpack-no-eval'
import type { CachedValue } from '../../src/cached-value.js'
import type { Entry } from '../../src/wire/frame.js'
import { hasProtoKey, hasRegExp } from '../../src/wire/guards.js'
import { definesMany, mayHoldRegExp, mentionsProto } from '../../src/wire/packed.js'
import type { Shape } from '../../src/wire/shapes.js'
import { FAITHFUL, type Settings } from './settings.js'

/** Reads the payload of an entry, after `skip` bytes of something else. */
export type Read = (entry: Entry, skip: number) => CachedValue | undefined
type Reader = InstanceType<typeof Unpackr> & { structures?: Structures }
type Structures = string[][] & { sharedLength?: number }

/** A function that unpacks, and knows the given shapes of records. */
export function reading({ regExp, maxBytes }: Settings, shapes?: readonly Shape[]): Read {
  const compiling = new Unpackr(FAITHFUL) as Reader
  const plain = new UncompiledUnpackr(FAITHFUL) as Reader
  const compiled = shapes?.map((shape) => [...shape])
  const uncompiled = shapes?.map((shape) => [...shape])
  return ({ bytes, start, end, metadata }, skip) => {
    if (end - start > maxBytes) return undefined
    // A view of its own: msgpackr leaves a DataView on it, and the stored bytes belong to the backend.
    const packed = bytes.subarray(start + skip, end)
    const many = definesMany(packed)
    const reader = many ? plain : compiling
    const structures = many ? uncompiled : compiled
    if (structures !== undefined) reader.structures = fresh(structures)
    let payload: unknown
    let ended = -1
    // Not unpack(): for bytes behind the value it makes an error of the whole value as JSON, and 400 bytes of shared
    // references can ask for more JSON than there is memory and time.
    reader.unpackMultiple(packed, (value: unknown, _start?: number, end = -1) => {
      payload = value
      ended = end
      return false
    })
    if (ended !== packed.length) return undefined
    // msgpackr has renamed the key, which no entry of ours can have had.
    if (mentionsProto(packed) && hasProtoKey(payload, '__proto_')) return undefined
    if (!regExp && mayHoldRegExp(packed) && hasRegExp(payload)) return undefined
    return { payload, metadata }
  }
}

/** A list for one reading: an entry may redefine what it likes, and nothing of it is there for the next one. */
function fresh(structures: string[][]): Structures {
  const list: Structures = structures.slice()
  list.sharedLength = list.length
  return list
}

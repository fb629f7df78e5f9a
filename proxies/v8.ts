import { DefaultDeserializer, serialize } from 'node:v8'
import type { Bytes, CachedValue } from '../src/backend/cached-value.js'
import { CorralError } from '../src/base/errors.js'
import { rejectUnknownOptions } from '../src/base/options.js'
import { mapValues } from '../src/chain/map-values.js'
import type { BackendProxy } from '../src/chain/proxy.js'
import { CODEC_V8, refuseLarge, sizeLimits } from '../src/wire/codec.js'
import { carefulCheck, encoderFailed, quickCheck, UNSURE } from '../src/wire/fidelity.js'
import { closeFrame, openFrame, readFrame } from '../src/wire/frame.js'
import type { FidelityRules, Visit } from '../src/wire/keeps.js'
import { type CloneVerdict, scanClone } from './v8/clone.js'

export interface V8Options {
  /** Store the structured clone without checking that it keeps the whole value. @default false */
  readonly lossy?: boolean
  /** Keep RegExps. One from a hostile writer can hang the code that matches with it. @default false: refused, and a miss */
  readonly regExp?: boolean
  /** Larger payloads are refused at `set` and misses when read. In bytes. @default 16 MiB */
  readonly maxBytes?: number
  /** Deeper nesting is refused at `set`. @default 500 */
  readonly maxDepth?: number
}

/** V8 changes its format between major versions of Node, and promises nothing. */
const MAJOR = Number.parseInt(process.versions.node, 10) & 0xff
const MAJOR_BYTES = 1

/**
 * Encodes values with V8's structured clone: keeps the most, errors and half surrogates included, and is read by the
 * same major version of Node only. Read bytes are scanned first, but V8 does not harden its reader: where others
 * can write to the store, put `seal()` below.
 * @throws CorralError `ERR_OPTION` for options that it does not take. The chain's `set` fails with `ERR_UNENCODABLE`,
 *   naming the path of the part that would be lost, and with `ERR_VALUE_TOO_LARGE`.
 */
export function v8(options: V8Options = {}): BackendProxy<CachedValue, Bytes> {
  rejectUnknownOptions(options, ['lossy', 'regExp', 'maxBytes', 'maxDepth'], 'v8()')
  const { lossy = false, regExp = false } = options
  const { maxBytes, maxDepth } = sizeLimits(options, 'v8()')
  const limits = { maxDepth, regExp }
  const clone = lossy ? lossyClone : strictClone(keepsOf(regExp, maxDepth))

  return mapValues<CachedValue, Bytes>({
    name: 'v8',
    inner: 'bytes',
    outer: 'values',
    encode({ payload, metadata }, key) {
      const cloned = clone(payload)
      refuseLarge(cloned.length, maxBytes, 'v8()')
      refuseUnreadable(scanClone(cloned, limits))
      const { bytes, at } = openFrame(CODEC_V8, metadata, cloned.length + MAJOR_BYTES)
      bytes[at] = MAJOR
      bytes.set(cloned, at + MAJOR_BYTES)
      return closeFrame(bytes, key)
    },
    decode(stored, key) {
      const entry = readFrame(stored, key)
      if (entry === undefined || entry.codec !== CODEC_V8) return undefined
      const { bytes, start, end, metadata } = entry
      if (end - start > maxBytes + MAJOR_BYTES || bytes[start] !== MAJOR) return undefined
      const cloned = bytes.subarray(start + MAJOR_BYTES, end)
      if (scanClone(cloned, limits) !== 'fine') return undefined
      return { payload: read(cloned), metadata }
    },
  })
}

function strictClone(keeps: FidelityRules): (payload: unknown) => Buffer {
  const check = quickCheck(keeps)
  return (payload) => {
    let cloned: Buffer
    try {
      cloned = serialize(payload)
    } catch (error) {
      carefulCheck(keeps, payload)
      throw encoderFailed(keeps, error)
    }
    if (check(payload, cloned.length) === UNSURE || mentionsProto(cloned)) carefulCheck(keeps, payload)
    return cloned
  }
}

function lossyClone(payload: unknown): Buffer {
  try {
    return serialize(payload)
  } catch (error) {
    throw encoderFailed({ encoding: 'v8()' }, error)
  }
}

const UNREADABLE: Record<Exclude<CloneVerdict, 'fine'>, string> = {
  broken: 'something that this version of Corral does not know. Store plainer data',
  deep: 'objects nested too deeply. Store flatter data, or raise maxDepth',
  absurd: 'an array with many more holes than elements. Store an object or a Map',
  proto: 'a key named __proto__. Rename the key',
  regexp: 'a RegExp. Store its source, or allow it: regExp: true',
}

/** A value that no read would accept is not stored, even with `lossy`. */
function refuseUnreadable(verdict: CloneVerdict): void {
  if (verdict !== 'fine')
    throw new CorralError(
      'ERR_UNENCODABLE',
      `Expected a value that v8() can read back, got one that has ${UNREADABLE[verdict]}.`,
    )
}

const PROTO = Buffer.from('__proto__')

/** Where the name stands, a check that takes its time tells keys from text, and says where. */
function mentionsProto(cloned: Buffer): boolean {
  return cloned.includes(PROTO) || cloned.includes('__proto__', 0, 'utf16le')
}

/** Node's index of each kind of view; its own deserializer would make views on the stored bytes. */
const VIEWS = [
  Int8Array,
  Uint8Array,
  Uint8ClampedArray,
  Int16Array,
  Uint16Array,
  Int32Array,
  Uint32Array,
  Float32Array,
  Float64Array,
  DataView,
  Buffer,
  BigInt64Array,
  BigUint64Array,
] as const

/** Copies the bytes of every view, so that none of them shares memory with the entry or keeps it alive. */
class CopyingDeserializer extends DefaultDeserializer {
  /** Called by V8 for every view, because Node writes views itself. */
  _readHostObject(): ArrayBufferView {
    const View = VIEWS[this.readUint32()]
    const bytes = new Uint8Array(this.readRawBytes(this.readUint32()))
    if (View === undefined) throw new RangeError('a kind of view that this Node does not have')
    if (View === Buffer) return Buffer.from(bytes.buffer)
    return new (View as Uint8ArrayConstructor)(bytes.buffer)
  }
}

function read(clone: Buffer): unknown {
  const deserializer = new CopyingDeserializer(clone)
  deserializer.readHeader()
  return deserializer.readValue()
}

function keepsOf(regExp: boolean, maxDepth: number): FidelityRules {
  return {
    encoding: 'v8()',
    undefined: true,
    nonFinite: true,
    bigint: true,
    holes: true,
    loneSurrogates: true,
    cycles: true,
    classes: regExp ? new Map([...CLASSES, [RegExp.prototype, 'whole']]) : CLASSES,
    maxDepth,
  }
}

const CLASSES: ReadonlyMap<object, Visit> = new Map<object, Visit>([
  [Map.prototype, 'map'],
  [Set.prototype, 'set'],
  ...[Error, EvalError, RangeError, ReferenceError, SyntaxError, TypeError, URIError].map(
    ({ prototype }): [object, Visit] => [prototype, 'error'],
  ),
  ...[Date, ArrayBuffer, Boolean, Number, String, ...VIEWS].map(({ prototype }): [object, Visit] => [
    prototype,
    'whole',
  ]),
])

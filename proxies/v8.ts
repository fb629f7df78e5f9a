import { DefaultDeserializer, serialize } from 'node:v8'
import type { Bytes, CachedValue } from '../src/backend/cached-value.js'
import { CorralError } from '../src/base/errors.js'
import { ownOptions } from '../src/base/options.js'
import type { BackendProxy } from '../src/chain/proxy.js'
import {
  CODEC_V8,
  encoding,
  encodingOptions,
  refuseLarge,
  type StructuredOptions,
} from '../src/wire/codec.js'
import { faithfulEncoder, lossyEncoder } from '../src/wire/fidelity.js'
import { frame, readFrameOf } from '../src/wire/frame.js'
import { type FidelityRules, structuredClasses, VIEWS } from '../src/wire/keeps.js'
import { type CloneVerdict, scanClone } from './v8/clone.js'

/**
 * Options of `v8()`.
 * @example
 * ```ts
 * import { v8, type V8Options } from 'corral/proxies/v8'
 *
 * const forPatterns: V8Options = { regExp: true, maxDepth: 20 }
 * const proxy = v8(forPatterns)
 * ```
 */
export type V8Options = StructuredOptions

/** V8 changes its format between major versions of Node, and promises nothing. */
const MAJOR = Uint8Array.of(Number.parseInt(process.versions.node, 10))

/**
 * Encodes values with V8's structured clone: keeps the most, errors and half surrogates included, and is read by the
 * same major version of Node only. Read bytes are scanned first, but V8 does not harden its reader: where others
 * can write to the store, put `seal()` below.
 * @example
 * ```ts
 * import { makeRegion, wrap } from 'corral'
 * import { lmdb } from 'corral/backends/lmdb'
 * import { v8 } from 'corral/proxies/v8'
 *
 * const failures = makeRegion<Error>({ name: 'failures', backend: wrap(lmdb('/var/cache/app/failures.mdb'), v8()) })
 * ```
 * @throws CorralError `ERR_OPTION` for options that it does not take. The chain's `set` fails with `ERR_UNENCODABLE`,
 *   naming the path of the part that would be lost, and with `ERR_VALUE_TOO_LARGE`.
 */
export function v8(options: V8Options = {}): BackendProxy<CachedValue, Bytes> {
  options = ownOptions(options)
  const settings = encodingOptions(options, 'v8()', ['regExp'])
  const { maxBytes } = settings
  const clone = cloning(settings)

  return encoding('v8', {
    encode({ payload, metadata }, key) {
      const cloned = clone(payload)
      refuseUnreadable(scanClone(cloned, settings))
      return frame(CODEC_V8, metadata, cloned, key, MAJOR)
    },
    decode(stored, key) {
      const entry = readFrameOf(CODEC_V8, maxBytes + MAJOR.length, stored, key)
      if (entry === undefined || entry.bytes[entry.start] !== MAJOR[0]) return undefined
      const cloned = entry.bytes.subarray(entry.start + MAJOR.length, entry.end)
      if (scanClone(cloned, settings) !== 'fine') return undefined
      return { payload: read(cloned), metadata: entry.metadata }
    },
  })
}

function cloning({ lossy, regExp, maxBytes, maxDepth }: Required<StructuredOptions>) {
  const keeps: FidelityRules = {
    encoding: 'v8()',
    structured: true,
    holes: true,
    loneSurrogates: true,
    classes: structuredClasses(regExp, [Boolean, Number, String], ERRORS),
    maxDepth,
  }
  const encode = (payload: unknown): Buffer => {
    const cloned = serialize(payload)
    refuseLarge(cloned.length, maxBytes, 'v8()')
    return cloned
  }
  return lossy ? lossyEncoder(keeps, encode) : faithfulEncoder(keeps, { encode, mentionsProto })
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

/**
 * Copies the bytes of every view, so that none of them shares memory with the entry or keeps it alive. Node's own
 * deserializer would make views on the stored bytes.
 */
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

const ERRORS = [Error, EvalError, RangeError, ReferenceError, SyntaxError, TypeError, URIError]

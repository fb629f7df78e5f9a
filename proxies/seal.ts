import {
  createCipheriv,
  createDecipheriv,
  createHmac,
  createSecretKey,
  hkdfSync,
  type KeyObject,
  randomBytes,
  timingSafeEqual,
} from 'node:crypto'
import { types } from 'node:util'
import type { Bytes } from '../src/backend/cached-value.js'
import { CorralError, formatValue } from '../src/base/errors.js'
import { expectOneOf, expectThat, ownOptions, rejectUnknownOptions } from '../src/base/options.js'
import { mapValues } from '../src/chain/map-values.js'
import type { BackendProxy } from '../src/chain/proxy.js'
import { putLayer, takeLayer } from '../src/wire/layer.js'

/**
 * A secret, and the id by which entries name it.
 * @example
 * ```ts
 * import type { SealKey } from 'corral/proxies/seal'
 *
 * export const current: SealKey = { id: '2026-11', secret: process.env.CACHE_SECRET ?? '' }
 * ```
 */
export interface SealKey {
  /** Stands, readable, in every entry that was sealed with this key. `1` and `'1'` are the same id. At most 255 bytes. */
  readonly id: string | number
  /** At least 32 random bytes, or their base64, base64url or hex form. */
  readonly secret: Uint8Array | string
}

/**
 * Options of `seal()`.
 * @example
 * ```ts
 * import { randomBytes } from 'node:crypto'
 * import type { SealOptions } from 'corral/proxies/seal'
 *
 * // Entries of the second key still open.
 * export const rotating: SealOptions = {
 *   keys: [
 *     { id: 2, secret: randomBytes(32) },
 *     { id: 1, secret: randomBytes(32) },
 *   ],
 *   context: 'sessions',
 * }
 * ```
 */
export interface SealOptions {
  /** The first key seals, all of them open: to rotate, put a new key first and drop the old one when its entries are gone. */
  readonly keys: readonly SealKey[]
  /** The purpose of the entries, such as `'users'`: those of another context do not open. At most 256 characters. */
  readonly context: string
  /** `'encrypt'` hides and authenticates (AES-256-GCM), `'sign'` only authenticates (HMAC-SHA256). @default 'encrypt' */
  readonly mode?: 'encrypt' | 'sign' | undefined
}

const LAYER = 2
const MODES = { encrypt: 1, sign: 2 } as const
const NONCE = 12
const TAG = 16
const MAC = 32
const LEAST_SECRET = 32
const LONGEST_CONTEXT = 256
const EMPTY = new Uint8Array()

interface DerivedKey {
  /** Its length in one byte, and the id. */
  readonly id: Buffer
  readonly key: KeyObject
}

/**
 * Authenticates stored bytes, and by default encrypts them, against programs that can write to or read the store. Each entry is
 * bound to the context, to its key as it reaches this layer, to the mode and to the id of the secret; an entry that does not
 * open is a miss. Stands below an encoding, and below `compress()`: `wrap(redis(url), seal(…), compress(), msgpack())`.
 * It cannot tell an old entry of the same key from the current one.
 * @example
 * ```ts
 * import { randomBytes } from 'node:crypto'
 * import { wrap } from 'corral'
 * import { redis } from 'corral/backends/redis'
 * import { msgpack } from 'corral/proxies/msgpack'
 * import { seal } from 'corral/proxies/seal'
 *
 * const sealed = seal({ keys: [{ id: 1, secret: randomBytes(32) }], context: 'patients' })
 * const backend = wrap(redis('redis://localhost:6379'), sealed, msgpack())
 * ```
 * @throws CorralError `ERR_OPTION` for unusable keys, context or mode. Messages never contain a secret.
 */
export function seal(options: SealOptions): BackendProxy<Bytes, Bytes> {
  options = ownOptions(options)
  rejectUnknownOptions(options, ['keys', 'context', 'mode'], 'seal()')
  const { keys, context, mode = 'encrypt' } = options
  expectOneOf(mode, '`mode` of seal()', ['encrypt', 'sign'])
  expectThat(
    typeof context === 'string' && context !== '' && context.length <= LONGEST_CONTEXT,
    context,
    `\`context\` of seal() to be a text of 1 to ${LONGEST_CONTEXT} characters such as 'users'`,
  )
  const flags = MODES[mode]
  const ring = derive(keys, mode, context)
  const first = ring.values().next().value as DerivedKey
  const { shut, open } = mode === 'encrypt' ? encryption : signature

  return mapValues<Bytes, Bytes>({
    name: 'seal',
    inner: 'bytes',
    outer: 'bytes',
    encode: (bytes, key) => putLayer(LAYER, flags, shut(bytes, first, bound(flags, first.id, context, key))),
    decode(stored, key) {
      const layer = takeLayer(LAYER, stored)
      // The flags are compared with the configuration, and never decide how an entry is opened.
      if (layer === undefined || layer.flags !== flags) return undefined
      const body = Buffer.from(layer.body.buffer, layer.body.byteOffset, layer.body.length)
      const end = 1 + (body[0] ?? 0)
      const derived = ring.get(body.toString('latin1', 0, end))
      return derived && open(body.subarray(end), derived, bound(flags, derived.id, context, key))
    },
  })
}

interface Scheme {
  shut(bytes: Uint8Array, derived: DerivedKey, bond: Buffer): Uint8Array
  open(body: Buffer, derived: DerivedKey, bond: Buffer): Uint8Array | undefined
}

/** `id · nonce · ciphertext · tag` */
const encryption: Scheme = {
  shut(bytes, { id, key }, bond) {
    const nonce = randomBytes(NONCE)
    const cipher = createCipheriv('aes-256-gcm', key, nonce, { authTagLength: TAG })
    cipher.setAAD(bond)
    const hidden = cipher.update(bytes)
    cipher.final()
    return Buffer.concat([id, nonce, hidden, cipher.getAuthTag()])
  },
  open(body, { key }, bond) {
    const end = body.length - TAG
    if (end < NONCE) return undefined
    const decipher = createDecipheriv('aes-256-gcm', key, body.subarray(0, NONCE), { authTagLength: TAG })
    decipher.setAAD(bond)
    decipher.setAuthTag(body.subarray(end))
    const bytes = decipher.update(body.subarray(NONCE, end))
    // Throws unless everything is as it was sealed; nothing leaves here before.
    decipher.final()
    return bytes
  },
}

/** `id · bytes · MAC` */
const signature: Scheme = {
  shut: (bytes, { id, key }, bond) => Buffer.concat([id, bytes, mac(key, bond, bytes)]),
  open(body, { key }, bond) {
    const end = body.length - MAC
    if (end < 0) return undefined
    const bytes = body.subarray(0, end)
    return timingSafeEqual(mac(key, bond, bytes), body.subarray(end)) ? bytes : undefined
  },
}

function mac(key: KeyObject, bond: Buffer, bytes: Uint8Array): Buffer {
  return createHmac('sha256', key).update(bond).update(bytes).digest()
}

/**
 * The data that an entry is bound to. Every part follows its length, so that no two lists of parts give the same bytes; UTF-16,
 * because UTF-8 makes all lone surrogates the same.
 */
function bound(flags: number, id: Buffer, context: string, key: string): Buffer {
  const bond = Buffer.allocUnsafe(2 + id.length + 8 + 2 * (context.length + key.length))
  bond[0] = LAYER
  bond[1] = flags
  let at = 2 + id.copy(bond, 2)
  at = bond.writeUInt32LE(context.length, at)
  at += bond.write(context, at, 'utf16le')
  at = bond.writeUInt32LE(key.length, at)
  bond.write(key, at, 'utf16le')
  return bond
}

/** One key for each secret, context and mode, so that none of them ever does two jobs. */
function derive(keys: readonly SealKey[], mode: string, context: string): ReadonlyMap<string, DerivedKey> {
  if (!Array.isArray(keys) || keys.length === 0)
    throw new CorralError(
      'ERR_OPTION',
      `Expected \`keys\` of seal() to be a list of at least one { id, secret }, got ${Array.isArray(keys) ? 'an empty one' : formatValue(keys)}.`,
    )
  const ring = new Map<string, DerivedKey>()
  keys.forEach((given: SealKey, i) => {
    if (typeof given !== 'object' || given === null)
      throw new CorralError(
        'ERR_OPTION',
        `Expected \`keys[${i}]\` of seal() to be { id, secret }, got something else.`,
      )
    rejectUnknownOptions(given, ['id', 'secret'], `keys[${i}] of seal()`)
    const id = idBytes(given.id, i)
    const name = id.toString('latin1')
    if (ring.has(name))
      throw new CorralError(
        'ERR_OPTION',
        `Expected every key of seal() to have an id of its own, got ${formatValue(given.id)} twice. Give new secrets new ids.`,
      )
    const info = Buffer.from(`corral seal ${mode} ${context}`, 'utf16le')
    const derived = Buffer.from(hkdfSync('sha256', secretBytes(given.secret, i), EMPTY, info, 32))
    ring.set(name, { id, key: createSecretKey(derived) })
    derived.fill(0)
  })
  return ring
}

function idBytes(id: unknown, i: number): Buffer {
  const fine = typeof id === 'string' ? id !== '' && !/\p{Surrogate}/u.test(id) : Number.isSafeInteger(id)
  const bytes = Buffer.from(fine ? String(id) : '')
  if (bytes.length > 0 && bytes.length <= 255) return Buffer.concat([Buffer.of(bytes.length), bytes])
  throw new CorralError(
    'ERR_OPTION',
    `Expected \`keys[${i}].id\` of seal() to be a whole number, or a text of 1 to 255 bytes, got ${fine ? `one of ${bytes.length} bytes` : formatValue(id)}.`,
  )
}

/** Never shows the given value: it may be a secret. */
function secretBytes(secret: unknown, i: number): Uint8Array {
  const bytes = types.isUint8Array(secret) ? secret : decoded(secret)
  if (bytes !== undefined && bytes.length >= LEAST_SECRET) return bytes
  const formless = typeof secret === 'string' ? 'a text in neither form' : 'something else'
  throw new CorralError(
    'ERR_OPTION',
    `Expected \`keys[${i}].secret\` of seal() to be at least ${LEAST_SECRET} random bytes, or their base64 or hex form, got ` +
      `${bytes === undefined ? formless : `${bytes.length} bytes`}. ` +
      'Make one with: node -p "crypto.randomBytes(32).toString(\'base64\')"',
  )
}

function decoded(secret: unknown): Uint8Array | undefined {
  if (typeof secret !== 'string') return undefined
  if (/^(?:[0-9a-f]{2})+$/i.test(secret)) return Buffer.from(secret, 'hex')
  return /^[\w+/-]+={0,2}$/.test(secret) ? Buffer.from(secret, 'base64') : undefined
}

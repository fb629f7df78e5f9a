import { createHash } from 'node:crypto'

/** memcached's own limit, in bytes. */
const LONGEST = 250

/** Safe in every protocol and tool of memcached, and free of our escape character. */
const PLAIN = /^[!-$&-~]+$/

/** Marks of what is not an entry; no escape of a key can begin with them, since no hexadecimal digit follows the `%`. */
export const CLOCK = '%k'
export const STAMP = '%s'
const EMPTY = '%-'
const HASHED = '%#'

/** How a key is called in memcached; `hashed` when the entry has to carry the key itself, to be compared. */
export interface WireKey {
  readonly text: string
  readonly hashed: boolean
}

/**
 * The name of a key in memcached: printable ASCII, never over 250 bytes, and different for different keys. Plain keys
 * stay readable; other characters are escaped; what gets too long is hashed.
 */
export function wireKey(key: string): WireKey {
  if (key.length <= LONGEST && PLAIN.test(key)) return { text: key, hashed: false }
  const escaped = percent(key)
  return escaped.length <= LONGEST ? { text: escaped, hashed: false } : { text: hash(key), hashed: true }
}

/** The name of a piece of bookkeeping, apart from every entry's. */
export function wireName(mark: typeof CLOCK | typeof STAMP, name: string): string {
  if (name.length <= LONGEST - mark.length && PLAIN.test(name)) return mark + name
  const escaped = percent(name)
  return mark + (escaped.length <= LONGEST - mark.length ? escaped : hash(name))
}

/** By code units, not by UTF-8, in which all lone surrogates are the same. */
function percent(key: string): string {
  if (key === '') return EMPTY
  if (key.length > LONGEST) return key
  let escaped = ''
  for (let i = 0; i < key.length; i++) {
    const code = key.charCodeAt(i)
    if (code > 0x20 && code < 0x7f && code !== 0x25) escaped += key[i]
    else if (code < 0x80) escaped += `%${code.toString(16).padStart(2, '0')}`
    else escaped += `%u${code.toString(16).padStart(4, '0')}`
  }
  return escaped
}

function hash(key: string): string {
  return HASHED + createHash('sha256').update(key, 'utf16le').digest('base64url')
}

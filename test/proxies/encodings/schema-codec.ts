/**
 * A codec as a user brings it: a message with numbered fields, as in Protocol Buffers. It keeps the fields of its schema,
 * refuses the rest, and hands out views on the bytes that it is given.
 */
export interface Photo {
  readonly id: number
  readonly title: string
  readonly tags: readonly string[]
  readonly pixels: Uint8Array
}

const FIELDS = ['id', 'title', 'tags', 'pixels']

export function encodePhoto(photo: Photo): Uint8Array {
  for (const name of Object.keys(photo))
    if (!FIELDS.includes(name)) throw new TypeError(`Photo has no field '${name}'`)
  if (!Number.isInteger(photo.id) || photo.id < 0) throw new TypeError('Photo.id is no whole number')
  const field = (number: number, bytes: Uint8Array) => [Buffer.from([number]), varint(bytes.length), bytes]
  return Buffer.concat([
    Buffer.of(1),
    varint(photo.id),
    ...field(2, Buffer.from(photo.title)),
    ...photo.tags.flatMap((tag) => field(3, Buffer.from(tag))),
    ...field(4, photo.pixels),
  ])
}

export function decodePhoto(bytes: Uint8Array): Photo {
  let at = 0
  const number = () => {
    let value = 0
    for (let weight = 1; ; weight *= 128) {
      const byte = bytes[at++]
      if (byte === undefined) throw new RangeError('Photo ends too early')
      value += (byte & 0x7f) * weight
      if (byte < 128) return value
    }
  }
  const part = () => {
    const length = number()
    if (length > bytes.length - at) throw new RangeError('Photo ends too early')
    return bytes.subarray(at, (at += length))
  }
  const photo = { id: 0, title: '', tags: [] as string[], pixels: new Uint8Array() as Uint8Array }
  while (at < bytes.length) {
    const field = bytes[at++]
    if (field === 1) photo.id = number()
    else if (field === 2) photo.title = Buffer.from(part()).toString()
    else if (field === 3) photo.tags.push(Buffer.from(part()).toString())
    else if (field === 4) photo.pixels = part()
    else throw new RangeError(`Photo has no field ${field}`)
  }
  return photo
}

function varint(value: number): Buffer {
  const bytes: number[] = []
  for (let rest = value; ; rest = Math.floor(rest / 128)) {
    if (rest < 128) return Buffer.from([...bytes, rest])
    bytes.push((rest % 128) | 128)
  }
}

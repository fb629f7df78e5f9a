import { types } from 'node:util'

/** The cost of an entry beside its value: the key, the slot of the map, the entry itself. */
const OVERHEAD = 250

/** The heap that a value takes, roughly: exact for bytes and strings, by the shape for objects. */
export function estimate(value: unknown, key: string): number {
  return OVERHEAD + key.length + sizeOf(value)
}

function sizeOf(root: unknown): number {
  let total = 0
  const seen = new Set<object>()
  const open: unknown[] = [root]
  while (open.length > 0) {
    const value = open.pop()
    switch (typeof value) {
      case 'string':
        total += 16 + value.length
        break
      case 'number':
        total += 8
        break
      case 'bigint':
        total += 16 + value.toString(16).length / 2
        break
      case 'object':
        if (value === null || seen.has(value)) break
        seen.add(value)
        if (ArrayBuffer.isView(value) || types.isArrayBuffer(value)) total += 96 + value.byteLength
        else if (types.isMap(value)) {
          total += 64 + 40 * value.size
          for (const [name, part] of value) open.push(name, part)
        } else if (types.isSet(value)) {
          total += 64 + 24 * value.size
          for (const part of value) open.push(part)
        } else if (Array.isArray(value)) {
          total += 32 + 8 * value.length
          for (const part of value) open.push(part)
        } else {
          total += 48
          // Names are shared between objects of one shape, slots are not.
          for (const part of Object.values(value)) {
            total += 8
            open.push(part)
          }
        }
        break
      default:
        total += 8
    }
  }
  return total
}

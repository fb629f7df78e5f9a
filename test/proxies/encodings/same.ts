/**
 * Whether two values are the same in all that an encoding could lose: types, order, −0, holes, and which parts are one
 * and the same object. Linear where assert.deepStrictEqual is exponential on cyclic sets.
 * @returns `undefined`, or where they differ
 */
export function difference(one: unknown, other: unknown): string | undefined {
  const partners = new Map<object, object>()
  const taken = new Set<object>()
  const waiting: [unknown, unknown, string][] = [[one, other, 'value']]
  while (waiting.length > 0) {
    const [a, b, path] = waiting.pop() as [unknown, unknown, string]
    if (typeof a !== 'object' || a === null || typeof b !== 'object' || b === null) {
      if (!Object.is(a, b)) return path
      continue
    }
    const partner = partners.get(a)
    if (partner !== undefined || taken.has(b)) {
      if (partner !== b) return `${path}, which is another object`
      continue
    }
    partners.set(a, b)
    taken.add(b)
    const found = compareObjects(a, b, (x, y, step) => waiting.push([x, y, path + step]))
    if (found !== undefined) return path + found
  }
  return undefined
}

type Further = (a: unknown, b: unknown, step: string) => void

function compareObjects(a: object, b: object, further: Further): string | undefined {
  if (Object.getPrototypeOf(a) !== Object.getPrototypeOf(b)) return ', whose prototype differs'
  if (a instanceof Date)
    return Object.is(a.getTime(), (b as Date).getTime()) ? undefined : ', whose time differs'
  if (ArrayBuffer.isView(a)) return compareBytes(a, b as ArrayBufferView)
  if (a instanceof ArrayBuffer) return compareBytes(new Uint8Array(a), new Uint8Array(b as ArrayBuffer))
  if (a instanceof RegExp) return String(a) === String(b) ? undefined : ', whose pattern differs'
  if (a instanceof Map) return compareLists([...a].flat(), [...(b as Map<unknown, unknown>)].flat(), further)
  if (a instanceof Set) return compareLists([...a], [...(b as Set<unknown>)], further)
  if (a instanceof Error) {
    further(a.message, (b as Error).message, '.message')
    further(a.stack, (b as Error).stack, '.stack')
    further(a.cause, (b as Error).cause, '.cause')
  }
  if (a instanceof Number || a instanceof String || a instanceof Boolean)
    return Object.is(a.valueOf(), b.valueOf()) ? undefined : ', whose content differs'
  if (Array.isArray(a) && a.length !== (b as unknown[]).length) return '.length'
  const keys = Object.keys(a)
  if (keys.join('\0') !== Object.keys(b).join('\0')) return ', whose keys differ'
  for (const key of keys)
    further((a as Record<string, unknown>)[key], (b as Record<string, unknown>)[key], `[${key}]`)
  return undefined
}

function compareLists(a: readonly unknown[], b: readonly unknown[], further: Further): string | undefined {
  if (a.length !== b.length) return '.size'
  a.forEach((item, i) => {
    further(item, b[i], `<${i}>`)
  })
  return undefined
}

function compareBytes(a: ArrayBufferView, b: ArrayBufferView): string | undefined {
  const bytes = (view: ArrayBufferView) => Buffer.from(view.buffer, view.byteOffset, view.byteLength)
  return bytes(a).equals(bytes(b)) ? undefined : ', whose bytes differ'
}

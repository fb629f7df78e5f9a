import { Packr } from 'msgpackr'
import { prototypeHere } from '../../src/base/realms.js'
import { VIEWS, type Visit } from '../../src/wire/keeps.js'
import { FAITHFUL } from './faithful.js'

/**
 * The views on bytes that msgpackr takes for plain objects. In a `vm` context there are some: it has built-in classes of two
 * realms, such as inside Jest, whose `Uint8Array` is not of the realm of `Float64Array`.
 */
const unknown: ReadonlySet<object> = new Set(VIEWS.filter(isUnknown).map(({ prototype }) => prototype))

function isUnknown(View: (typeof VIEWS)[number]): boolean {
  const packr = new Packr(FAITHFUL)
  const Maker = View as new (bytes: ArrayBuffer) => ArrayBufferView
  const sample = View === Buffer ? Buffer.alloc(8) : new Maker(new ArrayBuffer(8))
  return !ArrayBuffer.isView(packr.unpack(packr.pack(sample)))
}

export const foreignViews: ReadonlyMap<object, Visit> = new Map(
  [...unknown].map((prototype): [object, Visit] => [prototype, 'foreign']),
)

/** The bytes of such a view, as one of a class that msgpackr knows under the name of the other. */
export function standInOf(part: object): object | undefined {
  if (!ArrayBuffer.isView(part)) return undefined
  const prototype = prototypeHere(part)
  if (prototype === null || !unknown.has(prototype)) return undefined
  const bytes = new Uint8Array(part.buffer, part.byteOffset, part.byteLength)
  return Object.defineProperty(bytes, 'constructor', { value: prototype.constructor })
}

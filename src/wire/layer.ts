/**
 * First byte of a layer's output: five bits of mark, one that tells a layer from an entry, two of version.
 * Like the first byte of an entry it occurs nowhere in UTF-8, so that no text is ever taken for a layer.
 */
const LAYER_V1 = 0xfd
const HEADER = 3

/**
 * Puts the header of a layer that works on bytes (compression, sealing) before its output.
 * @param layer - the layer's id, 0 to 255; each kind of layer has its own
 * @param flags - eight bits of the layer's own
 * @returns bytes of their own that share no memory with `body`
 */
export function putLayer(layer: number, flags: number, body: Uint8Array): Uint8Array {
  const framed = Buffer.allocUnsafeSlow(HEADER + body.length)
  framed[0] = LAYER_V1
  framed[1] = layer
  framed[2] = flags
  framed.set(body, HEADER)
  return framed
}

/**
 * Takes the header of a layer off. `undefined` means a miss: the layer is missing, another one is there, or the header
 * is of a version that this code does not know.
 * @returns flags, and a `body` that is a view on `stored`: copy a part that is kept
 */
export function takeLayer(
  layer: number,
  stored: Uint8Array,
): { flags: number; body: Uint8Array } | undefined {
  if (stored.length < HEADER || stored[0] !== LAYER_V1 || stored[1] !== layer) return undefined
  return { flags: stored[2] as number, body: stored.subarray(HEADER) }
}

import { describe, expect, it } from 'vitest'
import { putLayer, takeLayer } from '../../src/wire/layer.js'
import { benchOf, ENCODINGS } from '../proxies/encodings/chains.js'

const body = Buffer.from('body')

describe('the header of a layer of bytes', () => {
  it('is pinned', () => {
    expect(Buffer.from(putLayer(7, 0x81, body)).toString('hex')).toBe('fd0781626f6479')
  })
  it('comes off as it was put on', () => {
    const taken = takeLayer(7, putLayer(7, 0x81, body))
    expect(taken?.flags).toBe(0x81)
    expect(Buffer.from(taken?.body ?? []).toString()).toBe('body')
    expect(takeLayer(0, putLayer(0, 0, new Uint8Array()))?.body).toHaveLength(0)
  })
  it('shares no memory with the bytes behind it, and pins no slab', () => {
    const framed = putLayer(7, 0, body)
    expect(framed.buffer).not.toBe(body.buffer)
    expect(framed.buffer.byteLength).toBe(7)
  })
  it('is a miss when another layer is there, none, or not all of it', () => {
    const framed = putLayer(7, 0, body)
    expect(takeLayer(8, framed)).toBeUndefined()
    expect(takeLayer(7, body)).toBeUndefined()
    for (let length = 0; length < 3; length++)
      expect(takeLayer(7, framed.subarray(0, length))).toBeUndefined()
  })
  it.each(Object.entries(ENCODINGS))('is not mistaken for an entry of %s, nor the other way', (_, make) => {
    const bench = benchOf(make())
    const stored = bench.put({ a: 1 })
    for (let layer = 0; layer < 256; layer++) expect(takeLayer(layer, stored)).toBeUndefined()
    expect(bench.misses(putLayer(1, 0, stored))).toBe(true)
  })
})

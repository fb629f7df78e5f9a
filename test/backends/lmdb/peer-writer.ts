import type { Backend } from '../../../src/backend/backend.js'
import type { Bytes } from '../../../src/backend/cached-value.js'
import { openTruth } from '../../histories/truth.js'
import type { Peer } from './peer-protocol.js'

/** A value that shows whether all of it is of one write. */
export function pattern(key: number, version: number): Buffer {
  const bytes = Buffer.alloc(1000 + ((key * 7919 + version * 104_729) % 150_000), (key * 31 + version) % 256)
  bytes.writeDoubleLE(version, 0)
  return bytes
}

/** Writes and deletes large values as fast as it can, to be killed while it does. */
export function writer(peer: Peer, store: Backend<Bytes>): void {
  const { keys = 1, truth: path = '' } = peer
  const truth = openTruth(path)
  const write = async (key: number): Promise<void> => {
    for (;;) {
      const version = truth.advance(key)
      if (version % 7 === 0) await store.delete(`w${key}`)
      else await store.set(`w${key}`, pattern(key, version), version % 3 === 0 ? { ttl: 60_000 } : {})
      truth.acknowledge(key, version)
    }
  }
  for (let key = 0; key < keys; key++) void write(key)
}

import type { CachedValue } from '../../src/index.js'

const metadata = { startedAt: 1_700_000_000_000.25, createdAt: 1_700_000_000_001, expiresIn: 300_000 }

/** Entries as a region writes them. Every encoding keeps the payloads. */
export function entries(): [CachedValue, CachedValue, ...CachedValue[]] {
  return [
    { payload: { id: 1, name: 'Ärger 鍵', tags: ['a', 'b'], nested: { deep: [null, true] } }, metadata },
    { payload: 'text', metadata: { startedAt: 5, createdAt: 6 } },
    { payload: null, metadata },
    { payload: '', metadata },
    { payload: 0, metadata },
    { payload: false, metadata },
    { payload: [], metadata: { ...metadata, stale: true } },
    { payload: 1, metadata: { ...metadata, untracked: true } },
    { payload: 2, metadata: { ...metadata, standsFor: 86_400_000 } },
    {
      payload: [1, 2, { three: 3 }],
      metadata: {
        ...metadata,
        snapshot: { epoch: 'e', groups: [{ asOf: 7, names: ['region:r', 'user:5'] }] },
      },
    },
  ]
}

/** Bytes of all kinds, the empty ones too. */
export function bytes(): [Uint8Array, Uint8Array, ...Uint8Array[]] {
  return [
    new Uint8Array([1, 2, 3]),
    new Uint8Array([0, 255, 13, 10, 0]),
    new Uint8Array(0),
    Uint8Array.from({ length: 100_000 }, (_, i) => i % 251),
  ]
}

import { describe, it } from 'vitest'
import { memory } from '../../backends/memory/index.js'
import { backendContract } from '../../src/testing/index.js'
import { bytes, entries } from './values.js'

const runner = { describe, it }

backendContract('memory that shares', () => memory(), { values: entries(), runner, shares: true })
backendContract('memory that clones', () => memory({ copy: 'clone' }), { values: entries(), runner })
backendContract('memory that freezes', () => memory({ copy: 'freeze' }), {
  values: entries,
  runner,
  shares: true,
})
backendContract('memory bounded by entries', () => memory({ maxEntries: 5_000, copy: 'clone' }), {
  values: entries(),
  runner,
})
backendContract('memory bounded by bytes', () => memory({ maxBytes: 50_000_000, copy: 'clone' }), {
  values: entries(),
  runner,
})
backendContract('memory of bytes', () => memory({ stores: 'bytes' }), {
  values: bytes(),
  runner,
  shares: true,
})
backendContract('memory of bytes that clones', () => memory({ stores: 'bytes', copy: 'clone' }), {
  values: bytes(),
  runner,
})
backendContract(
  'memory of bytes, bounded',
  () => memory({ stores: 'bytes', maxBytes: 500_000_000, maxEntries: 5_000 }),
  { values: bytes(), runner, shares: true },
)

import { expect, it } from 'vitest'
import { memory } from '../../backends/memory/index.js'
import { makeRegion } from '../../src/index.js'
import { afterCommit } from '../../src/signals/index.js'

it('state that copies of the package share is found by none that looks for new globals', async () => {
  const region = makeRegion<string>({ name: 'r', backend: memory() })
  await afterCommit(() => region.getOrCreate('key', () => 'made'))
  const ours = (holder: object) =>
    Reflect.ownKeys(holder).filter((key) => /^Symbol\(corral/.test(String(key)))
  expect(ours(globalThis)).toEqual([])
  expect(ours(process)).toHaveLength(1)
  expect(ours({ ...process })).toEqual([])
})

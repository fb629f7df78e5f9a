import { expect, it } from 'vitest'
import { memory } from '../../backends/memory/index.js'
import { dependencies } from '../../proxies/dependencies.js'
import { dependsOn, makeRegion, wrap } from '../../src/index.js'

/** Node marks promises while something in the process listens to them, which makes each of them slower. */
const isWatched = (): boolean => Object.getOwnPropertySymbols(Promise.resolve().then(() => {})).length > 0

it('watches promises only while a creator runs', async ({ skip }) => {
  // From Node 24 on nothing has to be watched; and a debugger or another library may be watching anyway.
  if (isWatched()) skip()
  const region = makeRegion<string>({ name: 'watched', backend: wrap(memory(), dependencies()) })
  let within = false
  const make = async () => {
    await null
    within = isWatched()
    return 'made'
  }
  await region.getOrCreate('a', make)
  expect(within).toBe(Number(process.versions.node.split('.')[0]) < 24)
  expect(isWatched()).toBe(false)

  // One after another, and one inside another: the dependencies of a creator are handed up in both cases.
  await region.getOrCreate('outer', async () => {
    dependsOn('before')
    await region.getOrCreate('inner', async () => {
      dependsOn('inner')
      return 'x'
    })
    await null
    dependsOn('after')
    return 'made'
  })
  expect(isWatched()).toBe(false)
  for (const name of ['inner', 'after', 'before']) {
    expect(await region.get('outer')).not.toBeTypeOf('symbol')
    await region.invalidateDependencies(name)
    expect(await region.get('outer')).toBeTypeOf('symbol')
    await region.getOrCreate('outer', async () => {
      dependsOn('before', 'inner', 'after')
      return 'again'
    })
  }
})

import { describe, expect, it } from 'vitest'
import { asyncContext, type ContextFrame } from '../../src/base/async-context.js'
import { turn } from '../support/waiting.js'

interface Named extends ContextFrame<Named> {
  readonly name: string
}

describe('spans', () => {
  it('stay left after another one was entered there', async () => {
    const all = asyncContext<Named>('test: left')
    const span = (name: string) => ({ name, parent: all.current(), over: false })
    const seen: unknown[] = []
    await all.during(span('outer'), () =>
      all.leave(async () => {
        const inner = all.during(span('inner'), async () => {
          seen.push(all.current()?.name)
          await turn()
          seen.push(all.current()?.name)
        })
        seen.push(all.current())
        await inner
        seen.push(all.current())
      }),
    )
    expect(seen).toEqual(['inner', undefined, 'inner', undefined])
  })

  it('see the context around the place where they were left', async () => {
    const all = asyncContext<Named>('test: around')
    const seen: unknown[] = []
    await all.during({ name: 'outer', parent: undefined, over: false }, async () => {
      await all.leave(turn)
      seen.push(all.current()?.name)
    })
    expect([...seen, all.current()]).toEqual(['outer', undefined])
  })
})

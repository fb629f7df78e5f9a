import { expect, it } from 'vitest'
import { sleep } from '../../support/waiting.js'
import { bytes, everywhere, freshKey, granted, text } from './suite.js'

everywhere('the Redis backend', (at) => {
  it('keeps bytes', async () => {
    const backend = at().open()
    const value = Buffer.from(Array.from({ length: 256 }, (_, i) => i))
    const key = freshKey()
    expect(await backend.get(key)).toBeUndefined()
    expect(await backend.set(key, value, {})).toBe('stored')
    expect(Buffer.compare(value, (await backend.get(key)) as Buffer)).toBe(0)
    await backend.delete(key)
    await backend.delete(key)
    expect(await backend.get(key)).toBeUndefined()
  })

  it('keeps a view of a larger buffer, and nothing around it', async () => {
    const backend = at().open()
    const key = freshKey()
    const whole = Uint8Array.from([1, 2, 3, 4, 5])
    await backend.set(key, whole.subarray(1, 3), {})
    expect([...((await backend.get(key)) ?? [])]).toEqual([2, 3])
    await backend.set(key, new Uint8Array(0), {})
    expect((await backend.get(key))?.length).toBe(0)
  })

  it.each([
    '{}',
    '}',
    '{',
    'a}b',
    '{}a',
    '}{',
    '{a}',
    'a',
    '{a',
    'a{b}c}',
    '{{a}}',
    '{}{a}',
    '*?[a-z]\\',
    'a\0b',
    'a\nb\r\n',
    'ü€😀',
    ' ',
    '%7D',
    '~',
    '~corral',
    '__proto__',
  ])('keeps the key %j apart from all others, with its lease', async (odd) => {
    const backend = at().open()
    const token = await granted(backend, odd)
    expect(await backend.set(odd, bytes(`of ${odd}`), { token, ttl: 60_000 })).toBe('stored')
    expect(text(await backend.get(odd))).toBe(`of ${odd}`)
    expect(await backend.held(odd)).toBe(false)
  })

  it('forgets at the end of a physical lifetime, to the millisecond rounded up', async () => {
    const backend = at().open()
    const key = freshKey()
    await backend.set(key, bytes('short'), { ttl: 0.2 })
    await backend.set(`${key}'`, bytes('long'), { ttl: Number.MAX_VALUE })
    await sleep(20)
    expect(await backend.get(key)).toBeUndefined()
    expect(text(await backend.get(`${key}'`))).toBe('long')
  })

  it('answers many keys in their order, each once or more', async () => {
    const backend = at().open()
    const keys = Array.from({ length: 1_200 }, () => freshKey('many'))
    const outcomes = await backend.setMulti(
      keys.filter((_, i) => i % 3 > 0).map((key) => [key, bytes(key), { ttl: 60_000 }]),
    )
    expect(new Set(outcomes)).toEqual(new Set(['stored']))
    const asked = [...keys, ...keys].reverse()
    const found = await backend.getMulti(asked)
    expect(found.map(text)).toEqual(asked.map((key) => (keys.indexOf(key) % 3 > 0 ? key : undefined)))
    await backend.deleteMulti(keys)
    expect((await backend.getMulti(keys)).every((value) => value === undefined)).toBe(true)
    expect(await backend.getMulti([])).toEqual([])
    expect(await backend.setMulti([])).toEqual([])
    await backend.deleteMulti([])
  })

  it('fences each write of a batch by its own token', async () => {
    const [mine, theirs] = [at().open(), at().open()]
    const [kept, lost] = [freshKey(), freshKey()]
    const [one, other] = [await granted(mine, kept), await granted(mine, lost)]
    await theirs.delete(lost)
    expect(
      await mine.setMulti([
        [kept, bytes('a'), { token: one }],
        [lost, bytes('b'), { token: other }],
      ]),
    ).toEqual(['stored', 'lost'])
    expect((await theirs.getMulti([kept, lost])).map(text)).toEqual(['a', undefined])
  })

  it('refuses keys of its own bookkeeping, and text that has no bytes of its own', async () => {
    const backend = at().open()
    for (const key of ['~corral:lease={a}', '~corral:stamp:x', 'half \ud800 a pair']) {
      await expect(async () => backend.get(key)).rejects.toMatchObject({ code: 'ERR_KEY' })
      await expect(async () => backend.set(key, bytes('x'), {})).rejects.toMatchObject({ code: 'ERR_KEY' })
      await expect(async () => backend.delete(key)).rejects.toMatchObject({ code: 'ERR_KEY' })
    }
  })

  it('survives the loss of its scripts', async () => {
    const backend = at().open()
    const { admin } = at()
    for (const key of [freshKey(), freshKey()]) {
      for (const node of 'nodes' in admin ? admin.nodes('master') : [admin]) await node.script('FLUSH')
      const token = await granted(backend, key)
      for (const node of 'nodes' in admin ? admin.nodes('master') : [admin]) await node.script('FLUSH')
      expect(
        await backend.setMulti([
          [key, bytes('v'), { token }],
          [freshKey(), bytes('w'), {}],
        ]),
      ).toEqual(['stored', 'stored'])
    }
  })
})

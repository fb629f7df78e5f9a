import { describe, expect, it } from 'vitest'
import { session, versioned } from '../../src/session/index.js'
import { gate, sleep, turn } from '../support/waiting.js'
import { cachedTable } from './support.js'

describe('a session', () => {
  it('reaches all that is called in it, and ends when its promise settles', async () => {
    expect(session.current()).toBeUndefined()
    let inside: ReturnType<typeof session.current>
    const seen = await session.run(async () => {
      inside = session.current()
      await sleep(1)
      return session.current()
    })
    expect(seen).toBe(inside)
    expect(inside).toMatchObject({ over: true })
    expect(session.current()).toBeUndefined()
  })

  it('passes on the result or the error, and ends with it', async () => {
    expect(session.run(() => 5)).toBe(5)
    const spans: ReturnType<typeof session.current>[] = []
    const fail = () => {
      spans.push(session.current())
      throw new Error('thrown')
    }
    expect(() => session.run(fail)).toThrow('thrown')
    await expect(session.run(async () => fail())).rejects.toThrow('thrown')
    await sleep(1)
    expect(spans).toEqual([{ over: true }, { over: true }].map((span) => expect.objectContaining(span)))
  })

  for (const name of ['express', 'fastify', 'koa', 'hono'] as const)
    it(`refuses to be a middleware without a call: session.${name}`, () => {
      const passedOn: (...given: unknown[]) => unknown = session[name]
      expect(() => passedOn({}, {}, () => {})).toThrow(
        expect.objectContaining({
          code: 'ERR_OPTION',
          message: expect.stringContaining(`session.${name}()`),
        }),
      )
    })

  it('runs functions and forgets objects, and refuses any other value', () => {
    for (const wrong of [5, undefined, 'text', {}])
      expect(() => session.run(wrong as never)).toThrow(expect.objectContaining({ code: 'ERR_OPTION' }))
    for (const wrong of [5, 'text', null, true])
      expect(() => session.forget(wrong as never)).toThrow(expect.objectContaining({ code: 'ERR_OPTION' }))
    session.forget()
  })

  it('keeps none of those that it was begun in, once they are over', async () => {
    const length = (span: unknown): number =>
      span === undefined ? 0 : 1 + length((span as { parent?: unknown }).parent)
    const lengths: number[] = []
    const end = gate()
    const held = session.run(() => end.opened)
    // One begun by a timer that the former left behind, and one begun while the former still runs.
    for (const begunInside of [false, true])
      await new Promise<void>((done) => {
        let left = 50
        const begin = (): unknown =>
          session.run(async () => {
            lengths.push(length(session.current()))
            if (left-- === 0) return done()
            setImmediate(begin)
            if (begunInside) await turn()
          })
        begin()
      })
    end.open()
    await held
    expect(lengths.length).toBe(102)
    expect(Math.max(...lengths)).toBeLessThan(5)
  })

  it('inside another one is a new one', async () => {
    await session.run(async () => {
      const outer = session.current()
      await session.run(async () => {
        expect(session.current()).not.toBe(outer)
      })
      expect(session.current()).toBe(outer)
    })
  })

  it('keeps concurrent work apart', async () => {
    const { seen, cached } = cachedTable()
    await Promise.all([1, 2, 3].map(() => session.run(async () => [await cached('a'), await cached('a')])))
    expect(seen).toEqual({ versions: 3, reads: 1 })
  })

  it('that has ended shares nothing with work that it left behind, which may be in a session further out', async () => {
    const { seen, write, cached } = cachedTable()
    const late = gate()
    let left: Promise<string> | undefined
    let innermost: Promise<unknown> | undefined
    await session.run(async () => {
      write('a', 'one')
      await cached('a')
      left = late.opened.then(() => cached('a'))
    })
    await session.run(async () => {
      const outer = session.current()
      await session.run(async () => {
        innermost = Promise.resolve().then(() => sleep(2).then(() => session.current()))
      })
      expect(await innermost).toBe(outer)
    })
    write('a', 'two')
    late.open()
    expect(await left).toBe('two')
    expect(seen.versions).toBe(2)
  })

  it('that ends while a value is made lets it be made, under the version that it knew', async () => {
    const made = gate()
    const { write, read, seen, version } = cachedTable()
    const slow = versioned({ namespace: 'ends', version })(async (id: string) => {
      const text = read(id)
      await made.opened
      return text
    })
    write('a', 'one')
    let call: Promise<string> | undefined
    let span: ReturnType<typeof session.current>
    session.run(() => {
      span = session.current()
      call = slow('a')
    })
    expect(span).toMatchObject({ over: true })
    await sleep(1)
    write('a', 'two')
    made.open()
    expect(await call).toBe('one')
    expect(await slow('a')).toBe('two')
    expect(seen).toEqual({ versions: 2, reads: 2 })
  })

  it('may be told to forget, by its object too', async () => {
    const own = {}
    const { seen, cached } = cachedTable({ session: () => own })
    await cached('a')
    session.forget()
    await cached('a')
    expect(seen.versions).toBe(1)
    session.forget(own)
    await cached('a')
    expect(seen.versions).toBe(2)
  })
})

import { pino } from 'pino'
import { afterEach, describe, expect, it } from 'vitest'
import { memory } from '../../backends/memory/index.js'
import { dependencies } from '../../proxies/dependencies.js'
import { diagnostics, makeRegion, wrap } from '../../src/index.js'
import { type LogOptions, logTo, type PinoLogger } from '../../src/integrations/pino.js'

let end = () => {}
afterEach(() => end())

/** The lines that the real pino writes. */
function logging(options?: LogOptions) {
  const lines: Record<string, unknown>[] = []
  const logger = pino({ level: 'debug' }, { write: (line: string) => void lines.push(JSON.parse(line)) })
  end = logTo(logger satisfies PinoLogger, options)
  return lines
}

describe('logTo()', () => {
  it('logs a failure as an error, with the error under err', () => {
    const lines = logging()
    diagnostics('failure').publish({ where: 'ready', key: 'secret', error: new Error('away'), count: 3 })
    expect(lines).toMatchObject([
      { level: 50, corral: 'failure', where: 'ready', count: 3, err: { type: 'Error', message: 'away' } },
    ])
  })

  it('logs an invalidation for debugging, without its names', async () => {
    const lines = logging()
    const region = makeRegion({ name: 'users', backend: wrap(memory(), dependencies()) })
    await region.delete('ada@example.com')
    expect(lines).toMatchObject([
      { level: 30, corral: 'configure', region: 'users', backend: 'memory' },
      { level: 20, corral: 'invalidate', region: 'users', what: 'key', mode: 'hard' },
    ])
    expect(JSON.stringify(lines)).not.toContain('ada')
  })

  it('logs keys and names where it is told to', async () => {
    const lines = logging({ keys: true })
    await makeRegion({ name: 'users', backend: memory() }).delete('5')
    expect(lines.at(-1)).toMatchObject({ names: ['5'] })
  })

  it('logs the text of a notice, and warns of values that are not stored or of no use', () => {
    const lines = logging()
    diagnostics('notice').publish({ where: 'lease', message: 'a lease was lost' })
    diagnostics('unstored').publish({ region: 'users', key: 'k', reason: 'invalidated' })
    diagnostics('undecodable').publish({ layer: 'json', key: 'k', reason: 'no JSON', total: 1 })
    expect(lines.map(({ level, msg }) => [level, msg])).toEqual([
      [40, 'corral: a lease was lost'],
      [40, 'corral: a value was created but not stored'],
      [40, 'corral: a stored value is of no use'],
    ])
  })

  it('ends, and leaves the channels without a subscriber', () => {
    logging()
    end()
    expect(diagnostics('failure').hasSubscribers).toBe(false)
  })

  it('refuses a logger that gets the lines already, until that has ended', () => {
    const logger = pino({ level: 'silent' })
    end = logTo(logger)
    expect(() => logTo(logger, { keys: true })).toThrow(expect.objectContaining({ code: 'ERR_OPTION' }))
    end()
    end = logTo(logger, { keys: true })
  })

  it('refuses something that is no logger', () => {
    expect(() => logTo({ error: () => {} } as never)).toThrow(/a logger such as pino/)
  })
})

import { AsyncLocalStorage } from 'node:async_hooks'
import { describe, expect, it } from 'vitest'
import { memory } from '../../backends/memory/index.js'
import { type CreationJob, inBackground, makeRegion } from '../../src/index.js'
import { localBus, relay } from '../../src/signals/index.js'
import { inEveryRegion } from '../support/stage.js'
import { idle, turn } from '../support/waiting.js'

const request = new AsyncLocalStorage<string>()
const KEYS = [...'abcdef']

inEveryRegion('the asynchronous context of a creator', (open) => {
  /** The request around each creation, by key, before and after a pause. */
  const renewedBy = async (
    runner: (job: CreationJob) => void,
    run: () => Promise<void>,
    form: 'one' | 'many',
  ): Promise<readonly string[]> => {
    const { region } = open<string>({ asyncCreationRunner: runner })
    const seen: string[] = []
    const create = async (key: string) => {
      const before = request.getStore()
      await turn()
      seen.push(`${key}: ${before} ${request.getStore()}`)
      return `created for ${request.getStore()}`
    }
    const ask = (key: string) =>
      request.run(key, async () => {
        if (form === 'one') await region.getOrCreate(key, () => create(key))
        else await region.getOrCreateMulti([key], async () => [await create(key)])
      })
    await Promise.all(KEYS.map(ask))
    await region.invalidate('soft')
    await Promise.all(KEYS.map(ask))
    await request.run('the drain', run)
    const stored = await Promise.all(KEYS.map((key) => region.get(key)))
    expect(stored).toEqual(KEYS.map((key) => `created for ${key}`))
    await region.close()
    return seen.slice(KEYS.length).sort()
  }

  for (const form of ['one', 'many'] as const) {
    it.each([1, 2])(
      `is its own caller's in a background of %i (getOrCreate of ${form})`,
      async (concurrency) => {
        const runner = inBackground({ concurrency })
        const seen = await renewedBy(runner, () => runner.drain(), form)
        expect(seen).toEqual(KEYS.map((key) => `${key}: ${key} ${key}`))
      },
    )

    it(`is its own caller's where a runner of the application runs it elsewhere (getOrCreate of ${form})`, async () => {
      const jobs: CreationJob[] = []
      const runAll = async () => {
        await Promise.all(jobs.map((job) => job.run()))
      }
      const seen = await renewedBy((job) => void jobs.push(job), runAll, form)
      expect(seen).toEqual(KEYS.map((key) => `${key}: ${key} ${key}`))
    })
  }

  it("is the caller's own after it waited for another caller", async () => {
    const { region } = open<string>({ lease: { wait: '1h' } })
    const [one, other] = await Promise.all(
      ['one', 'other'].map((id) =>
        request.run(id, async () => {
          const value = await region.getOrCreate(
            'key',
            async () => (await turn(), `by ${request.getStore()}`),
          )
          return `${value}, read by ${request.getStore()}`
        }),
      ),
    )
    expect([one, other]).toEqual(['by one, read by one', 'by one, read by other'])
  })
})

describe('the asynchronous context of a listener', () => {
  it('is the one in which the relay was set up, for events of another process', async () => {
    const bus = localBus()
    const open = () => makeRegion<string>({ name: 'users', backend: memory() })
    const [here, there] = [open(), open()]
    const heard: (string | undefined)[] = []
    here.on('invalidate', () => void heard.push(request.getStore()))
    request.run('set-up', () => relay(bus, [here]))
    relay(bus, [there])
    await request.run('another request', () => there.delete('key'))
    await idle()
    expect(heard).toEqual(['set-up'])
  })
})

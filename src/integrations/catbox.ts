/**
 * A region as an engine of catbox, the cache of hapi. A policy of catbox creates and renews by rules of its own. The fence
 * of `getOrCreate` is out of its reach, so an invalidation between its read and its write is followed by the old value.
 */
import { checkOptions, expectBoolean, expectMethods, ownOptions } from '../base/options.js'
import type { Region } from '../region/types.js'

/**
 * The options of `catboxEngine()`.
 * @example
 * ```ts
 * import type { CatboxEngineOptions } from 'corral/integrations/catbox'
 *
 * export const options: CatboxEngineOptions = { closesRegion: true }
 * ```
 */
export interface CatboxEngineOptions {
  /** `stop()` closes the region; the engine cannot start again. @default false */
  readonly closesRegion?: boolean | undefined
}

interface CatboxKey {
  readonly segment: string
  readonly id: string
}

/**
 * An engine of catbox.
 * @example
 * ```ts
 * import type { CatboxEngine } from 'corral/integrations/catbox'
 *
 * export const isReady = (engine: CatboxEngine) => engine.isReady()
 * ```
 */
export interface CatboxEngine {
  start(): Promise<void>
  stop(): Promise<void>
  isReady(): boolean
  validateSegmentName(segment: string): null | Error
  get<T>(key: CatboxKey): Promise<null | { item: T; stored: number; ttl: number }>
  set(key: CatboxKey, value: unknown, ttl: number): Promise<void>
  drop(key: CatboxKey): Promise<void>
}

/**
 * An engine over a region: `new Client(catboxEngine(region))`, or in hapi
 * `cache: [{ provider: { constructor: …, options } }]` with a class that returns it. Failures reject: catbox passes them on
 * by its rules, such as `generateOnReadError`.
 * @example
 * ```ts
 * import { Client } from '@hapi/catbox'
 * import { makeRegion } from 'corral'
 * import { memory } from 'corral/backends/memory'
 * import { catboxEngine } from 'corral/integrations/catbox'
 *
 * const region = makeRegion({ name: 'catbox', backend: memory() })
 * const client = new Client(catboxEngine(region))
 * await client.start()
 * await client.set({ segment: 'users', id: '5' }, 'Ada', 60_000)
 * ```
 * @throws CorralError `ERR_OPTION` without a region.
 */
export function catboxEngine(region: Region, options: CatboxEngineOptions = {}): CatboxEngine {
  options = ownOptions(options)
  expectMethods(region, ['getValueMetadata', 'set', 'delete'], 'catboxEngine() to receive a region')
  checkOptions(options, 'catboxEngine()', { closesRegion: expectBoolean })
  const { closesRegion = false } = options
  let started = false
  const expectStarted = () => {
    if (!started) throw new Error('Expected the engine of catbox to be started. Call start() first.')
  }
  return {
    async start() {
      started = true
    },
    async stop() {
      started = false
      if (closesRegion) await region.close()
    },
    isReady: () => started && region.isConfigured,
    validateSegmentName(segment) {
      if (segment === '') return new Error('Expected the name of a segment, got an empty one.')
      return segment.includes('\0') ? new Error('Expected the name of a segment without a zero byte.') : null
    },
    async get<T>(key: CatboxKey) {
      expectStarted()
      const entry = await region.getValueMetadata(keyOf(key))
      if (entry === undefined) return null
      const { payload, metadata, expiresAt } = entry
      const stored = Math.floor(metadata.createdAt)
      return { item: payload as T, stored, ttl: expiresAt - metadata.createdAt }
    },
    async set(key, value, ttl) {
      expectStarted()
      await region.set(keyOf(key), value, { expirationTime: ttl })
    },
    async drop(key) {
      expectStarted()
      await region.delete(keyOf(key))
    },
  }
}

/** Escaped: the segment `a` with the id `b:c` is not `a:b` with `c`. */
const keyOf = ({ segment, id }: CatboxKey) => `${segment.replace(/[\\:]/g, '\\$&')}:${id}`

import { expectInteger, factory, ownOptions, rejectUnknownOptions } from '../base/options.js'
import { queueMicrotask } from '../base/timers.js'

/**
 * A renewal that a runner may do when and where it likes.
 * @example
 * ```ts
 * import type { CreationJob } from 'corral'
 *
 * export async function timed(job: CreationJob): Promise<void> {
 *   const start = performance.now()
 *   await job.run()
 *   console.log(job.key, performance.now() - start)
 * }
 * ```
 */
export interface CreationJob {
  /** The key, or the first of several that one call asked for. */
  readonly key: string
  readonly keys: readonly string[]
  readonly signal: AbortSignal
  /**
   * Creates, stores under the lease and gives it back. If the job waited for longer than `lease.ms`, another caller may have renewed
   * the value by now: it creates nothing, and the next reader of a stale value asks for another job. Never rejects: failures go to the
   * `failure` channel.
   */
  run(): Promise<void>
}

/**
 * Is handed a renewal when a stale value can be served meanwhile. A job that is dropped frees its key when its lease
 * expires.
 * @example
 * ```ts
 * import type { AsyncCreationRunner } from 'corral'
 *
 * // Renews when the event loop has nothing else to do.
 * export const whenIdle: AsyncCreationRunner = (job) => {
 *   setImmediate(() => void job.run())
 * }
 * ```
 */
export type AsyncCreationRunner = (job: CreationJob) => void

/**
 * A runner of this process that knows when its jobs are done.
 * @example
 * ```ts
 * import type { BackgroundRunner, Region } from 'corral'
 *
 * export async function shutDown(region: Region, runner: BackgroundRunner): Promise<void> {
 *   await runner.drain()
 *   await region.close()
 * }
 * ```
 */
export interface BackgroundRunner extends AsyncCreationRunner {
  /** Resolves when every job that was handed over is done: call it before the process ends. */
  drain(): Promise<void>
}

/**
 * Renews in the background of this process, at most `concurrency` at a time, first come first served.
 * @example
 * ```ts
 * import { inBackground, makeRegion } from 'corral'
 * import { memory } from 'corral/backends/memory'
 *
 * const renewals = inBackground({ concurrency: 2 })
 * const prices = makeRegion<number>({
 *   backend: memory(),
 *   expirationTime: '1m',
 *   asyncCreationRunner: renewals,
 * })
 * await prices.getOrCreate('eur', async () => 1.1)
 * await renewals.drain()
 * ```
 * @throws CorralError `ERR_OPTION` unless `concurrency` is an integer from 1 up.
 */
export const inBackground: (options?: { readonly concurrency?: number }) => BackgroundRunner =
  /* @__PURE__ */ factory({
    inBackground(options = {}) {
      options = ownOptions(options)
      rejectUnknownOptions(options, ['concurrency'], 'inBackground()')
      const { concurrency = 8 } = options
      expectInteger(concurrency, '`concurrency`', 1, Number.POSITIVE_INFINITY)
      const queue: CreationJob[] = []
      let running = 0
      let idle: (() => void)[] = []
      const next = (): void => {
        while (running < concurrency) {
          const job = queue.shift()
          if (job === undefined) break
          running++
          // The runner also runs a job that the region has called off: such a job only gives its leases back.
          void job.run().finally(() => {
            running--
            next()
          })
        }
        if (running > 0) return
        for (const resolve of idle) resolve()
        idle = []
      }
      const runner = (job: CreationJob): void => {
        queue.push(job)
        queueMicrotask(next)
      }
      const drain = (): Promise<void> =>
        running === 0 && queue.length === 0 ? Promise.resolve() : new Promise((resolve) => idle.push(resolve))
      return Object.assign(runner, { drain })
    },
  })

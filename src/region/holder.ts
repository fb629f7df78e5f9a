import type { CallRegistry } from '../backend/tracker.js'
import { milliseconds } from '../base/duration.js'
import { CorralError } from '../base/errors.js'
import { isPromise, type MaybePromise } from '../base/maybe-promise.js'
import type { CreateOptions } from '../creation/types.js'
import type { ConfiguredRegion } from './configure.js'

/** How the operations of a region come by what it is configured with, which may be replaced under them. */
export interface RegionUse {
  /** @throws CorralError `ERR_NOT_CONFIGURED` or `ERR_CLOSED` */
  use(): ConfiguredRegion
  /** Whatever goes wrong in an operation of a region is a rejection. */
  operation<R>(work: (region: ConfiguredRegion) => MaybePromise<R>): Promise<R>
}

export interface RegionHolder extends RegionUse {
  readonly configured: ConfiguredRegion | undefined
  /** The calls that were made of it, where its chain remembers any. */
  readonly calls: CallRegistry | undefined
  /** What is used from now on; answers what was before. */
  adopt(next: ConfiguredRegion): ConfiguredRegion | undefined
  close(): ConfiguredRegion | undefined
}

export function regionHolder(name: string | undefined): RegionHolder {
  const which = `Region ${name === undefined ? '' : `'${name}' `}`
  let configured: ConfiguredRegion | undefined
  let calls: CallRegistry | undefined
  let closed = false

  const use = (): ConfiguredRegion => {
    if (configured !== undefined) return configured
    if (closed) throw new CorralError('ERR_CLOSED', `${which}was closed. Configure it again to use it.`)
    throw new CorralError(
      'ERR_NOT_CONFIGURED',
      `${which}is used before it is configured. Call region.configure({ backend }) at start-up.`,
    )
  }
  const replace = (next: ConfiguredRegion | undefined): ConfiguredRegion | undefined => {
    const former = configured
    configured = next
    calls = next?.tracker?.calls?.()
    return former
  }
  return {
    get configured() {
      return configured
    },
    get calls() {
      return calls
    },
    use,
    operation(work) {
      try {
        const result = work(use())
        return isPromise(result) ? result : Promise.resolve(result)
      } catch (error) {
        return Promise.reject(error)
      }
    },
    adopt: replace,
    close() {
      closed = true
      return replace(undefined)
    },
  }
}

/** The age in ms up to which a value is fresh to this call; `undefined`: its own, or its region's. */
export function limitOf(given: CreateOptions<never>['expirationTime']): number | undefined {
  if (given === undefined) return undefined
  return typeof given === 'number' && given > 0 ? given : milliseconds(given, 'expirationTime')
}

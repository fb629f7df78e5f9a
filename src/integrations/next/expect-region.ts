import { expectMethods } from '../../base/options.js'
import type { Region } from '../../region/types.js'

/** @throws CorralError `ERR_OPTION` unless it is a region. */
export function expectTrackingRegion(region: Region, where: string): void {
  expectMethods(
    region,
    ['get', 'asOf', 'freshnessOf', 'invalidateDependencies'],
    `${where} to receive a region`,
  )
}

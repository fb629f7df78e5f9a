import { nextUseCacheHandler } from 'corral/integrations/next'
import { region } from './region.mjs'

export default nextUseCacheHandler(region)

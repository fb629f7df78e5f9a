import { nextIsrHandler } from 'corral/integrations/next'
import { region } from './region.mjs'

export default nextIsrHandler(region)

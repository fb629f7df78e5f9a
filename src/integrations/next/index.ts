/**
 * Next.js 16 over a region: one cache for all servers, in which `revalidateTag`, `updateTag` and `revalidatePath` are one write
 * that no server misses, and that no rendering undoes which had begun before it.
 */
export { type NextIsrHandler, nextIsrHandler } from './isr.js'
export { type NextUseCacheHandler, nextUseCacheHandler } from './use-cache.js'

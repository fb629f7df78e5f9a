import { fileURLToPath } from 'node:url'

const file = (name) => fileURLToPath(new URL(name, import.meta.url))

/** @type {import('next').NextConfig} */
export default {
  cacheComponents: true,
  partialPrefetching: true,
  // 'use cache' and 'use cache: remote'
  cacheHandlers: { default: file('./cache/use-cache.mjs'), remote: file('./cache/use-cache.mjs') },
  // pages, routes and fetch
  cacheHandler: file('./cache/isr.mjs'),
  // The memory of a server hears of no change that another one makes.
  cacheMaxMemorySize: 0,
  // These run in Node.js as they are.
  serverExternalPackages: ['corral', 'ioredis', 'lmdb', 'msgpackr'],
}

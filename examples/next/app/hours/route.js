import { cacheLife, cacheTag } from 'next/cache'

async function hours() {
  'use cache'
  cacheLife({ stale: 30, revalidate: 3_600, expire: 86_400 })
  cacheTag('hours')
  return `hours ${process.pid} ${performance.now()}`
}

export async function GET() {
  return new Response(await hours())
}

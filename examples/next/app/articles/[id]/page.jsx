import { cacheLife, cacheTag } from 'next/cache'
import { Suspense } from 'react'

async function article(id) {
  'use cache: remote'
  cacheLife({ stale: 30, revalidate: 3_600, expire: 86_400 })
  cacheTag('articles', `article-${id}`)
  return { title: `Article ${id}`, made: `article ${process.pid} ${performance.now()}` }
}

async function Article({ params }) {
  const { id } = await params
  const { title, made } = await article(id)
  return (
    <main>
      <h1>{title}</h1>
      <p id="made">{made}</p>
    </main>
  )
}

export default function Page({ params }) {
  return (
    <Suspense fallback={<p>Loading…</p>}>
      <Article params={params} />
    </Suspense>
  )
}

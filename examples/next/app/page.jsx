import { cacheLife, cacheTag } from 'next/cache'

/** The number of times that this list was made, in all servers, is not known: its time tells the lists apart. */
async function list() {
  'use cache'
  cacheLife({ stale: 30, revalidate: 3_600, expire: 86_400 })
  cacheTag('articles')
  return { ids: [1, 2, 3], made: `list ${process.pid} ${performance.now()}` }
}

export default async function Home() {
  const { ids, made } = await list()
  return (
    <main>
      <h1>Articles</h1>
      <ul>
        {ids.map((id) => (
          <li key={id}>
            <a href={`/articles/${id}`}>Article {id}</a>
          </li>
        ))}
      </ul>
      <p id="made">{made}</p>
    </main>
  )
}

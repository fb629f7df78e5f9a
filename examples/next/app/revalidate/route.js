import { revalidatePath, revalidateTag } from 'next/cache'

/** `POST /revalidate?tag=articles`: gone at once. With `&life=max` stale once, while it is made again. `?path=/` is a path. */
export async function POST(request) {
  const { searchParams } = new URL(request.url)
  const [tag, path, life] = ['tag', 'path', 'life'].map((name) => searchParams.get(name))
  if (tag !== null) revalidateTag(tag, life ?? { expire: 0 })
  if (path !== null) revalidatePath(path)
  return new Response('revalidated\n')
}

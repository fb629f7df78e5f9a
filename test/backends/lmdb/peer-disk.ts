import { lmdb } from '../../../backends/lmdb/index.js'
import { CorralError } from '../../../src/base/errors.js'

/** Runs over a broken disk, and prints the outcome as JSON. */
const [mode = '', file = ''] = process.argv.slice(2)
const answer: Record<string, unknown> = {}
process.on('unhandledRejection', (error) => {
  answer.unhandled = String(error)
})

const told = (error: unknown) =>
  CorralError.is(error) ? { code: error.code, message: error.message } : { untyped: String(error) }
const value = (i: number): Buffer => Buffer.alloc(20_000, i)

async function fillUp(): Promise<void> {
  const store = lmdb(file, { maxBytes: 2 ** 26, timeout: '5s' })
  const stored: number[] = []
  const errors: unknown[] = []
  for (let i = 0; i < 200 && errors.length < 5; i++)
    try {
      await store.set(`k${i}`, value(i), {})
      stored.push(i)
    } catch (error) {
      errors.push(told(error))
    }
  answer.stored = stored.length
  answer.errors = errors
  const wrong = async (from: typeof store) => {
    let count = 0
    for (const i of stored) if (!value(i).equals((await from.get(`k${i}`)) as Buffer)) count++
    return count
  }
  answer.wrong = await wrong(store)
  await store.close()
  const again = lmdb(file, { maxBytes: 2 ** 26 })
  answer.wrongAfterwards = await wrong(again)
  // Room is made by deleting, as far as LMDB finds the pages for that.
  for (const i of stored.slice(0, 20)) await Promise.resolve(again.delete(`k${i}`)).catch(() => {})
  answer.afterDeleting = await Promise.resolve(again.set('small', Buffer.from('x'), {})).catch(told)
  await again.close()
}

async function openAll(paths: readonly string[]): Promise<void> {
  const answers: [path: string, answer: unknown][] = []
  for (const path of paths)
    try {
      await lmdb(path, { timeout: '1s' }).close()
      answers.push([path, 'opened'])
    } catch (error) {
      answers.push([path, (error as { code?: unknown }).code])
    }
  console.log(JSON.stringify(answers))
  process.exit(0)
}

try {
  if (mode === 'full') await fillUp()
  else if (mode === 'odd') await openAll(JSON.parse(file) as string[])
  else {
    const store = lmdb(file)
    answer.opened = true
    await store.close()
  }
} catch (error) {
  answer.thrown = told(error)
}
console.log(JSON.stringify(answer))
process.exit(0)

import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { lmdb } from '../../../backends/lmdb/index.js'
import { temporaryFolder } from './support.js'

/** Takes the only place for readers that the file has, until its input ends. */
const READER = `
const root = require('lmdb').open({ path: process.argv[1], maxReaders: 1, maxDbs: 4, encoding: 'binary' })
root.putSync('a', Buffer.from('x'))
root.useReadTransaction()
root.get('a')
console.log('reads')
process.stdin.resume().on('end', () => process.exit())`

test('a file that has no place for another reader names `maxReaders`', async () => {
  const file = join(temporaryFolder(), 'cache.mdb')
  const other = spawn(process.execPath, ['-e', READER, file], { stdio: ['pipe', 'pipe', 'inherit'] })
  try {
    await once(other.stdout, 'data')
    const read = async () => {
      const backend = lmdb(file)
      try {
        return await backend.get('k')
      } finally {
        await backend.close()
      }
    }
    await expect(read()).rejects.toMatchObject({
      code: 'ERR_BACKEND',
      message: expect.stringMatching(/raise `maxReaders`/),
    })
  } finally {
    other.stdin.end()
    await once(other, 'exit')
  }
})

import { join } from 'node:path'
import { open } from 'lmdb'
import { describe, it } from 'vitest'
import { lmdb } from '../../backends/lmdb/index.js'
import { backendContract } from '../../src/testing/index.js'
import { temporaryFolder } from '../backends/lmdb/support.js'
import { bytes } from './values.js'

const folder = temporaryFolder()
let files = 0
const newFile = () => join(folder, `${++files}.mdb`)
const runner = { describe, it }

backendContract('lmdb', () => lmdb(newFile()), { values: bytes(), runner })
backendContract('lmdb in a folder, bounded', () => lmdb(join(folder, `${++files}`), { maxBytes: 2 ** 26 }), {
  values: bytes(),
  runner,
})
backendContract('lmdb of a database that is open already', () => lmdb(open(newFile(), {})), {
  values: bytes(),
  runner,
})

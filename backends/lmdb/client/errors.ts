import { CorralError } from '../../../src/base/errors.js'

/** What lmdb throws: an error number of LMDB's or of the system's, or a failed commit with the reason behind a promise. */
interface LmdbError {
  readonly code?: unknown
  readonly message?: unknown
  readonly commitError?: PromiseLike<unknown>
}

const MDB_MAP_FULL = -30792
const MDB_READERS_FULL = -30790
const ENOSPC = 28
/** What LMDB makes of a write that ended short. */
const EIO = 5

/** The one error that lmdb's failure becomes, its own as the cause. */
export async function failure(error: unknown): Promise<CorralError> {
  if (CorralError.is(error)) return error
  const { commitError } = (error ?? {}) as LmdbError
  if (commitError === undefined) return named(error)
  try {
    await commitError
    return named(error)
  } catch (reason) {
    return named(reason)
  }
}

/** The same for what is thrown at once. */
export function named(error: unknown): CorralError {
  if (CorralError.is(error)) return error
  const { code, message } = (error ?? {}) as LmdbError
  const text = typeof message === 'string' ? message : String(error)
  const said = (advice: string) =>
    new CorralError('ERR_BACKEND', `LMDB failed: ${text}. ${advice}`, { cause: error })
  if (code === MDB_MAP_FULL || text.includes('MDB_MAP_FULL'))
    return said(
      'The file cannot grow any further: lower `maxBytes`, or make more address space available. Nothing was written.',
    )
  if (code === ENOSPC || code === EIO || code === 'ENOSPC' || code === 'EIO')
    return said('The disk is full, or failing: make room, or lower `maxBytes`. Nothing was written.')
  if (code === MDB_READERS_FULL || text.includes('MDB_READERS_FULL'))
    return said(
      'More processes read the file than it has places for: raise `maxReaders`, with all of them stopped.',
    )
  return said('See `cause`.')
}

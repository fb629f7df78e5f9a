import { CorralError } from '../../../src/base/errors.js'

/** An error of lmdb's: a number of LMDB's or of the system's, or a failed commit with the reason behind a promise. */
interface LmdbError {
  readonly code?: unknown
  readonly message?: unknown
  readonly commitError?: PromiseLike<unknown>
}

const MDB_MAP_FULL = -30792
const MDB_READERS_FULL = -30790
const ENOSPC = 28
/** LMDB's code for a write that ended short. */
const EIO = 5

/** The CorralError for a commit that failed. */
export async function commitError(error: unknown): Promise<CorralError> {
  const { commitError } = (error ?? {}) as LmdbError
  try {
    await commitError
    return lmdbError(error)
  } catch (reason) {
    return lmdbError(reason)
  }
}

/** The CorralError for any other failure of lmdb's. */
export function lmdbError(error: unknown): CorralError {
  if (CorralError.is(error)) return error
  const { code, message } = (error ?? {}) as LmdbError
  const text = typeof message === 'string' ? message : String(error)
  const advice = adviceFor(code, text) ?? 'See `cause`.'
  return new CorralError('ERR_BACKEND', `LMDB failed: ${text}. ${advice}`, { cause: error })
}

/** Whether the error is one of those with a remedy of its own. */
export function hasAdvice(error: unknown): boolean {
  const { code, message } = (error ?? {}) as LmdbError
  return adviceFor(code, String(message)) !== undefined
}

function adviceFor(code: unknown, text: string): string | undefined {
  if (code === MDB_MAP_FULL || text.includes('MDB_MAP_FULL'))
    return 'The file cannot grow any further: lower `maxBytes`, or provide more address space. Nothing was written.'
  if (code === ENOSPC || code === EIO || code === 'ENOSPC' || code === 'EIO')
    return 'The disk is full, or failing: free some room, or lower `maxBytes`. Nothing was written.'
  if (code === MDB_READERS_FULL || text.includes('MDB_READERS_FULL'))
    return 'More processes read the file than it has places for: raise `maxReaders`, with all of them stopped.'
  return undefined
}

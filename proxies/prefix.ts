import { CorralError, formatValue } from '../src/base/errors.js'
import { mapKeys, type TransparentProxy } from '../src/chain/proxy.js'

/**
 * Puts a text before every key, and before the names of the ledger of the layers below: regions and applications share
 * a store without meeting.
 * @throws CorralError `ERR_OPTION` unless `text` is a non-empty string.
 */
export function prefix(text: string): TransparentProxy {
  if (typeof text !== 'string' || text === '')
    throw new CorralError(
      'ERR_OPTION',
      `Expected prefix() to receive a non-empty text such as 'users:', got ${formatValue(text)}.`,
    )
  return mapKeys((key) => text + key)
}

import { expectText } from '../src/base/options.js'
import { mapKeys } from '../src/chain/map-keys.js'
import type { TransparentProxy } from '../src/chain/proxy.js'

/**
 * Puts a text before every key, and before the names of the ledger of the layers below: regions and applications share
 * a store without meeting.
 * @throws CorralError `ERR_OPTION` unless `text` is a non-empty string.
 */
export function prefix(text: string): TransparentProxy {
  expectText(text, 'the text of prefix()', "a non-empty string such as 'users:'")
  return mapKeys((key) => text + key)
}

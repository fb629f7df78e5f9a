// Lines that must not compile: the compiler complains where no error is left to expect.
import { type Bytes, defineBackend, makeRegion, mapValues, NO_VALUE, wrap } from 'corral'
import { memory } from 'corral/backends/memory'
import { json } from 'corral/proxies/json'
import { msgpack } from 'corral/proxies/msgpack'
import { prefix } from 'corral/proxies/prefix'

const bytes = memory({ stores: 'bytes' })
const zip = mapValues<Bytes, Bytes>({ encode: (value) => value, decode: (stored) => stored })

// @ts-expect-error a store of bytes without an encoding
makeRegion({ backend: bytes })
// @ts-expect-error nor does a prefix encode
makeRegion({ backend: wrap(bytes, prefix('users:')) })
// @ts-expect-error an encoding over values
wrap(memory(), msgpack())
// @ts-expect-error two encodings
wrap(bytes, msgpack(), json())
// @ts-expect-error compression above the encoding
wrap(bytes, msgpack(), zip)
// @ts-expect-error a value that is no layer
wrap(memory(), 'users:')
// @ts-expect-error a backend that cannot delete
defineBackend({ name: 'half', get: () => undefined, set: () => undefined })
// @ts-expect-error an unknown option
makeRegion({ expirationTme: '5m' })
// @ts-expect-error a duration without a unit
makeRegion({ expirationTime: '5' })

const numbers = makeRegion<number>({ backend: wrap(bytes, zip, msgpack()) })

export async function misuse(): Promise<void> {
  // @ts-expect-error a value of another type
  await numbers.set('a', 'text')
  // @ts-expect-error a miss taken for a value
  const value: number = await numbers.get('a')
  // @ts-expect-error a creator of another type
  await numbers.getOrCreate('a', () => 'text')
  // @ts-expect-error a creator that is no function
  await numbers.getOrCreate('a', 1)
  void [value, NO_VALUE]
}

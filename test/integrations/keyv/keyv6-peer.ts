/** Runs on Node 24, which Keyv 6 needs: the behaviours of a storage adapter, through the real Keyv. */
import assert from 'node:assert/strict'
import { after, describe, it } from 'node:test'
import { Keyv, KeyvMemoryAdapter } from 'keyv6'
import { keyv } from '../../../backends/keyv.js'
import { keyv6Store } from '../../../src/integrations/keyv.js'
import { backendContract } from '../../../src/testing/index.js'
import { bytes } from '../../contract/values.js'
import { places } from '../../support/regions.js'

for (const [name, open] of Object.entries(places)) {
  const place = await open()
  describe(`Keyv 6 over ${name}`, () => {
    after(() => place.end())
    const errors: unknown[] = []
    const make = (namespace?: string) => {
      const one = new Keyv({ store: keyv6Store(place.region), ...(namespace && { namespace }) })
      one.on('error', (error: unknown) => void errors.push(error))
      return one
    }

    it('uses the store directly, not through its bridge', () => {
      const store = keyv6Store(place.region)
      assert.equal(new Keyv({ store }).store, store)
    })

    it('keeps every kind of value', async () => {
      const one = make('values')
      for (const value of [0, false, '', null, 'text', "'", [1], { a: { b: null } }, Buffer.from('b')]) {
        assert.equal(await one.set('k', value), true)
        assert.deepEqual(await one.get('k'), value)
      }
    })

    it('reads, writes, has and deletes, one key and many', async () => {
      const one = make('many')
      assert.equal(await one.get('a'), undefined)
      assert.equal(await one.delete('a'), false)
      assert.deepEqual(
        await one.setMany([
          { key: 'a', value: 1 },
          { key: 'b', value: 2, ttl: 60_000 },
        ]),
        [true, true],
      )
      assert.deepEqual(await one.getMany(['a', 'none', 'b']), [1, undefined, 2])
      assert.deepEqual(await one.hasMany(['a', 'none']), [true, false])
      assert.equal(await one.has('b'), true)
      assert.equal(await one.delete('a'), true)
      assert.deepEqual(await one.deleteMany(['a', 'b']), [false, true])
      assert.equal(await one.has('b'), false)
    })

    it('ends a lifetime, without the help of Keyv', async () => {
      const one = new Keyv({ store: keyv6Store(place.region), namespace: 'ttl', checkExpired: false })
      await one.set('a', 1, 1)
      await one.set('b', 2, 60_000)
      await new Promise((resolve) => setTimeout(resolve, 20))
      // The clock of hits may stand still within a turn, and on a busy machine a turn takes longer than that.
      await new Promise((resolve) => setImmediate(resolve))
      assert.deepEqual(await one.getMany(['a', 'b']), [undefined, 2])
      assert.equal(await one.has('a'), false)
    })

    it('clears a namespace and nothing else', async () => {
      const [users, books] = [make('users'), make('books')]
      for (const one of [users, books]) await one.set('k', 'v')
      await users.clear()
      assert.deepEqual([await users.get('k'), await books.get('k')], [undefined, 'v'])
      await users.set('k', 'new')
      assert.equal(await users.get('k'), 'new')
    })

    it('follows a namespace that is changed', async () => {
      const one = make('first')
      await one.set('k', 1)
      one.namespace = 'second'
      assert.equal(await one.get('k'), undefined)
      one.namespace = 'first'
      assert.equal(await one.get('k'), 1)
    })

    it('clears everything without a namespace', async () => {
      const one = make()
      await one.set('k', 1)
      await one.clear()
      assert.equal(await one.get('k'), undefined)
    })

    it('emitted no error', () => assert.deepEqual(errors, []))
  })
}

backendContract('keyv over the memory of Keyv 6', () => keyv({ store: new KeyvMemoryAdapter(new Map()) }), {
  values: bytes(),
  runner: { describe, it },
})
